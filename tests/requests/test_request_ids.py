"""The id of a request: told to the client by every response, and made by whoever knows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from asgiref.sync import async_to_sync
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, RequestFactory, override_settings

from audit_log import testing
from audit_log.events import Event
from audit_log.middleware import AuditMiddleware
from audit_log.models import Record
from audit_log.recording import losses
from tests.shop.models import Category

Only = Callable[..., list[Event]]
NAME = "X-Request-ID"


def _ids(events: list[Event]) -> set[str | None]:
    return {event.request.id for event in events if event.request is not None}


# --- F12: out, as well as in ---


def test_a_response_tells_the_id_that_came_in(client: Client, only: Only):
    """F12"""
    response = client.post("/create/", headers={NAME: "r-1"})
    assert response[NAME] == "r-1"
    assert _ids(only("create", "request")) == {"r-1"}


@pytest.mark.parametrize("path", ["/create/", "/boom/", "/nowhere/", "/forbidden/"])
def test_a_response_tells_the_id_that_was_made(client: Client, only: Only, path: str):
    """F12: of errors too."""
    client.raise_request_exception = False
    response = client.post(path)
    assert _ids(only("create", "request")) == {response[NAME]}


@pytest.mark.django_db
def test_a_request_without_an_event_has_an_id_too(client: Client):
    made = {client.get("/plain/")[NAME] for _ in range(3)}
    assert len(made) == 3
    assert all(len(one) == 32 for one in made)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "given", ["x" * 129, "a b", "a\r\nSet-Cookie: x=1", "<script>", "n\xe4me", "4111111111111111"]
)
def test_what_is_no_id_is_not_sent_back(client: Client, given: str):
    """F12"""
    response = client.get("/plain/", headers={NAME: given})
    assert response[NAME] != given
    assert len(response[NAME]) == 32
    assert "Set-Cookie" not in response.headers


@pytest.mark.parametrize(
    ("spelling", "name"),
    [("x-correlation-id", "X-Correlation-ID"), ("HTTP_X_CORRELATION_ID", "X-Correlation-Id")],
)
@pytest.mark.django_db
def test_the_header_is_the_one_of_the_setting(client: Client, spelling: str, name: str):
    """F12"""
    with override_settings(AUDIT_LOG={"REQUEST_ID_HEADER": spelling}):
        response = client.get("/plain/", headers={name: "abc"})
    assert response[name] == "abc"
    assert NAME not in response.headers


def test_an_id_that_the_project_tells_stays():
    response = AuditMiddleware(lambda request: HttpResponse(headers={NAME: "theirs"}))(
        RequestFactory().get("/", HTTP_X_REQUEST_ID="r-1")
    )
    assert response[NAME] == "theirs"


def test_one_response_for_many_requests_tells_each_its_own():
    shared = HttpResponse("ok")
    middleware = AuditMiddleware(lambda request: shared)
    for one in ("r-1", "r-2"):
        assert middleware(RequestFactory().get("/", HTTP_X_REQUEST_ID=one))[NAME] == one


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", ["/stream/", "/stream-and-tell/"])
def test_a_streamed_response_tells_it_before_its_first_byte(client: Client, path: str):
    response: Any = client.post(path, headers={NAME: "r-1"})
    assert response[NAME] == "r-1"
    assert b"".join(response.streaming_content) == b"onetwo"
    response.close()
    testing.relay()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", ["/plain/", "/create-async/", "/stream-async/"])
def test_async_responses_tell_it_as_well(path: str):
    async def ask() -> str:
        response: Any = await AsyncClient().get(path, headers={NAME: "r-1"})
        if response.streaming:
            assert [part async for part in response.streaming_content]
        return str(response[NAME])

    assert async_to_sync(ask)() == "r-1"
    testing.relay()


@pytest.mark.django_db
@pytest.mark.parametrize("setting", [{"REQUESTS": "off"}, {"EXCLUDE_PATHS": ["/plain/"]}])
def test_a_request_that_is_not_recorded_is_told_its_id_all_the_same(
    client: Client, setting: dict[str, Any]
):
    with override_settings(AUDIT_LOG=setting):
        assert client.get("/plain/", headers={NAME: "r-1"})[NAME] == "r-1"


@override_settings(AUDIT_LOG={"ENABLED": False})
def test_disabled_it_tells_nothing():
    """L10"""

    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    assert NAME not in AuditMiddleware(view)(RequestFactory().get("/")).headers


# --- F12: the project's own, by a callable or its dotted path ---

_SAID: list[Any] = []


def said(request: HttpRequest) -> Any:
    """What the test put into `_SAID`; an exception is raised."""
    value = _SAID[-1]
    if isinstance(value, Exception):
        raise value
    return value(request) if callable(value) else value


@pytest.fixture(params=["callable", "dotted path"])
def theirs(request: pytest.FixtureRequest) -> Iterator[list[Any]]:
    asked = said if request.param == "callable" else f"{__name__}.said"
    with override_settings(AUDIT_LOG={"REQUEST_ID": asked}):
        yield _SAID
    _SAID.clear()


def test_the_project_may_say_the_id(client: Client, only: Only, theirs: list[Any]):
    """F12: before the header, and once for a request, with whatever a middleware has put there."""
    asked: list[str] = []

    def find(request: HttpRequest) -> UUID:
        asked.append(request.path)
        return UUID(int=7)

    theirs.append(find)
    response = client.post("/create/", headers={NAME: "r-1"})
    assert response[NAME] == str(UUID(int=7))
    assert _ids(only("create", "request")) == {str(UUID(int=7))}
    assert asked == ["/create/"]


@pytest.mark.parametrize("value", [None, "", "a b", "x" * 129, "4111111111111111", ValueError("x")])
def test_what_the_project_says_is_an_id_or_the_header_counts(
    client: Client, only: Only, theirs: list[Any], value: Any
):
    """F12"""
    before = losses.counts().get("request_id_failed", 0)
    theirs.append(value)
    assert client.post("/create/", headers={NAME: "r-1"})[NAME] == "r-1"
    assert _ids(only("create", "request")) == {"r-1"}
    failed = losses.counts().get("request_id_failed", 0) - before
    assert failed == (1 if isinstance(value, Exception) else 0)


def test_a_callable_that_writes_does_not_recurse(client: Client, only: Only, theirs: list[Any]):
    """F12: what it writes needs an id before it has answered, and all events share that."""

    def find(request: HttpRequest) -> str:
        Category.objects.create(name="by the callable")
        return "too-late"

    theirs.append(find)
    assert client.post("/create/", headers={NAME: "r-1"})[NAME] == "r-1"
    assert _ids(only("create", "request")) == {"r-1"}
    assert len(only("create")) == 2


@pytest.mark.django_db(transaction=True)
def test_async_requests_ask_the_project_too(theirs: list[Any]):
    """F12"""
    theirs.append("theirs-1")

    async def ask() -> str:
        return str((await AsyncClient().get("/create-async/"))[NAME])

    assert async_to_sync(ask)() == "theirs-1"
    testing.relay()
    assert set(Record.objects.values_list("request_id", flat=True)) == {"theirs-1"}
