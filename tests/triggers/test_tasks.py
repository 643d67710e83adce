"""Who acts in a task or a command is known to triggers too, for SQL of its own as for the ORM."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

import audit_log
from audit_log import testing
from audit_log.middleware import AuditMiddleware
from audit_log.models import Record
from tests.capture_jobs.conftest import Jobs, until, working
from tests.shop.models import Category
from tests.triggers import seen
from tests.triggers.seen import sql

pytestmark = pytest.mark.postgres
INSERT = "INSERT INTO shop_category (name) VALUES (%s)"


@pytest.fixture(params=["solo", "threads"])
def worker(request: pytest.FixtureRequest) -> Iterator[Jobs]:
    """A real one, with a task more: what it writes, it writes by SQL, and then by the ORM."""
    jobs = Jobs("memory://")

    @jobs.app.task(name="t.sql", shared=False)
    def by_sql(name: str) -> None:
        try:
            jobs.note(name)
            sql(INSERT, [name])
            Category.objects.filter(name=name).update(name=f"{name}, changed")
        finally:
            connections.close_all()

    with working(jobs, request.param):
        yield jobs
    jobs.app.close()


def _send(worker: Jobs, name: str) -> None:
    worker.app.tasks["t.sql"].delay(name)


def test_a_task_acts_for_whoever_sent_it(triggers, worker: Jobs):
    """F10: the rows that triggers saw say so, and the task has an event of its own."""
    triggers(Category)
    anna = User.objects.create_user("anna", "anna@example.com")
    seen.forget()

    def view(request: HttpRequest) -> HttpResponse:
        request.user = anna
        with audit_log.acting(reason="ticket 42", tenant="acme"):
            _send(worker, "by task")
        return HttpResponse()

    AuditMiddleware(view)(RequestFactory().get("/", HTTP_X_REQUEST_ID="r-1"))
    until(lambda: Category.objects.filter(name="by task, changed").exists())
    task = worker.context_of("by task").task
    assert task is not None
    until(lambda: _stored(task))
    made, changed = Record.objects.filter(target_type="shop.category").order_by("sequence")
    for record in (made, changed):
        assert (record.source, record.actor_type, record.actor_id) == (
            "trigger",
            "user",
            str(anna.pk),
        )
        assert (record.request_id, record.parent_id, record.tenant) == ("r-1", task, "acme")
        said = audit_log.contents(record)
        assert (said["actor"]["label"], said["reason"]) == ("anna", "ticket 42")
    assert [made.action, changed.action] == ["create", "update"]
    run = Record.objects.get(action="task")
    assert (run.target_id, run.actor_id) == (task, str(anna.pk))


def _stored(task: str) -> bool:
    testing.relay()
    return Record.objects.filter(action="task", target_id=task).exists()


def test_the_next_task_of_the_same_worker_does_not(triggers, worker: Jobs):
    """F10: nothing of the one before is left on the connection."""
    triggers(Category)
    with audit_log.acting("robot"):
        _send(worker, "first")
    _send(worker, "second")
    until(lambda: Category.objects.filter(name="second, changed").exists())
    found = [(e.changes["name"][1], e.actor.type, e.actor.label) for e in seen.events()]
    assert found[:2] == [("first", "service", "robot"), ("first, changed", "service", "robot")]
    assert [(name, kind) for name, kind, _ in found[2:]] == [
        ("second", "system"),
        ("second, changed", "system"),
    ]


class _Writing(BaseCommand):
    def handle(self, *args: object, **options: object) -> None:
        sql(INSERT, ["by command"])


def test_a_command_that_writes_by_sql_has_an_event(triggers):
    """F11"""
    triggers(Category)
    call_command(_Writing())
    testing.relay()
    written = Record.objects.get(target_type="shop.category")
    run = Record.objects.get(action="command")
    assert (written.actor_type, written.actor_id) == ("system", run.actor_id)
