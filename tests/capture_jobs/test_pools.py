"""The same in a worker whose tasks run in a pool of threads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

import audit_log
from audit_log.events import Actor
from audit_log.middleware import AuditMiddleware
from audit_log.testing import capture_events
from tests.capture_jobs.conftest import Jobs, made_of, until, working

ANNA = Actor(type="user", id="7", label="anna")


@pytest.fixture(scope="module")
def _pool() -> Iterator[Jobs]:
    made = Jobs("memory://")
    with working(made, "threads"):
        yield made
    made.app.close()


@pytest.fixture
def worker(_pool: Jobs, transactional_db: None) -> Jobs:
    """One thread, so that tasks follow each other in it."""
    _pool.seen.clear()
    return _pool


def test_a_task_in_a_pools_thread_acts_on_behalf_of_the_user(worker: Jobs):
    """F10, F12"""
    anna = User.objects.create_user("anna", "anna@example.com")

    def view(request: HttpRequest) -> HttpResponse:
        request.user = anna
        worker.write.delay("by task")
        return HttpResponse()

    with capture_events() as events:
        AuditMiddleware(view)(RequestFactory().get("/", HTTP_X_REQUEST_ID="r-1"))
        until(lambda: bool(made_of(events, "by task")))
    [event] = made_of(events, "by task")
    assert event.actor == Actor(
        type="user", id=str(anna.pk), label="anna", email="anna@example.com"
    )
    assert event.request is not None
    assert (event.source, event.request.id) == ("task", "r-1")
    assert event.parent_id == worker.context_of("by task").task


def test_a_pools_thread_is_clean_between_tasks(worker: Jobs):
    """F10"""
    with capture_events() as events:
        with audit_log.acting(ANNA, reason="mine"):
            worker.leak.delay("first")
            worker.fail.delay("second")
        worker.write.delay("third")
        until(lambda: bool(made_of(events, "third")))
    second, third = worker.context_of("second"), worker.context_of("third")
    assert (second.actor, second.reason, second.tenant) == (ANNA, "mine", None)
    assert (third.actor, third.reason) == (Actor(type="system", id="t.write"), None)
    assert third.outer is None
