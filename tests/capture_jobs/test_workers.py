"""Tasks run: in a real worker, and eagerly in the middle of their caller."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

import audit_log
from audit_log import context
from audit_log.events import Actor
from audit_log.middleware import AuditMiddleware
from audit_log.testing import capture_events
from tests.capture_jobs.conftest import Jobs, made_of, until, working
from tests.shop.models import Category

ANNA = Actor(type="user", id="7", label="anna")


@pytest.fixture(scope="module")
def _solo() -> Iterator[Jobs]:
    # One for all: a worker takes seconds to stop. Two at once stop together: Celery's flag is one.
    made = Jobs("memory://")
    with working(made, "solo"):
        yield made
    made.app.close()


@pytest.fixture
def worker(_solo: Jobs, transactional_db: None) -> Jobs:
    """Tasks that a real worker runs."""
    _solo.seen.clear()
    return _solo


def test_what_a_task_changes_is_recorded_on_behalf_of_the_user(worker: Jobs):
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


def test_the_thread_of_a_worker_is_clean_between_tasks(worker: Jobs):
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


def test_a_nested_task_names_its_parent(worker: Jobs):
    """F10"""
    with capture_events() as events:
        with audit_log.acting(ANNA):
            worker.nested.delay("outer")
        until(lambda: bool(made_of(events, "outer inner")))
    [after] = made_of(events, "outer after")
    [inner] = made_of(events, "outer inner")
    assert after.actor == ANNA
    assert inner.actor is not None
    outer = worker.context_of("outer")
    assert (inner.actor.label, inner.actor.via) == ("anna", outer.task)
    assert inner.parent_id == worker.context_of("outer inner").task


def test_a_retry_keeps_the_actor(worker: Jobs):
    """F10"""
    with capture_events() as events:
        with audit_log.acting(ANNA, reason="ticket 42"):
            worker.retry.delay("again")
        until(lambda: bool(made_of(events, "again")))
    [event] = made_of(events, "again")
    assert event.actor is not None
    assert (event.actor.label, event.reason) == ("anna", "ticket 42")
    assert len(worker.seen) == 2


def test_protocol_1_runs_in_a_worker(worker: Jobs):
    """F10: published by an older project."""
    old = Jobs("memory://", task_protocol=1)
    with capture_events() as events:
        with audit_log.acting(ANNA):
            old.write.apply_async(("old protocol",), queue=worker.queue)
        old.write.apply_async(("older still",), queue=worker.queue)
        until(lambda: bool(made_of(events, "older still")))
    old.app.close()
    assert made_of(events, "old protocol")[0].actor == ANNA
    assert made_of(events, "older still")[0].actor == Actor(type="system", id="t.write")


def test_a_forged_header_does_not_stop_the_task(worker: Jobs, monkeypatch: pytest.MonkeyPatch):
    """F10, forged_task"""
    from audit_log.capture import jobs as capture

    monkeypatch.setattr(capture, "_sealed", lambda *_: "Zm9yZ2Vk")
    with capture_events() as events:
        with audit_log.acting(ANNA):
            worker.write.delay("forged")
        until(lambda: bool(made_of(events, "forged")))
    assert made_of(events, "forged")[0].actor == Actor(type="system", id="t.write")


# --- eager ---


def test_an_eager_task_stays_in_the_context_of_its_caller(eager: Jobs, db: None):
    """F10"""
    with capture_events() as events, audit_log.acting(ANNA, reason="mine", tenant="acme"):
        before = context.current()
        eager.write.delay("eager")
        assert context.current() is before
        Category.objects.create(name="afterwards")
    [event] = made_of(events, "eager")
    assert (event.actor, event.reason, event.tenant, event.source) == (
        ANNA,
        "mine",
        "acme",
        "task",
    )
    [afterwards] = made_of(events, "afterwards")
    assert (afterwards.source, afterwards.parent_id) == ("orm", None)


def test_an_eager_task_of_a_request_is_part_of_it(eager: Jobs, anna: User):
    """F10, F12"""

    def view(request: HttpRequest) -> HttpResponse:
        request.user = anna
        eager.write.delay("eager")
        Category.objects.create(name="afterwards")
        return HttpResponse()

    with capture_events() as events:
        AuditMiddleware(view)(RequestFactory().get("/plain/", HTTP_X_REQUEST_ID="r-1"))
    for name, source in (("eager", "task"), ("afterwards", "orm")):
        [event] = made_of(events, name)
        assert event.actor is not None
        assert event.request is not None
        assert (event.actor.label, event.request.id, event.source) == ("anna", "r-1", source)
        assert event.request.path == "/plain/"


def test_an_eager_task_that_nobody_sent_is_the_systems(eager: Jobs, db: None):
    with capture_events() as events:
        eager.write.delay("alone")
    assert made_of(events, "alone")[0].actor == Actor(type="system", id="t.write")
    assert context.current() == context.Context()


def test_nested_eager_tasks_unwind(eager: Jobs, db: None):
    """F10"""
    with capture_events() as events, audit_log.acting(ANNA):
        before = context.current()
        eager.nested.delay("outer")
        assert context.current() is before
    outer, inner = eager.context_of("outer"), eager.context_of("outer inner")
    assert inner.outer is outer
    assert made_of(events, "outer after")[0].parent_id == outer.task
    assert made_of(events, "outer inner")[0].parent_id == inner.task


@pytest.mark.parametrize("task", ["fail", "retry"])
def test_an_eager_task_restores_its_caller_however_it_ends(eager: Jobs, db: None, task: str):
    """F10"""
    with audit_log.acting(ANNA):
        before = context.current()
        getattr(eager, task).apply(["x"])
        assert context.current() is before


def test_an_eager_task_of_a_suspended_caller_is_suspended(eager: Jobs, db: None):
    """A20"""
    with capture_events() as events, audit_log.suspended():
        eager.write.delay("unseen")
    assert made_of(events, "unseen") == []


@pytest.mark.django_db(transaction=True)
def test_an_eager_task_in_another_thread_does_not_touch_this_one(eager: Jobs):
    def run() -> None:
        try:
            eager.write.delay("elsewhere")
        finally:
            connections.close_all()

    with capture_events() as events, audit_log.acting(ANNA):
        thread = threading.Thread(target=run)
        thread.start()
        thread.join(300)
    assert made_of(events, "elsewhere")[0].actor == Actor(type="system", id="t.write")


def test_calling_a_task_directly_is_no_task(jobs: Jobs, db: None):
    with capture_events() as events, audit_log.acting(ANNA):
        call: Any = jobs.write
        call("direct")
    [event] = made_of(events, "direct")
    assert (event.source, event.actor) == ("orm", ANNA)
