"""What waits for no transaction: written in the background, bounded, put back when it fails."""

from __future__ import annotations

import os
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import OperationalError, connection

from audit_log import context, testing
from audit_log.events import Event, decode_batch
from audit_log.models import Outbox, Record
from audit_log.privacy.encryption import key_ring
from audit_log.recording import buffer, losses, nudge, outbox


@pytest.fixture(autouse=True)
def empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffer, "_queue", deque())
    monkeypatch.setattr(buffer, "_before_flush", [])
    monkeypatch.setattr(losses, "_warned", {})


def _probe(n: int = 0) -> Event:
    return context.new_event("probe.buffered", source="request", affected=n)


def _written() -> list[int | None]:
    return [
        event.affected
        for row in Outbox.objects.order_by("id")
        for event in decode_batch(key_ring().decrypt(outbox.PURPOSE, bytes(row.payload)))
    ]


@pytest.mark.django_db(transaction=True)
def test_buffered_events_become_one_batch():
    for n in range(5):
        buffer.enqueue(_probe(n))
    assert not Outbox.objects.exists()
    assert buffer.flush() == 5
    assert Outbox.objects.count() == 1
    assert _written() == [0, 1, 2, 3, 4]
    assert buffer.flush() == 0


@pytest.mark.django_db(transaction=True)
def test_what_was_gathered_is_added_before_each_write():
    buffer.before_flush(lambda: buffer.enqueue(_probe(9)))
    buffer.enqueue(_probe(1))
    buffer.flush()
    assert _written() == [1, 9]


def test_full_buffer_drops_and_counts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(buffer, "_MAX_EVENTS", 3)
    before = losses.counts().get("requests_dropped", 0)
    for n in range(5):
        buffer.enqueue(_probe(n))
    assert len(buffer._queue) == 3
    assert losses.counts()["requests_dropped"] == before + 2


@pytest.mark.django_db(transaction=True)
def test_events_that_cannot_be_written_now_are_put_back(monkeypatch: pytest.MonkeyPatch):
    def failing(events: Any) -> None:
        buffer.enqueue(_probe(3))  # meanwhile
        raise OperationalError("not now")

    for n in range(3):
        buffer.enqueue(_probe(n))
    with monkeypatch.context() as patched:
        patched.setattr(buffer, "_write", failing)
        with pytest.raises(OperationalError):
            buffer.flush()
    assert buffer.flush() == 4
    assert _written() == [0, 1, 2, 3]


def test_what_is_put_back_is_bounded_and_its_loss_counted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(buffer, "_MAX_EVENTS", 4)
    buffer.enqueue(_probe(9))
    before = losses.counts().get("requests_dropped", 0)
    buffer._put_back([_probe(n) for n in range(5)])
    assert [event.affected for event in buffer._queue] == [2, 3, 4, 9]
    buffer._put_back([_probe(7)])
    assert [event.affected for event in buffer._queue] == [2, 3, 4, 9]
    assert losses.counts()["requests_dropped"] == before + 3


@pytest.mark.django_db(transaction=True)
def test_without_a_thread_the_caller_writes(monkeypatch: pytest.MonkeyPatch):
    """L9: uWSGI without threads."""
    monkeypatch.setattr(nudge, "wake", lambda **_: False)
    buffer.enqueue(_probe(1))
    assert _written() == [1]


@pytest.mark.django_db(transaction=True)
def test_without_a_thread_and_a_database_the_caller_notices_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(nudge, "wake", lambda **_: False)

    def failing(events: Any) -> None:
        raise OperationalError("not now")

    with monkeypatch.context() as patched:
        patched.setattr(buffer, "_write", failing)
        for n in range(3):
            buffer.enqueue(_probe(n))
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    buffer.enqueue(_probe(3))
    assert _written() == [0, 1, 2, 3]


@pytest.mark.django_db(transaction=True)
def test_threads_that_flush_at_once_lose_nothing_and_double_nothing():
    for n in range(400):
        buffer.enqueue(_probe(n))
    barrier = threading.Barrier(4)

    def work() -> int:
        try:
            barrier.wait(300)
            return buffer.flush()
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        counts = [future.result(300) for future in [pool.submit(work) for _ in range(4)]]
    assert sum(counts) == 400
    assert sorted(n for n in _written() if n is not None) == list(range(400))


def test_forked_child_leaves_the_parents_events_to_the_parent():
    buffer.enqueue(_probe())
    pid = os.fork()
    if not pid:
        os._exit(len(buffer._queue))
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert len(buffer._queue) == 1


@pytest.mark.django_db
def test_buffered_events_are_stored_in_a_test_case_too():
    buffer.enqueue(_probe(1))
    testing.relay()
    testing.relay()
    assert Record.objects.get().affected == 1


def test_counts_of_a_forked_child_begin_at_nothing():
    losses.count("probe")
    pid = os.fork()
    if not pid:
        with losses._lock:
            os._exit(len(losses._counts))
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_trouble_is_logged_once_in_thirty_seconds_but_always_counted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(losses, "_WARN_EVERY_SECONDS", 3_600.0)  # this machine may stall
    before = losses.counts().get("probe_trouble", 0)
    for _ in range(5):
        losses.warn("probe_trouble", "Trouble.")
    assert losses.counts()["probe_trouble"] == before + 5
    (record,) = caplog.records
    assert record.exc_info is None
