"""Every request counts: one summary per route and minute, instead of an event each."""

from __future__ import annotations

import atexit
import os
import threading
from bisect import bisect_left
from dataclasses import dataclass, field
from time import time_ns  # by name: a host's test may replace time.time
from typing import Final

from audit_log.events import VERSION, Actor, Event, Request, emitter
from audit_log.recording import buffer, nudge

BOUNDS_MS: Final = (5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000)
_MAX_ROUTES: Final = 1000
_OTHER: Final = "(other)"
_ERROR: Final = 500
_MINUTE_NS: Final = 60_000_000_000


@dataclass(slots=True)
class _Count:
    requests: int = 0
    errors: int = 0
    latencies: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_MS) + 1))


_counts: dict[tuple[int, str], _Count] = {}
_lock = threading.Lock()


def _after_fork() -> None:
    global _lock  # noqa: PLW0603 - the parent may have held it
    _lock = threading.Lock()
    _counts.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def count(route: str | None, status: int, milliseconds: int) -> None:
    """Add one request. Routes beyond a thousand share one line, so memory is bounded."""
    minute = time_ns() // _MINUTE_NS
    key = (minute, route or "(unresolved)")
    with _lock:
        if key not in _counts and len(_counts) >= _MAX_ROUTES:
            key = (minute, _OTHER)
        entry = _counts.get(key)
        is_new = entry is None
        if entry is None:
            entry = _counts[key] = _Count()
        entry.requests += 1
        entry.errors += status >= _ERROR
        entry.latencies[bisect_left(BOUNDS_MS, milliseconds)] += 1
    if is_new:  # the thread has to be there; it looks again by itself
        nudge.wake(committed=False)


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
