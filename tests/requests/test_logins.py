"""Log-ins, log-outs and failed log-ins."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth import authenticate, login, user_logged_in, user_logged_out
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_login_failed
from django.db import transaction
from django.test import Client, override_settings

import audit_log
from audit_log.events import Actor, Event, encode_event
from audit_log.models import Outbox, Record
from audit_log.reading.contents import contents
from audit_log.testing import capture_events, relay

Only = Callable[..., list[Event]]
PASSWORD = "correct horse"


class CodeBackend:
    """Logs in by a code that nothing calls a secret."""

    def authenticate(self, request: object, code: str = "") -> None:
        return None

    def get_user(self, user_id: int) -> None:
        return None


@pytest.mark.parametrize("path", ["/log-in/", "/log-in-async/", "/admin/login/"])
def test_a_log_in_is_one_event(client: Client, bert: User, only: Only, path: str):
    """G1"""
    client.post(path, {"username": "bert", "password": PASSWORD})
    [event] = only("login", "login_failed")
    assert (event.action, event.outcome, event.source) == ("login", "success", "auth")
    assert event.actor is not None
    assert event.target is not None
    assert (event.actor.label, event.target.type, event.target.id) == (
        "bert",
        "auth.user",
        str(bert.pk),
    )
    assert event.subject == f"auth.user:{bert.pk}"


def test_the_last_login_that_django_notes_is_no_event_of_its_own(
    client: Client, anna: User, only: Only
):
    client.post("/log-in/", {"username": "anna", "password": PASSWORD})
    assert only("update") == []


def test_a_log_out_is_one_event(client: Client, anna: User, only: Only):
    """G1: `logout()` sends the lazy `request.user` itself."""
    client.force_login(anna)
    client.post("/log-out/")
    [event] = only("logout")
    assert event.actor is not None
    assert event.target is not None
    assert (event.actor.label, event.target.type) == ("anna", "auth.user")
    assert (event.target.id, event.target.label) == (str(anna.pk), "anna")


def test_logging_nobody_out_is_no_event(client: Client, only: Only):
    client.post("/log-out/")
    assert only("logout") == []


@pytest.mark.parametrize("who", ["unknown", "inactive", "wrong password"])
@pytest.mark.parametrize("path", ["/log-in/", "/admin/login/"])
def test_a_failed_log_in_is_one_event_with_the_name_and_without_the_password(
    client: Client, anna: User, only: Only, who: str, path: str
):
    """G1"""
    if who == "inactive":
        User.objects.filter(pk=anna.pk).update(is_active=False)
    name = "nobody" if who == "unknown" else "anna"
    password = "hunter2-hunter2" if who == "wrong password" else PASSWORD
    client.post(path, {"username": name, "password": password})
    [event] = only("login_failed")
    assert event.outcome == "failure"
    assert event.actor == Actor(type="anonymous", label=name)
    assert event.target is not None
    assert event.target.type == "auth.user"
    assert event.request is not None
    assert event.request.path == path
    everything = b"".join(encode_event(e) for e in only("login_failed", "request"))
    assert password.encode() not in everything


def test_a_failed_log_in_without_a_request_is_an_event(anna: User, only: Only):
    """G1"""
    assert authenticate(username="anna", password="wrong") is None
    [event] = only("login_failed")
    assert event.actor == Actor(type="anonymous", label="anna")
    assert event.request is None


def test_signals_without_the_request_keyword_are_understood(anna: User, only: Only):
    """G1: third-party backends leave it out."""
    user_logged_in.send(sender=User, user=anna)
    user_logged_out.send(sender=User, user=anna)
    user_login_failed.send(sender="x", credentials={"username": "anna"})
    user_login_failed.send(sender="x")
    assert [e.action for e in only("login", "logout", "login_failed")] == [
        "login",
        "logout",
        "login_failed",
        "login_failed",
    ]


@pytest.mark.parametrize(
    "credentials",
    [
        {"password": "s3cret-s3cret", "username": "anna"},
        {"token": "s3cret-s3cret", "username": "anna"},
        {"code": "s3cret-s3cret", "email": "anna"},
        {"ticket": "s3cret-s3cret", "name": "anna"},
        {"username": None, "assertion": "s3cret-s3cret", "email": "anna"},
        {"username": "", "x": ["s3cret-s3cret"], "email": "anna"},
    ],
)
def test_only_the_name_of_credentials_is_kept(credentials: dict[str, object], events: list[Event]):
    """G1: whatever a backend calls its secret."""
    user_login_failed.send(sender="x", credentials=credentials)
    [event] = events
    assert event.actor == Actor(type="anonymous", label="anna")
    assert b"s3cret" not in encode_event(event)


@override_settings(AUTHENTICATION_BACKENDS=["tests.requests.test_logins.CodeBackend"])
def test_a_code_that_fails_is_not_taken_for_a_name(db: None, only: Only):
    """G1"""
    assert authenticate(code="s3cret-s3cret") is None
    [event] = only("login_failed")
    assert event.actor == Actor(type="anonymous")


def test_the_attempted_name_is_stored_sealed(db: None):
    """G1"""
    authenticate(username="Nadja Quist", password="wrong")
    relay()
    record = Record.objects.get(action="login_failed")
    assert contents(record)["actor"]["label"] == "Nadja Quist"
    row = Record.objects.filter(pk=record.pk).values_list()[0]
    assert not any("Quist" in str(value) for value in row)
    assert record.actor_token is not None


@pytest.mark.django_db(transaction=True)
def test_a_log_in_inside_a_transaction_falls_with_it(client: Client):
    """G1"""
    anna = User.objects.create_user("anna", password=PASSWORD)
    request = client.get("/plain/").wsgi_request
    with capture_events() as events:
        with transaction.atomic():
            login(request, anna)
            transaction.set_rollback(True)
        assert [e.action for e in events] == []
        with transaction.atomic():
            authenticate(username="anna", password="wrong")
        assert [e.action for e in events] == ["login_failed"]


@pytest.mark.django_db(transaction=True)
def test_outside_a_transaction_it_is_written_at_once():
    """G1"""
    before = Outbox.objects.count()
    authenticate(username="anna", password="wrong")
    assert Outbox.objects.count() == before + 1
    relay()


def test_while_suspended_no_log_in_is_an_event(anna: User, only: Only):
    with audit_log.suspended():
        user_logged_in.send(sender=User, user=anna)
        authenticate(username="anna", password="wrong")
    assert only("login", "login_failed") == []


def test_a_user_that_is_no_model_can_log_in(events: list[Event]):
    class Remote:
        is_authenticated = True
        pk = "remote-7"

        def get_username(self) -> str:
            return "remote"

        def save(self, **_: object) -> None:
            """Django notes the log-in."""

    user_logged_in.send(sender=Remote, user=Remote())
    [event] = events
    assert event.actor == Actor(type="user", id="remote-7", label="remote")
    assert event.target is None


def test_the_log_in_is_written_where_the_user_would_be_and_not_where_it_was_read(anna: User):
    """J4: a replica takes no events."""

    class Router:
        def db_for_write(self, model: type, **hints: object) -> str:
            return "default"

    anna._state.db = "other"  # read from there; no test may touch it
    with override_settings(DATABASE_ROUTERS=[Router()]), capture_events() as events:
        user_logged_in.send(sender=User, user=anna)
    assert [e.action for e in events] == ["login"]
