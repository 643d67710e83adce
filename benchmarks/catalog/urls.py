"""Views that do next to nothing, so that the middleware is what is measured."""

from __future__ import annotations

from django.contrib.auth import authenticate
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import path

from benchmarks.catalog.contents import item_values
from benchmarks.catalog.models import Item


def plain(request: HttpRequest) -> HttpResponse:
    """Never touches the user."""
    return HttpResponse("ok")


def user(request: HttpRequest) -> HttpResponse:
    """Reads who is logged in."""
    return HttpResponse(str(request.user))


def save(request: HttpRequest) -> HttpResponse:
    """Saves one object, for somebody who is logged in."""
    if not request.user.is_authenticated:
        return HttpResponse(status=403)
    item = Item.objects.create(**item_values(name=request.POST["name"]))
    return HttpResponse(str(item.pk), status=201)


def login(request: HttpRequest) -> HttpResponse:
    """Lets nobody in."""
    user = authenticate(
        request, username=request.POST["username"], password=request.POST["password"]
    )
    return HttpResponse(status=403 if user is None else 200)


def missing(request: HttpRequest) -> HttpResponse:
    """Always a 404."""
    raise Http404("nothing here")


urlpatterns = [
    path("plain/", plain, name="plain"),
    path("user/", user, name="user"),
    path("save/", save, name="save"),
    path("login/", login, name="login"),
    path("missing/", missing, name="missing"),
]
