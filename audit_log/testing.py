"""For other people's tests: see what was captured, and store it without a worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import DEFAULT_DB_ALIAS, connections

from audit_log.delivery.relay import Relayed
from audit_log.delivery.relay import relay as _relay
from audit_log.events import Event
from audit_log.recording import buffer, pending


class _Captured(list[Event]):
    """The events so far; those whose transaction rolls back go away again."""

    def captured(self, event: Event) -> None:
        self.append(event)

    def dropped(self, event: Event) -> None:
        for n, other in enumerate(self):
            if other is event:
                del self[n]
                return


@contextmanager
def capture_events() -> Iterator[list[Event]]:
    """A list that fills with the events captured inside the block, in any thread.

    Works inside Django's TestCase too, where nothing is ever committed. What a rolled-back
    savepoint or transaction captured disappears from it.
    """
    events = _Captured()
    end = pending.tap(events)
    try:
        yield events
    finally:
        end()


def relay(using: str = DEFAULT_DB_ALIAS) -> Relayed:
    """Store everything captured so far, now, in this thread.

    Works inside Django's TestCase, whose transaction never commits: the records are there until
    the test ends.
    """
    connection = connections[using]
    if connection.in_atomic_block:
        pending.write_early(connection)
    return _relay(using)


def flush() -> int:
    """Write the request events this process has buffered into the outbox. How many."""
    return buffer.flush()
