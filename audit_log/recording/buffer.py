"""Events that no transaction waits for: requests, runs and usage. Written in the background.

A kill loses what is queued here, never a change; what does not fit is dropped and counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from django.db import DEFAULT_DB_ALIAS, connections

from audit_log import forks
from audit_log.events import Event
from audit_log.recording import losses, nudge, pending

_MAX_EVENTS: Final = 10_000
_queue: deque[Event] = deque()
_before_flush: list[Callable[[], None]] = []


def _after_fork() -> None:
    _queue.clear()  # the parent writes what it captured


forks.on_fork(_after_fork)


def before_flush(callback: Callable[[], None]) -> None:
    """Have `callback` add what it has gathered (usage summaries) before each write."""
    _before_flush.append(callback)


def add(event: Event) -> None:
    """Let `event` be part of the transaction that is open, else buffer it."""
    connection = connections[DEFAULT_DB_ALIAS]
    if connection.in_atomic_block:
        pending.add(connection, event)
    else:
        enqueue(event)


def enqueue(event: Event) -> None:
    """Buffer `event`. A full buffer drops it and counts. Never raises."""
    if len(_queue) >= _MAX_EVENTS:
        losses.count("requests_dropped")
        return
    _queue.append(event)
    if not nudge.wake(committed=False):
        try:
            flush()  # no thread can be had, so the request's own must do
        except Exception:  # noqa: BLE001 - what was not written waits for the next request
            losses.warn("flush_failed", "Cannot write %d buffered events yet.", len(_queue))


def flush() -> int:
    """Write what this process has buffered, on the calling thread's connection. How many.

    What cannot be written now waits for the next time, as far as there is room.
    """
    for callback in _before_flush:
        callback()
    events = _take()
    if events:
        try:
            _write(events)
        except BaseException:
            _put_back(events)
            raise
    return len(events)


def discard() -> int:
    """Forget what is buffered: tests, whose database of an earlier test is gone. How many."""
    return len(_take())


def _take() -> list[Event]:
    events: list[Event] = []
    with suppress(IndexError):  # another thread may empty it at the same time
        while True:
            events.append(_queue.popleft())
    return events


def _put_back(events: Sequence[Event]) -> None:
    """The newest ones first: they are the likeliest to be missed."""
    room = max(0, _MAX_EVENTS - len(_queue))
    kept = events[-room:] if room else []
    _queue.extendleft(reversed(kept))
    if len(kept) < len(events):
        losses.count("requests_dropped", len(events) - len(kept))


def _write(events: Sequence[Event]) -> None:
    connection = connections[DEFAULT_DB_ALIAS]
    with pending.bracket(connection):
        for event in events:
            pending.add(connection, event)


def _flush_apart() -> None:
    try:
        flush()
    finally:
        connections.close_all()  # the thread keeps no database session between rounds


nudge.on_tick(_flush_apart)
