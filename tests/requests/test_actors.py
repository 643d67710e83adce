"""Who a request's events name, and that asking leaves no trace in the project."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.db import connection, connections
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, RequestFactory, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils.functional import SimpleLazyObject
from rest_framework.test import APIClient

from audit_log import context
from audit_log.capture import installation
from audit_log.capture.requests import RequestScope, begin
from audit_log.events import Actor, Event
from audit_log.middleware import AuditMiddleware
from audit_log.testing import capture_events, relay
from tests.shop.models import Category

Only = Callable[..., list[Event]]


def _scope(request: HttpRequest) -> RequestScope:
    scope = begin(request)
    assert scope is not None
    return scope


def _labels(events: list[Event]) -> list[str | None]:
    return [None if event.actor is None else event.actor.label for event in events]


# --- F1 ---


def test_a_logged_in_user_is_the_actor(client: Client, anna: User, only: Only):
    """F1"""
    client.force_login(anna)
    client.get("/create/")
    [event] = only("create")[-1:]
    assert event.actor == Actor(
        type="user", id=str(anna.pk), label="anna", email="anna@example.com"
    )


def test_staff_is_an_admin(client: Client, bert: User, only: Only):
    client.force_login(bert)
    client.get("/create/")
    assert only("create")[-1].actor == Actor(
        type="admin", id=str(bert.pk), label="bert", email="bert@example.com"
    )


def test_an_anonymous_actor_has_no_identity_but_an_address(client: Client, only: Only):
    """F1"""
    client.get("/create/", REMOTE_ADDR="192.0.2.7")
    [event] = only("create")
    assert event.actor == Actor(type="anonymous")
    assert event.request is not None
    assert event.request.ip == "192.0.2.7"


@pytest.mark.parametrize("user", [None, "bob", object(), 7, SimpleNamespace(username="bob")])
def test_a_user_of_a_foreign_type_is_nobody(user: object):
    """F1"""
    request = RequestFactory().get("/")
    request.user = user  # type: ignore[assignment]
    assert _scope(request).actor() == Actor(type="anonymous")


def test_a_request_without_a_user_is_nobodys():
    """F1"""
    assert _scope(RequestFactory().get("/")).actor() == Actor(type="anonymous")


def test_a_user_that_cannot_be_read_is_unknown_and_not_anonymous():
    def broken() -> User:
        raise RuntimeError("no such session")

    request = RequestFactory().get("/")
    request.user = SimpleLazyObject(broken)  # type: ignore[assignment]
    assert _scope(request).actor() is None


class _Strange:
    """A user model with a mind of its own."""

    is_authenticated = True
    pk = 7

    @property
    def is_staff(self) -> bool:
        raise RuntimeError


def test_a_user_that_cannot_be_described_costs_no_event(events: list[Event]):
    def view(request: HttpRequest) -> HttpResponse:
        request.user = _Strange()  # type: ignore[assignment]
        Category.objects.create(name="written")
        return HttpResponse()

    AuditMiddleware(view)(RequestFactory().post("/"))
    assert [(e.action, e.actor) for e in events] == [("create", None), ("request", None)]


# --- F3, F4 ---


def test_later_events_carry_the_user_who_logged_in_meanwhile(
    client: Client, anna: User, only: Only
):
    """F3"""
    client.post("/log-in/", {"username": "anna", "password": "correct horse"})
    assert _labels(only("create")[-2:]) == [None, "anna"]
    assert _labels(only("login", "request")) == ["anna", "anna"]


def test_an_async_log_in_counts_as_well(anna: User, only: Only):
    """F3"""
    async_to_sync(AsyncClient().post)(
        "/log-in-async/", {"username": "anna", "password": "correct horse"}
    )
    assert _labels(only("create")[-1:]) == ["anna"]
    assert _labels(only("login", "request")) == ["anna", "anna"]


def test_nobody_acts_after_the_log_out(client: Client, anna: User, only: Only):
    """F3"""
    client.force_login(anna)
    client.post("/log-out/")
    assert only("create")[-1].actor == Actor(type="anonymous")
    assert _labels(only("logout")) == ["anna"]


def test_the_session_token_follows_the_log_in(client: Client, anna: User, only: Only):
    client.get("/plain/")
    client.post("/log-in/", {"username": "anna", "password": "correct horse"})
    before, after = only("create")[-2:]
    assert before.request is not None
    assert after.request is not None
    assert before.request.session is None
    assert after.request.session is not None
    assert after.request.session not in {c.value for c in client.cookies.values()}


def test_the_user_that_rest_framework_finds_in_the_view_is_the_actor(
    client: Client, anna: User, only: Only
):
    """F4"""
    response = client.post("/api/", {"a": "b"}, headers={"x-api-token": "token-of-anna"})
    assert response.status_code == 200
    assert _labels(only("create", "request")[-2:]) == ["anna", "anna"]


def test_force_authenticate_is_seen(anna: User, only: Only):
    """F4"""
    client = APIClient()
    client.force_authenticate(anna)
    assert client.post("/api/", {"a": 1}, format="json").status_code == 200
    assert _labels(only("create", "request")[-2:]) == ["anna", "anna"]


def test_a_refused_token_is_nobodys_denied_request(client: Client, only: Only):
    """F4"""
    client.post("/api/", {"a": "b"}, headers={"x-api-token": "token-of-nobody"})
    [event] = only("request")
    assert (event.outcome, event.actor) == ("denied", Actor(type="anonymous"))


# --- F5 ---


@pytest.mark.django_db(transaction=True)
def test_fifty_concurrent_async_requests_each_have_their_own_actor():
    """F5, async_view_concurrent"""
    clients: list[tuple[str, AsyncClient]] = []
    users = [User.objects.create_user(name) for name in ("anna", "bert")]
    for n in range(50):
        client = AsyncClient()
        client.force_login(users[n % 2])
        clients.append((users[n % 2].username, client))

    async def all_of_them() -> None:
        import asyncio

        await asyncio.gather(
            *(
                client.get("/create-slowly/", {"name": f"{name}-{n}"})
                for n, (name, client) in enumerate(clients)
            )
        )

    with capture_events() as events:
        async_to_sync(all_of_them)()
    made = [e for e in events if e.action == "create"]
    assert len(made) == 100
    for event in made:
        assert event.target is not None
        assert event.actor is not None
        assert str(event.target.label).partition("-")[0] == event.actor.label
    ids = {e.request.id for e in made if e.request is not None}
    assert len(ids) == 50


@pytest.mark.django_db(transaction=True)
def test_twenty_threads_each_have_their_own_actor():
    """F5"""
    users = [User.objects.create_user(f"user{n}") for n in range(4)]
    clients = []
    for n in range(20):
        client = Client()
        client.force_login(users[n % 4])
        clients.append((f"user{n % 4}", client))

    def get(item: tuple[str, Client]) -> None:
        try:
            for _ in range(2):
                item[1].get("/create/", {"name": f"{item[0]}-x"})
        finally:
            connections.close_all()

    with capture_events() as events, ThreadPoolExecutor(20) as pool:
        list(pool.map(get, clients))
    made = [e for e in events if e.action == "create"]
    assert len(made) == 40
    for event in made:
        assert event.target is not None
        assert event.actor is not None
        assert event.target.label == f"{event.actor.label}-x"


# --- F7 ---


def test_a_get_that_changes_nothing_sends_no_query_of_ours(
    client: Client, anna: User, statements: list[str], only: Only
):
    """F7"""
    client.force_login(anna)
    statements.clear()
    response = client.get("/plain/")
    assert statements == []
    assert not response.has_header("Vary")
    assert only("request") == []


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("path", ["/create/", "/plain/", "/forbidden/", "/nowhere/"])
def test_no_vary_cookie_appears_where_the_view_never_looked_at_the_session(
    client: Client, anna: User, only: Only, method: str, path: str
):
    """F7: although the actor of the write, or of the request, is recorded."""
    client.force_login(anna)
    response = getattr(client, method)(path)
    assert "Cookie" not in response.headers.get("Vary", "")
    assert not response.cookies
    if (method, path) != ("get", "/plain/"):
        assert _labels(only("request")) == ["anna"]


@pytest.mark.parametrize("path", ["/plain/", "/create/", "/write-then-read-user/", "/reads-user/"])
@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("who", ["nobody", "anna", "stale"])
def test_the_queries_and_the_response_of_a_view_are_the_same_without_us(
    anna: User, path: str, method: str, who: str
):
    """F7: the project does not notice that its user was read before it did so itself."""

    def serve() -> tuple[list[str], dict[str, str], list[str], bytes]:
        client = Client()
        if who == "anna":
            client.force_login(anna)
        elif who == "stale":
            client.cookies[settings.SESSION_COOKIE_NAME] = "nosuchsessionatall0123456789abcd"
        with CaptureQueriesContext(connection) as queries:
            response = getattr(client, method)(path)
        shapes = [q["sql"].partition(" ")[0] for q in queries]
        body = b"" if path == "/create/" else response.content
        return shapes, dict(response.headers), sorted(response.cookies), body

    with_us = serve()
    installation.uninstall()
    try:
        with override_settings(MIDDLEWARE=settings.MIDDLEWARE[1:]):
            without_us = serve()
    finally:
        installation.install()
    assert with_us[1].pop("X-Request-ID")  # all that we add
    with_us[1].pop("Content-Length", None)
    without_us[1].pop("Content-Length", None)
    assert with_us == without_us


def _session_request(client: Client) -> HttpRequest:
    from django.contrib.auth.middleware import AuthenticationMiddleware
    from django.contrib.sessions.middleware import SessionMiddleware

    request = RequestFactory().get("/")
    request.COOKIES[settings.SESSION_COOKIE_NAME] = client.session.session_key or ""
    SessionMiddleware(lambda r: HttpResponse()).process_request(request)
    AuthenticationMiddleware(lambda r: HttpResponse()).process_request(request)
    return request


def test_reading_the_actor_leaves_the_request_and_its_session_as_they_were(
    client: Client, anna: User
):
    """F7"""
    client.force_login(anna)
    request = _session_request(client)
    before, state = dict(request.__dict__), dict(request.session.__dict__)
    actor = _scope(request).actor()
    assert actor is not None
    assert actor.label == "anna"
    assert request.__dict__ == before
    assert request.session.__dict__ == state
    assert request.session.accessed is False
    assert not hasattr(request, "_cached_user")


def test_a_session_that_the_view_has_changed_keeps_its_changes(client: Client, anna: User):
    """F7"""
    client.force_login(anna)
    request = _session_request(client)
    request.session["cart"] = [1]
    actor = _scope(request).actor()
    assert actor is not None
    assert actor.label == "anna"
    assert request.session["cart"] == [1]
    assert request.session.modified is True


def test_a_session_that_is_loaded_already_is_not_read_again(
    client: Client, anna: User, statements: list[str]
):
    """F7: nor is one asked for that is not stored yet."""
    client.force_login(anna)
    request = _session_request(client)
    request.session.get("cart")
    statements.clear()
    actor = _scope(request).actor()
    assert actor is not None
    assert actor.label == "anna"
    assert len(statements) == 1
    fresh = _session_request(client)
    fresh.session = SessionStore(None)
    fresh.session.update(dict(request.session.items()))
    again = _scope(fresh).actor()
    assert again is not None
    assert again.label == "anna"
    assert fresh.session.session_key is None


def test_reading_the_actor_ends_no_session(client: Client, anna: User):
    """F7: Django ends a session whose user has changed the password: when the view asks."""
    client.force_login(anna)
    anna.set_password("another")
    anna.save()
    actor = _scope(_session_request(client)).actor()
    assert actor == Actor(type="anonymous")
    assert Session.objects.count() == 1


def test_reading_the_actor_renews_no_session(client: Client, anna: User):
    """F7: Django renews one whose hash an older SECRET_KEY made: when the view asks."""
    client.force_login(anna)
    with override_settings(SECRET_KEY="newer", SECRET_KEY_FALLBACKS=[settings.SECRET_KEY]):
        stored = Session.objects.get()
        session = SessionStore(stored.session_key)
        session.update(
            {
                SESSION_KEY: str(anna.pk),
                "_auth_user_backend": settings.AUTHENTICATION_BACKENDS[0],
                "_auth_user_hash": next(iter(anna.get_session_auth_fallback_hash())),
            }
        )
        session.save()
        request = _session_request(client)
        before = Session.objects.values_list("session_key", "session_data").get()
        actor = _scope(request).actor()
        assert actor is not None
        assert actor.label == "anna"
        assert Session.objects.values_list("session_key", "session_data").get() == before


@pytest.mark.parametrize("engine", ["db", "cached_db", "cache", "file", "signed_cookies"])
def test_every_session_engine_is_read_without_a_trace(
    client: Client, anna: User, tmp_path: Any, engine: str, only: Only
):
    """F7"""
    with override_settings(
        SESSION_ENGINE=f"django.contrib.sessions.backends.{engine}",
        SESSION_FILE_PATH=str(tmp_path),
    ):
        client.force_login(anna)
        response = client.get("/create/")
    assert not response.has_header("Vary")
    assert not response.cookies
    assert _labels(only("create")[-1:]) == ["anna"]


def test_a_lazy_user_of_the_project_is_read_and_not_kept(anna: User):
    """F7: an authentication middleware of its own, by token."""
    request = RequestFactory().get("/")
    calls: list[int] = []

    def find() -> User:
        calls.append(1)
        request._cached_user = anna  # type: ignore[attr-defined]
        return anna

    request.user = SimpleLazyObject(find)  # type: ignore[assignment]
    scope = _scope(request)
    first, second = scope.actor(), scope.actor()
    assert first is not None
    assert first.label == "anna"
    assert first == second
    assert len(calls) == 1
    assert not hasattr(request, "_cached_user")
    assert str(request.user) == "anna"
    assert len(calls) == 2


def test_a_user_that_is_saved_while_it_is_found_out_does_not_recurse(
    anna: User, events: list[Event]
):
    """A backend that notes when the user was last seen."""

    def view(request: HttpRequest) -> HttpResponse:
        def find() -> User:
            anna.first_name += "x"
            anna.save(update_fields=["first_name"])
            return anna

        request.user = SimpleLazyObject(find)  # type: ignore[assignment]
        Category.objects.create(name="written")
        return HttpResponse()

    AuditMiddleware(view)(RequestFactory().get("/"))
    found = {e.action: e.actor for e in events if e.action != "request"}
    assert found["update"] is None
    assert found["create"] is not None
    assert found["create"].label == "anna"


@pytest.mark.django_db(transaction=True)
def test_a_user_read_by_auser_is_the_actor_of_a_task_sent_from_the_event_loop():
    """F4: there, nothing may query."""
    anna = User.objects.create_user("anna")
    client = AsyncClient()
    client.force_login(anna)
    seen: list[Actor | None] = []

    async def view(request: HttpRequest) -> HttpResponse:
        await request.auser()
        seen.append(context.actor_now())
        return HttpResponse()

    async def serve() -> None:
        from django.contrib.auth.middleware import AuthenticationMiddleware
        from django.contrib.sessions.middleware import SessionMiddleware
        from django.test import AsyncRequestFactory

        request = AsyncRequestFactory().get("/")
        request.COOKIES[settings.SESSION_COOKIE_NAME] = client.cookies["sessionid"].value
        inner: Any = AuthenticationMiddleware(view)
        await AuditMiddleware(SessionMiddleware(inner))(request)

    async_to_sync(serve)()
    assert [a.label for a in seen if a is not None] == ["anna"]


# --- F8, F9 ---


def test_a_user_can_delete_themself(client: Client, anna: User, only: Only):
    """F8"""
    client.force_login(anna)
    key = str(anna.pk)
    response = client.post("/delete-myself/")
    assert response.content == b"gone"
    assert not User.objects.filter(pk=key).exists()
    [deleted] = [e for e in only("delete") if e.target is not None and e.target.type == "auth.user"]
    assert deleted.target is not None
    assert (deleted.target.id, deleted.target.label) == (key, "anna")
    for event in (deleted, *only("request")):
        assert event.actor is not None
        assert (event.actor.id, event.actor.label) == (key, "anna")


def test_the_records_of_a_deleted_actor_keep_id_and_label(client: Client, anna: User):
    """F9"""
    from audit_log.models import Record
    from audit_log.reading.contents import contents

    client.force_login(anna)
    client.get("/create/", {"name": "kept"})
    key = str(anna.pk)
    User.objects.get(pk=key).delete()
    relay()
    record = Record.objects.get(action="create", target_type="shop.category")
    assert record.actor_id == key
    assert contents(record)["actor"]["label"] == "anna"


def test_an_anonymous_user_object_is_anonymous():
    request = RequestFactory().get("/")
    request.user = AnonymousUser()
    assert _scope(request).actor() == Actor(type="anonymous")
