"""Small views for the tests of requests and actors."""

from __future__ import annotations

from collections.abc import Iterator

from django.contrib.auth import authenticate, login, logout
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse

from tests.shop.models import Category


def plain(request: HttpRequest, **_: object) -> HttpResponse:
    return HttpResponse("plain")


def reads_user(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(request.user))


def create(request: HttpRequest) -> HttpResponse:
    name = request.GET.get("name", "made")
    return HttpResponse(Category.objects.create(name=name).pk)


async def create_async(request: HttpRequest) -> HttpResponse:
    category = await Category.objects.acreate(name=request.GET.get("name", "made"))
    return HttpResponse(category.pk)


def create_then_fail(request: HttpRequest) -> HttpResponse:
    with transaction.atomic():
        Category.objects.create(name="never")
        raise RuntimeError("after the write")


def log_in(request: HttpRequest) -> HttpResponse:
    Category.objects.create(name="before")
    user = authenticate(
        request, username=request.POST.get("username"), password=request.POST.get("password")
    )
    if user is None:
        return HttpResponse("no", status=401)
    login(request, user)
    Category.objects.create(name="after")
    return HttpResponse("yes")


def log_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    Category.objects.create(name="after log-out")
    return HttpResponse("bye")


def delete_myself(request: HttpRequest) -> HttpResponse:
    request.user.delete()
    return HttpResponse("gone")


def echo(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"length": len(request.body), "post": dict(request.POST.lists())})


def stream(request: HttpRequest) -> StreamingHttpResponse:
    def parts() -> Iterator[bytes]:
        yield b"one"
        yield b"two"

    return StreamingHttpResponse(parts())


def forbidden(request: HttpRequest) -> HttpResponse:
    raise PermissionDenied
