"""Every request counts: one summary per route and minute."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.test import Client, override_settings

from audit_log import testing
from audit_log.capture import usage
from audit_log.events import Event
from audit_log.models import Outbox, Record
from audit_log.recording import buffer

MINUTE = 60_000_000_000


class Clock:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 29_000_000 * MINUTE

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(usage, "time_ns", clock)
    return clock


@pytest.fixture
def emitted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Event]]:
    """The summaries that are emitted, and nothing of other tests."""
    found: list[Event] = []
    usage._counts.clear()
    monkeypatch.setattr(buffer, "enqueue", found.append)
    yield found
    usage._counts.clear()


def _data(event: Event) -> dict[str, Any]:
    assert event.data is not None
    return event.data


def test_there_is_one_summary_for_each_route_and_minute(clock: Clock, emitted: list[Event]):
    for _ in range(3):
        usage.count("a", 200, 3)
    usage.count("b", 500, 3)
    clock.now += MINUTE
    usage.count("a", 503, 3)
    clock.now += MINUTE
    usage.emit()
    rows = [
        (e.request.route, _data(e)["minute"], e.affected, _data(e)["errors"])
        for e in emitted
        if e.request is not None
    ]
    start = 29_000_000 * 60
    assert rows == [("a", start, 3, 0), ("b", start, 1, 1), ("a", start + 60, 1, 1)]
    assert {e.action for e in emitted} == {"usage"}


def test_the_minute_that_is_running_waits(clock: Clock, emitted: list[Event]):
    usage.count("a", 200, 3)
    usage.emit()
    assert emitted == []
    usage.emit(everything=True)
    assert len(emitted) == 1
    usage.emit(everything=True)
    assert len(emitted) == 1


def test_latencies_fall_into_their_buckets(clock: Clock, emitted: list[Event]):
    for milliseconds in (0, 5, 6, 10, 11, 9_999, 10_000, 10_001, 10**6):
        usage.count("a", 200, milliseconds)
    usage.emit(everything=True)
    [event] = emitted
    assert _data(event)["latency_ms"] == {
        "le_5": 2,
        "le_10": 2,
        "le_25": 1,
        "le_10000": 2,
        "more": 2,
    }


def test_memory_is_bounded(clock: Clock, emitted: list[Event]):
    for n in range(3000):
        usage.count(f"route {n}", 200, 3)
    assert len(usage._counts) <= usage._MAX_ROUTES + 1
    usage.emit(everything=True)
    assert sum(e.affected or 0 for e in emitted) == 3000
    others = [e.affected for e in emitted if e.request and e.request.route == "(other)"]
    assert others == [2000]


def test_threads_lose_no_count(clock: Clock, emitted: list[Event]):
    def many(n: int) -> None:
        for _ in range(500):
            usage.count(f"route {n % 3}", 200, 3)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(many, range(8)))
    finally:
        sys.setswitchinterval(interval)
    usage.emit(everything=True)
    assert sum(e.affected or 0 for e in emitted) == 4000


def test_requests_count_notable_or_not_but_not_on_excluded_paths(
    clock: Clock, emitted: list[Event], db: None
):
    client = Client()
    with override_settings(AUDIT_LOG={"EXCLUDE_PATHS": ["/stream/"]}):
        client.get("/plain/")
        client.get("/plain/")
        client.get("/nowhere/")
        client.get("/stream/")
    with override_settings(AUDIT_LOG={"REQUESTS": "off"}):
        client.get("/plain/")
    counts = {key[1]: entry.requests for key, entry in usage._counts.items()}
    assert counts == {"plain": 2, "(unresolved)": 1}


@pytest.mark.django_db(transaction=True)
def test_a_summary_reaches_the_ledger_readable(clock: Clock):
    usage._counts.clear()
    usage.count("plain", 500, 40)
    clock.now += MINUTE
    usage.emit()
    testing.relay()
    record = Record.objects.get(action="usage")
    assert (record.route, record.affected, record.actor_type) == ("plain", 1, "system")
    assert record.data == {
        "minute": 29_000_000 * 60,
        "requests": 1,
        "errors": 1,
        "latency_ms": {"le_50": 1},
    }


@pytest.mark.django_db(transaction=True)
def test_a_process_that_ends_emits_what_it_has_counted(process_environment: dict[str, str]):
    script = textwrap.dedent(
        """
        import django
        django.setup()
        from django.test import RequestFactory
        from django.http import HttpResponse
        from audit_log.middleware import AuditMiddleware
        from audit_log.recording import nudge
        nudge._EXIT_SECONDS = 240  # a busy machine may stall for long
        for _ in range(3):
            AuditMiddleware(lambda request: HttpResponse())(RequestFactory().get("/plain/"))
        """
    )
    subprocess.run([sys.executable, "-c", script], env=process_environment, check=True, timeout=300)
    assert Outbox.objects.exists()
    testing.relay()
    assert sum(record.affected or 0 for record in Record.objects.filter(action="usage")) == 3
