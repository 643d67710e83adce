# mypy: ignore-errors
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse


@login_required
def me(request):
    return HttpResponse(request.user.email)


@login_required
def change(request):
    request.user.email = "other@example.org"
    request.user.save()
    raise ValueError("changed my mind")


@login_required
def leave(request):
    request.user.delete()
    return HttpResponse(status=204)
