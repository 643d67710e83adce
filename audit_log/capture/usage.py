"""Every request counts: one summary per route and minute, instead of an event each."""

from __future__ import annotations

import atexit
import threading
from bisect import bisect_left
from dataclasses import dataclass, field
from time import time_ns  # by name: a host's test may replace time.time
from typing import Final

from audit_log import forks
from audit_log.events import VERSION, Actor, Event, Request, emitter
from audit_log.recording import buffer, nudge

BOUNDS_MS: Final = (5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000)
_MAX_ROUTES: Final = 1000
_OTHER: Final = "(other)"
_ERROR: Final = 500
_MINUTE_NS: Final = 60_000_000_000


@dataclass(slots=True)
class _Count:
    errors: int = 0
    latencies: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_MS) + 1))

    @property
    def requests(self) -> int:
        return sum(self.latencies)


_counts: dict[tuple[int, str], _Count] = {}
_lock = threading.Lock()


def _after_fork() -> None:
    global _lock  # noqa: PLW0603 - the parent may have held it
    _lock = threading.Lock()
    _counts.clear()


forks.on_fork(_after_fork)


def count(route: str | None, status: int, milliseconds: int) -> None:
    """Add one request. Routes beyond a thousand share one line, so memory is bounded."""
    forks.notice()
    key = (time_ns() // _MINUTE_NS, route or "(unresolved)")
    bucket = bisect_left(BOUNDS_MS, milliseconds)
    with _lock:
        entry = _counts.get(key)
        is_new = entry is None
        if entry is None:
            entry, is_new = _room_for(key)
        entry.latencies[bucket] += 1
        if status >= _ERROR:
            entry.errors += 1
    if is_new:  # the thread has to be there; it looks again by itself
        nudge.wake(committed=False)


def _room_for(key: tuple[int, str]) -> tuple[_Count, bool]:
    """The line of a route without one, and whether it is new. Under the lock."""
    if len(_counts) >= _MAX_ROUTES:
        key = (key[0], _OTHER)
        if key in _counts:
            return _counts[key], False
    entry = _counts[key] = _Count()
    return entry, True


def emit(*, everything: bool = False) -> None:
    """Turn the minutes that are over into `usage` events; `everything` at exit."""
    now = time_ns() // _MINUTE_NS
    with _lock:
        due = [key for key in _counts if everything or key[0] < now]
        taken = [(key, _counts.pop(key)) for key in sorted(due)]
    for (minute, route), entry in taken:
        buffer.enqueue(_event(minute, route, entry))


def _event(minute: int, route: str, entry: _Count) -> Event:
    id_, occurred_at = emitter().stamp()
    histogram = {
        f"le_{bound}": n for bound, n in zip(BOUNDS_MS, entry.latencies, strict=False) if n
    }
    if entry.latencies[-1]:
        histogram["more"] = entry.latencies[-1]
    return Event(
        version=VERSION,
        id=id_,
        occurred_at=occurred_at,
        action="usage",
        actor=Actor(type="system"),
        affected=entry.requests,
        request=Request(route=route),
        source="request",
        data={
            "minute": minute * 60,
            "requests": entry.requests,
            "errors": entry.errors,
            "latency_ms": histogram,
        },
    )


def _emit_unless_testing() -> None:
    # A test would find the summary of another test's requests, once a minute.
    if not nudge.in_test_environment():
        emit()


buffer.before_flush(_emit_unless_testing)
# Registered after the nudge thread's own exit, so it runs before it: its last round writes these.
atexit.register(lambda: emit(everything=True))
