"""Backdated import: history that another system kept, put into the log and marked as imported."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import Any, Final

from django.db import DEFAULT_DB_ALIAS, connections, transaction

from audit_log.conf import get_settings
from audit_log.events import Event
from audit_log.recording import nudge, outbox, pending
from audit_log.recording.explicit import record
from audit_log.recording.imported import imported

_BATCH: Final = 500


def backfill(
    events: Iterable[Event | Mapping[str, Any]],
    *,
    reason: str | None = None,
    using: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Import events of the past, and record that, for what `reason` and by whom. Returns how many.

    Each is a mapping with `action` and `occurred_at` (a datetime with a time zone), and what else
    is known: `outcome actor target tenant changes labels affected request reason data subject
    trace_id parent_id`; an actor is a user, a name or a mapping, a target a model or a mapping. All
    have the source "import"; the field policies apply as for `record()`. With an `id` (a UUIDv7 of
    that moment) or a `key` (any text that is the event's own), importing it again adds nothing.

    They go straight to the outbox in batches, each in a transaction of its own or in that which is
    open; memory stays constant. `progress(count)` is called after each. Raises ValueError naming
    the position of what is wrong, as `events[7]`; the batches before its own are imported, which is
    recorded as a failure with their number. With `ENABLED` False nothing is written.
    """
    if not get_settings().enabled:
        return 0
    run = _Run(using or DEFAULT_DB_ALIAS)
    outcome = "failure"
    try:
        for batch in _batches(events):
            run.write(batch)
            if progress is not None:
                progress(run.count)
        outcome = "success"
    finally:
        if run.count:
            run.record(reason, outcome)
    return run.count


class _Run:
    """One import so far."""

    def __init__(self, using: str) -> None:
        self.using = using
        self.count = 0
        self.first: datetime | None = None
        self.last: datetime | None = None

    def write(self, batch: list[Event]) -> None:
        connection = connections[self.using]
        alone = not pending.in_transaction(connection)
        rows = outbox.rows_of(batch)
        with transaction.atomic(using=self.using, savepoint=False):
            outbox.insert(connection, rows)
        if alone:
            nudge.wake()
        moments = [event.occurred_at for event in batch]
        self.count += len(batch)
        self.first = min(m for m in (self.first, *moments) if m is not None)
        self.last = max(m for m in (self.last, *moments) if m is not None)

    def record(self, reason: str | None, outcome: str) -> None:
        data = {"count": self.count, "first": self.first, "last": self.last}
        record("audit_log.backfilled", data=data, reason=reason, outcome=outcome, using=self.using)


def _batches(events: Iterable[Event | Mapping[str, Any]]) -> Iterator[list[Event]]:
    """A few at a time, so that a file of any length is imported in constant memory."""
    checked = _checked(events)
    while batch := list(islice(checked, _BATCH)):
        yield batch


def _checked(events: Iterable[Event | Mapping[str, Any]]) -> Iterator[Event]:
    for position, given in enumerate(events):
        try:
            event = imported(given)
        except (TypeError, ValueError) as error:
            raise ValueError(f"events[{position}]: {error}") from error
        yield event
