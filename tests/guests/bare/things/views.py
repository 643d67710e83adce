# mypy: ignore-errors
from django.http import JsonResponse

from things.models import Thing


def things(request):
    if request.method == "POST":
        return JsonResponse({"pk": Thing.objects.create(name=request.POST["name"]).pk}, status=201)
    return JsonResponse({"names": list(Thing.objects.values_list("name", flat=True))})
