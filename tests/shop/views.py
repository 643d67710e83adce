"""Small views for the tests of requests and actors."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator

from django.contrib.auth import aauthenticate, alogin, authenticate, login, logout
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

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


# --- appended for tests/requests, tests/capture_jobs and tests/flows ---


def write_then_read_user(request: HttpRequest) -> HttpResponse:
    """What the project's own queries are must not depend on us having read the user first."""
    Category.objects.create(name="first")
    name = str(request.user)
    Category.objects.create(name="second")
    return HttpResponse(name)


def person(request: HttpRequest, *_: object, **__: object) -> HttpResponse:
    Category.objects.create(name="person")
    return HttpResponse("person")


def boom(request: HttpRequest) -> HttpResponse:
    Category.objects.create(name="before the error")
    raise RuntimeError("the view fails")


def read_stream(request: HttpRequest) -> HttpResponse:
    """Reads the body in pieces, as a view for large uploads does."""
    digest = hashlib.sha256()
    while piece := request.read(1000):
        digest.update(piece)
    return HttpResponse(digest.hexdigest())


def upload(request: HttpRequest) -> JsonResponse:
    files = {
        name: [file.name, file.size, hashlib.sha256(file.read()).hexdigest()]
        for name, file in request.FILES.items()
        if isinstance(file, UploadedFile)
    }
    return JsonResponse({"files": files, "post": dict(request.POST.lists())})


def stream_and_tell(request: HttpRequest) -> StreamingHttpResponse:
    """`request.told` gets a line for each part that is asked for."""

    def parts() -> Iterator[bytes]:
        for part in (b"one", b"two"):
            told.append(part.decode())
            yield part

    told: list[str] = []
    response = StreamingHttpResponse(parts())
    response.told = told  # type: ignore[attr-defined]
    return response


async def stream_async(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    return StreamingHttpResponse(parts())


async def create_slowly(request: HttpRequest) -> HttpResponse:
    """Two writes with the event loop free in between."""
    name = request.GET.get("name", "made")
    await Category.objects.acreate(name=f"{name} 1")
    await asyncio.sleep(0)
    await Category.objects.acreate(name=f"{name} 2")
    return HttpResponse("made")


async def log_in_async(request: HttpRequest) -> HttpResponse:
    user = await aauthenticate(
        request, username=request.POST.get("username"), password=request.POST.get("password")
    )
    if user is None:
        return HttpResponse("no", status=401)
    await alogin(request, user)
    await Category.objects.acreate(name="after")
    return HttpResponse("yes")


class HeaderAuthentication(BaseAuthentication):
    """A token in a header, read when the view asks for the user and not before."""

    def authenticate(self, request: Request) -> tuple[User, None] | None:
        name = request.headers.get("X-Api-Token", "").removeprefix("token-of-")
        user = User.objects.filter(username=name).first()
        return None if user is None else (user, None)


class ApiView(APIView):
    authentication_classes = (HeaderAuthentication,)
    permission_classes = (IsAuthenticated,)

    def get(self, request: Request) -> Response:
        return Response({"user": str(request.user)})

    def post(self, request: Request) -> Response:
        Category.objects.create(name="by api")
        return Response({"data": request.data, "user": str(request.user)})


class ApiUpload(APIView):
    def post(self, request: Request) -> Response:
        return Response({"fields": len(request.data)})


class ApiBoom(APIView):
    def post(self, request: Request) -> Response:
        raise LookupError(f"4111 1111 1111 1111 {request.data}")


async def boom_async(request: HttpRequest) -> HttpResponse:
    raise LookupError("4111 1111 1111 1111")
