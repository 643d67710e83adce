"""Who acts in a command, a migration and a shell, and what is recorded of the run itself."""

from __future__ import annotations

import getpass
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connection
from django.db.migrations import Migration, RunPython
from django.db.migrations.state import ProjectState
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

import audit_log
from audit_log import context
from audit_log.events import Actor, Event
from audit_log.middleware import AuditMiddleware
from audit_log.models import Record
from audit_log.testing import capture_events, flush, relay
from tests.shop.models import Category

ROOT = Path(__file__).resolve().parents[2]
ANNA = Actor(type="user", id="7", label="anna")
NAME = "test_commands"  # a command is called as its module is


class Outer(BaseCommand):
    """Writes, has another command write, and writes again."""

    def handle(self, *args: Any, **options: Any) -> None:
        Category.objects.create(name="before")
        call_command("createsuperuser", username="root", email="r@x.org", interactive=False)
        Category.objects.create(name="after")


class Failing(BaseCommand):
    def handle(self, *args: Any, **options: Any) -> None:
        Category.objects.create(name="before")
        raise CommandError("card 4111 1111 1111 1111")


class Looking(BaseCommand):
    def handle(self, *args: Any, **options: Any) -> str:
        Category.objects.count()
        return "looked"


def _actor(name: str, via: str | None = None) -> Actor:
    return Actor(type="system", id=f"manage.py {name}", label=getpass.getuser(), via=via)


def _of(events: list[Event], label: str) -> Event:
    [event] = [e for e in events if e.target is not None and e.target.label == label][:1]
    return event


def test_a_command_acts_by_its_name_and_a_nested_one_restores_it(db: None):
    """F11"""
    with capture_events() as events:
        call_command(Outer())
    for name in ("before", "after"):
        assert (_of(events, name).actor, _of(events, name).source) == (_actor(NAME), "command")
    inner = _of(events, "root")
    assert (inner.actor, inner.source) == (
        _actor("createsuperuser", f"manage.py {NAME}"),
        "command",
    )
    assert context.current() == context.Context()


def test_a_command_that_changed_something_is_an_event(db: None):
    with capture_events() as events:
        call_command(Outer())
    found = [event for event in events if event.action == "command"]
    assert [e.target.id for e in found if e.target is not None] == ["createsuperuser", NAME]
    event = found[1]
    assert (event.outcome, event.source, event.actor) == ("success", "command", _actor(NAME))
    assert event.data == {"command": NAME}
    assert event.request is not None
    assert event.request.duration_ms is not None


def test_a_command_that_fails_says_by_what_and_not_with_which_words(db: None):
    with capture_events() as events, pytest.raises(CommandError):
        call_command(Failing())
    event = events[-1]
    assert (event.action, event.outcome) == ("command", "failure")
    assert event.data == {"command": NAME, "exception": "CommandError"}
    assert context.current() == context.Context()


def test_a_command_that_changes_nothing_is_none(db: None):
    with capture_events() as events:
        assert call_command(Looking()) == "looked"
        call_command("check")
        flush()
    assert events == []


def test_code_that_says_who_acts_is_believed_by_the_commands_it_calls(db: None):
    """F11"""
    with capture_events() as events, audit_log.acting(ANNA):
        call_command(Outer())
    assert {e.actor for e in events} == {ANNA}
    assert {e.source for e in events} == {"command"}


def test_a_command_that_a_request_calls_is_the_users(db: None):
    """F11"""
    anna = User.objects.create_user("anna")

    def view(request: HttpRequest) -> HttpResponse:
        request.user = anna
        call_command(Outer())
        Category.objects.create(name="in the view")
        return HttpResponse()

    with capture_events() as events:
        AuditMiddleware(view)(RequestFactory().get("/", HTTP_X_REQUEST_ID="r-1"))
    event = _of(events, "after")
    assert event.actor is not None
    assert event.request is not None
    assert (event.actor.label, event.request.id, event.source) == ("anna", "r-1", "command")
    assert _of(events, "in the view").source == "orm"


def test_a_fixture_stays_an_import(db: None, tmp_path: Path):
    """A16"""
    fixture = tmp_path / "one.json"
    fixture.write_text('[{"model": "shop.category", "pk": 71, "fields": {"name": "loaded"}}]')
    with capture_events() as events:
        call_command("loaddata", str(fixture), verbosity=0)
    event = _of(events, "loaded")
    assert (event.source, event.actor) == ("import", _actor("loaddata"))


def test_a_suspended_command_is_silent(db: None):
    with audit_log.suspended(), capture_events() as events:
        call_command(Outer())
    assert events == []


def _write(*_: object) -> None:
    Category.objects.create(name="by migration")


class Renaming(Migration):
    operations = (RunPython(_write, _write),)


def _run(way: str = "apply") -> None:
    getattr(Renaming("0007_rename", "shop"), way)(ProjectState(), connection.schema_editor())


@pytest.mark.parametrize("way", ["apply", "unapply"])
def test_what_a_migration_changes_says_which_one(db: None, way: str):
    """F11"""
    with capture_events() as events:
        _run(way)
    event = _of(events, "by migration")
    assert event.actor == Actor(
        type="system", id="migration shop.0007_rename", label=getpass.getuser()
    )
    assert event.source == "command"


def test_a_migration_acts_through_the_command_that_runs_it(db: None):
    class Migrating(BaseCommand):
        def handle(self, *args: Any, **options: Any) -> None:
            _run()

    with capture_events() as events:
        call_command(Migrating())
    actor = _of(events, "by migration").actor
    assert actor is not None
    assert (actor.id, actor.via) == ("migration shop.0007_rename", f"manage.py {NAME}")


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_a_shell_is_recorded_by_its_process_when_it_changed_something(
    process_environment: dict[str, str],
):
    """F11"""
    code = "from tests.shop.models import Category; Category.objects.create(name='by hand')"
    for line in ("print(1)", code):
        subprocess.run(
            [sys.executable, "-m", "django", "shell", "-c", line],
            env=process_environment,
            cwd=ROOT,
            check=True,
            timeout=600,
            capture_output=True,
        )
    relay()
    [record] = Record.objects.filter(action="command")
    assert (record.target_id, record.actor_id, record.outcome) == (
        "shell",
        "manage.py shell",
        "success",
    )
    made = Record.objects.get(action="create", target_type="shop.category")
    assert (made.actor_id, made.source) == ("manage.py shell", "command")
