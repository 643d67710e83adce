"""Which requests get an event of their own, and what it says."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, RequestFactory, override_settings

from audit_log import testing
from audit_log.capture import usage
from audit_log.events import Event, encode_event
from audit_log.middleware import AuditMiddleware
from audit_log.models import Record
from audit_log.recording import losses
from tests.shop.models import Category

Only = Callable[..., list[Event]]


def _statuses(events: list[Event]) -> list[int | None]:
    return [event.request.status for event in events if event.request is not None]


# --- G3 ---


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        ("notable", {"post", "missing", "create", "forbidden"}),
        ("all", {"get", "post", "missing", "create", "forbidden"}),
        ("off", set()),
    ],
)
def test_the_setting_says_which_requests_are_recorded(
    client: Client, only: Only, requests: str, expected: set[str]
):
    """G3"""
    calls: dict[str, Callable[[], Any]] = {
        "get": lambda: client.get("/plain/"),
        "post": lambda: client.post("/plain/"),
        "missing": lambda: client.get("/nowhere/"),
        "create": lambda: client.get("/create/"),
        "forbidden": lambda: client.get("/forbidden/"),
    }
    found = set()
    with override_settings(AUDIT_LOG={"REQUESTS": requests}):
        for name, call in calls.items():
            before = len(only("request"))
            call()
            if len(only("request")) > before:
                found.add(name)
    assert found == expected


def test_a_change_is_recorded_also_where_requests_are_off(client: Client, only: Only):
    """G3"""
    with override_settings(AUDIT_LOG={"REQUESTS": "off"}):
        client.post("/create/")
    [event] = only("create")
    assert event.request is not None
    assert event.request.method == "POST"


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_unsafe_methods_are_notable(client: Client, only: Only, method: str):
    """G3"""
    getattr(client, method)("/plain/")
    [event] = only("request")
    assert event.request is not None
    assert event.request.method == method.upper()


@pytest.mark.parametrize("method", ["get", "head", "options"])
def test_safe_ones_that_change_nothing_are_not(client: Client, only: Only, method: str):
    """G3"""
    getattr(client, method)("/plain/")
    assert only("request") == []


@pytest.mark.parametrize(
    ("pattern", "is_recorded"),
    [
        ("/plain/", False),
        ("/pl*", False),
        ("*", False),
        ("/*l*i*/", False),
        ("/Plain/", True),
        ("/plain", True),
        (re.compile(r"^/pl[a-z]+/$"), False),
        (re.compile(r"(?i)/PLAIN"), False),
        (re.compile(r"^lain"), True),
    ],
)
def test_excluded_paths_get_no_event(client: Client, only: Only, pattern: Any, is_recorded: bool):
    """G3: exact, with wildcards, or by regular expressions."""
    with override_settings(AUDIT_LOG={"EXCLUDE_PATHS": ["/health", pattern]}):
        client.post("/plain/")
    assert bool(only("request")) is is_recorded


def is_probe(request: HttpRequest) -> bool:
    """The requests of one user, and those of one method."""
    return request.method == "PUT" or request.user.get_username() == "bert"


@pytest.mark.parametrize("asked", [is_probe, f"{__name__}.is_probe"], ids=["callable", "path"])
def test_users_and_methods_are_excluded_by_a_callable(
    client: Client, only: Only, anna: User, bert: User, asked: Any
):
    """G3: asked when it is known who is logged in; nor is the request counted."""
    usage._counts.clear()
    with override_settings(AUDIT_LOG={"EXCLUDE_PATHS": ["/health", asked]}):
        for user, method in ((anna, "post"), (anna, "put"), (bert, "post"), (bert, "get")):
            client.force_login(user)
            response = getattr(client, method)("/create/")
            assert response["X-Request-ID"]
    assert [
        (e.actor.label, e.request.method) for e in only("request") if e.actor and e.request
    ] == [("anna", "POST")]
    assert len([e for e in only("create") if e.target and e.target.type == "shop.category"]) == 4
    assert [entry.requests for entry in usage._counts.values()] == [1]


def test_a_callable_that_reads_the_user_leaves_no_trace_in_the_response(client: Client, anna: User):
    """G3, F7"""
    client.force_login(anna)
    with override_settings(AUDIT_LOG={"EXCLUDE_PATHS": [is_probe]}):
        assert "Vary" not in client.get("/plain/").headers


@pytest.mark.parametrize("asked", [lambda request: 1 / 0, "tests.no.such.callable"])
def test_a_callable_that_fails_excludes_nothing(client: Client, only: Only, asked: Any):
    """G3"""
    before = losses.counts().get("exclude_failed", 0)
    with override_settings(AUDIT_LOG={"EXCLUDE_PATHS": [asked]}):
        assert client.post("/plain/").status_code == 200
    assert len(only("request")) == 1
    assert losses.counts()["exclude_failed"] == before + 1


@pytest.mark.django_db(transaction=True)
def test_a_callable_may_query_for_an_async_request(anna: User):
    """G3"""

    def is_known(request: HttpRequest) -> bool:
        return User.objects.filter(username="anna").exists()

    with override_settings(AUDIT_LOG={"EXCLUDE_PATHS": [is_known]}), testing.capture_events() as e:
        async_to_sync(AsyncClient().post)("/create-async/")
        testing.flush()
    assert [event.action for event in e] == ["create"]
    testing.relay()


def test_an_aborted_request_may_be_excluded_too(events: list[Event]):
    """G3"""

    def view(request: HttpRequest) -> HttpResponse:
        raise SystemExit

    with (
        override_settings(AUDIT_LOG={"EXCLUDE_PATHS": [lambda request: True]}),
        pytest.raises(SystemExit),
    ):
        AuditMiddleware(view)(RequestFactory().post("/plain/"))
    assert events == []


def test_the_body_of_an_excluded_path_is_not_read():
    request = RequestFactory().post("/plain/", {"a": "b"}, content_type="application/json")
    with override_settings(AUDIT_LOG={"EXCLUDE_PATHS": ["/plain/"]}):
        AuditMiddleware(lambda r: HttpResponse())(request)
    assert not hasattr(request, "_body")


# --- G4 ---


@pytest.mark.parametrize(
    ("path", "status", "outcome"),
    [
        ("/create/", 200, "success"),
        ("/forbidden/", 403, "denied"),
        ("/nowhere/", 404, "failure"),
        ("/boom/", 500, "failure"),
        ("/log-in/", 401, "denied"),
        ("/create", 301, "success"),
    ],
)
def test_the_outcome_follows_the_status(
    client: Client, only: Only, path: str, status: int, outcome: str
):
    """G4"""
    client.raise_request_exception = False
    with override_settings(AUDIT_LOG={"REQUESTS": "all"}):
        assert client.get(path).status_code == status
    [event] = only("request")
    assert (event.outcome, _statuses([event])) == (outcome, [status])
    assert event.request is not None
    assert event.request.duration_ms is not None
    assert event.request.duration_ms >= 0


def test_a_change_before_the_error_is_recorded_and_so_is_the_error(client: Client, only: Only):
    """atomic_requests_middleware_500"""
    client.raise_request_exception = False
    client.get("/boom/")
    found = only("create", "request")
    assert [e.action for e in found] == ["create", "request"]
    assert found[1].data == {"exception": "RuntimeError"}
    assert found[1].outcome == "failure"


@pytest.mark.parametrize("path", ["/api-boom/", "/boom-async/"])
def test_an_error_is_named_by_its_type_and_keeps_the_body(
    client: Client, only: Only, anna: User, path: str
):
    """G4: of rest_framework as well, which has read the body itself; and of async views."""
    client.raise_request_exception = False
    client.post(path, {"amount": 7}, content_type="application/json")
    [event] = only("request")
    assert event.data == {"exception": "LookupError"}
    assert event.request is not None
    assert (event.request.status, event.request.body) == (500, {"amount": 7})
    assert b"4111" not in encode_event(event)


def test_the_route_is_the_name_of_the_view(client: Client, only: Only):
    client.get("/create/")
    assert [e.request.route for e in only("create", "request") if e.request] == ["create"] * 2
    client.get("/nowhere/")
    assert only("request")[-1].request is not None
    assert only("request")[-1].request.route is None  # type: ignore[union-attr]


# --- paths and queries ---


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/reset/s3cret-s3cret/", "/reset/[MASKED]/"),
        ("/reset/s3cret-s3cret", "/reset/[MASKED]"),  # what APPEND_SLASH redirects
        ("/reset/MQ/s3cret-s3cret/", "/reset/[MASKED]/[MASKED]/"),
        ("/reset-by/s3cret-s3cret/", "/reset-by/[MASKED]/"),
        ("/people/anna@example.com/", "/people/[MASKED]/"),
        ("/no/view/reset/s3cret-s3cret/x", "/no/view/reset/[MASKED]"),
        ("/plain/", "/plain/"),
        ("/no/view/", "/no/view/"),
    ],
)
def test_arguments_named_like_secrets_are_masked_in_the_path(
    client: Client, only: Only, path: str, expected: str
):
    """H1"""
    client.post(path)
    [event] = only("request")
    assert event.request is not None
    assert event.request.path == expected


def test_a_write_before_the_url_is_resolved_shows_no_secret_either(only: Only):
    """H1: a middleware that writes, such as one that counts visits."""

    def early(request: HttpRequest) -> HttpResponse:
        Category.objects.create(name="by a middleware")
        return HttpResponse()

    AuditMiddleware(early)(RequestFactory().post("/reset/s3cret-s3cret/"))
    paths = [e.request.path for e in only("create", "request") if e.request]
    assert paths == ["/reset/[MASKED]/"] * 2


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("a=1&password=hunter2", "a=1&password=[MASKED]"),
        ("PassWord=hunter2", "PassWord=[MASKED]"),
        ("user[api_key]=hunter2&b=", "user[api_key]=[MASKED]&b="),
        ("q=%7B%22token%22%3A%22hunter2%22%7D", None),
        ("page=2", "page=2"),
        ("", None),
    ],
)
def test_secrets_in_the_query_are_masked(
    client: Client, only: Only, query: str, expected: str | None
):
    """H1"""
    client.post(f"/plain/?{query}")
    [event] = only("request")
    assert event.request is not None
    if query.startswith("q="):
        assert "hunter2" not in str(event.request.query)
    else:
        assert event.request.query == expected


@pytest.mark.parametrize("path", ["/log-in/", "/reset/abcdef/", "/enter/", "/admin/login/"])
def test_the_query_of_a_log_in_or_reset_is_never_kept(client: Client, only: Only, path: str):
    """The path says so, or the view's name does."""
    client.post(f"{path}?next=/x/&code=s3cret")
    event = only("request")[-1]
    assert event.request is not None
    assert event.request.query is None
    assert any(mark.path == "request.query" for mark in event.redactions)


# --- G5 ---


@pytest.mark.django_db(transaction=True)
def test_a_streamed_response_is_recorded_when_its_last_byte_is_sent(client: Client):
    """G5: and is not consumed before."""
    with testing.capture_events() as events:
        response: Any = client.post("/stream-and-tell/")
        assert response.told == []
        testing.flush()
        assert events == []
        parts = response.streaming_content
        assert next(parts) == b"one"
        assert response.told == ["one"]
        assert list(parts) == [b"two"]
        response.close()
        testing.flush()
    assert [(e.action, e.request.path) for e in events if e.request] == [
        ("request", "/stream-and-tell/")
    ]
    testing.relay()


@pytest.mark.django_db(transaction=True)
def test_an_async_stream_is_recorded_when_its_last_byte_is_sent():
    """G5"""

    async def read() -> bytes:
        response: Any = await AsyncClient().post("/stream-async/")
        return b"".join([part async for part in response.streaming_content])

    with testing.capture_events() as events:
        assert async_to_sync(read)() == b"onetwo"
        testing.flush()
    assert [e.request.path for e in events if e.request] == ["/stream-async/"]
    testing.relay()


# --- where it is written ---


@pytest.mark.django_db(transaction=True)
def test_requests_wait_in_the_buffer_and_reach_the_ledger(client: Client, statements: list[str]):
    client.post("/plain/")
    assert not any("audit_log" in sql for sql in statements)
    testing.relay()
    record = Record.objects.get(action="request")
    assert (record.method, record.status, record.route, record.path) == (
        "POST",
        200,
        "plain",
        "/plain/",
    )
    assert record.source == "request"


def test_inside_an_open_transaction_the_request_is_part_of_it(client: Client, only: Only):
    client.post("/plain/")
    assert len(only("request")) == 1
    testing.relay()
    assert Record.objects.filter(action="request").count() == 1


def test_no_header_but_the_listed_ones_leaves_a_trace(client: Client, anna: User, only: Only):
    """H1: an allow-list, never a deny-list."""
    from audit_log.events import encode_event

    headers = {
        "authorization": "Bearer s3cret-s3cret-s3cret",
        "cookie": "sessionid=s3crets3cret0123456789; a=s3cret",
        "x-api-key": "s3cret-s3cret",
        "x-csrftoken": "s3cret",
        "proxy-authorization": "s3cret",
        "referer": "https://example.com/?token=s3cret",
        "x-anything": "s3cret",
        "user-agent": "Firefox",
    }
    client.post("/create/", headers=headers)
    encoded = b"".join(encode_event(e) for e in only("create", "request"))
    assert b"s3cret" not in encoded
    assert b"Firefox" in encoded
