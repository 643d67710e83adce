"""Events of tasks themselves, and traces that go through them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery.beat import ScheduleEntry, Scheduler
from celery.schedules import schedule

import audit_log
from audit_log import context
from audit_log.capture import jobs as capture
from audit_log.events import Actor, Event
from audit_log.testing import capture_events, flush
from tests.capture_jobs.conftest import Jobs, made_of, until, working

ANNA = Actor(type="user", id="7", label="anna")
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@pytest.fixture(scope="module")
def _solo() -> Iterator[Jobs]:
    made = Jobs("memory://")
    with working(made, "solo"):
        yield made
    made.app.close()


@pytest.fixture
def worker(_solo: Jobs, transactional_db: None) -> Jobs:
    """Tasks that a real worker runs."""
    _solo.seen.clear()
    return _solo


def _runs(events: list[Event]) -> list[Event]:
    flush()
    return [event for event in events if event.action == "task"]


def test_a_task_that_changed_something_is_an_event(eager: Jobs, db: None):
    with capture_events() as events, audit_log.acting(ANNA):
        eager.write.delay("made")
    [made] = made_of(events, "made")
    [run] = _runs(events)
    assert (run.actor, run.outcome, run.source) == (ANNA, "success", "task")
    assert run.target is not None
    assert (run.target.type, run.target.label) == ("task", "t.write")
    assert run.target.id == run.parent_id == made.parent_id
    assert run.data == {"task": "t.write"}
    assert run.request is not None
    assert run.request.duration_ms is not None


def test_a_task_that_fails_is_one_and_does_not_say_with_which_words(eager: Jobs, db: None):
    with capture_events() as events:
        eager.fail.apply(("4111 1111 1111 1111",))
        [run] = _runs(events)
    assert (run.outcome, run.data) == (
        "failure",
        {"task": "t.fail", "exception": "RuntimeError"},
    )


def test_a_task_that_changed_nothing_is_none(eager: Jobs, db: None):
    with capture_events() as events:
        eager.leak.delay("x")
        assert _runs(events) == []


def test_a_retry_says_how_often(eager: Jobs, db: None):
    with capture_events() as events:
        eager.retry.delay("again")
        found = _runs(events)
    assert [(run.outcome, run.data) for run in found if run.outcome == "success"] == [
        ("success", {"task": "t.retry", "retries": 1})
    ]


def test_our_own_tasks_are_no_events(db: None):
    class Task:
        name = "audit_log.relay"

    capture._prerun(task_id="1", task=Task())
    context.new_event("x", source="explicit")
    with capture_events() as events:
        capture._postrun(task_id="1", task=Task(), state="FAILURE", retval=RuntimeError())
        assert _runs(events) == []


def test_each_task_of_a_chain_acts_for_who_sent_it(worker: Jobs):
    """F10"""
    write: Any = worker.write
    with capture_events() as events:
        with audit_log.acting(ANNA, reason="ticket 42"):
            (write.si("first") | write.si("second") | write.si("third")).apply_async()
        until(lambda: bool(made_of(events, "third")))
    for name in ("first", "second", "third"):
        [event] = made_of(events, name)
        assert event.actor is not None
        assert (event.actor.id, event.actor.label, event.reason) == ("7", "anna", "ticket 42")


def test_what_beat_sends_is_the_systems(worker: Jobs):
    """F10: nobody sent it."""
    scheduler = Scheduler(app=worker.app, lazy=True)
    entry = ScheduleEntry(
        name="nightly", task="t.write", args=("by beat",), schedule=schedule(60), app=worker.app
    )
    with capture_events() as events:
        scheduler.apply_async(entry, advance=False)
        until(lambda: bool(made_of(events, "by beat")))
    assert made_of(events, "by beat")[0].actor == Actor(type="system", id="t.write")


def test_a_trace_goes_along_in_the_clear_and_comes_out_again(worker: Jobs):
    """F12"""
    with capture_events() as events:
        with context.changed(trace_id=TRACE, trace_parent=PARENT):
            worker.nested.delay("outer")
        until(lambda: bool(made_of(events, "outer inner")))
    for name in ("outer after", "outer inner"):
        assert made_of(events, name)[0].trace_id == TRACE
    assert worker.context_of("outer inner").trace_parent == PARENT


def test_a_trace_that_another_service_sent_is_taken(worker: Jobs):
    """F12: there is no header of ours."""
    with capture_events() as events:
        worker.write.apply_async(("foreign",), headers={"traceparent": PARENT})
        until(lambda: bool(made_of(events, "foreign")))
    [event] = made_of(events, "foreign")
    assert (event.trace_id, event.actor) == (TRACE, Actor(type="system", id="t.write"))


def test_who_sends_a_trace_parent_of_their_own_keeps_it(jobs: Jobs):
    other = f"00-{'a' * 32}-00f067aa0ba902b7-00"
    with context.changed(trace_id=TRACE, trace_parent=PARENT):
        jobs.write.apply_async(("x",), headers={"traceparent": other})
    assert jobs.message().headers["traceparent"] == other
