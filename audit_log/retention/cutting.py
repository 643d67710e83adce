"""Cutting a stream into parts: contiguous ranges, each of one day (UTC), that are over.

A record counts for the day it occurred on, or was recorded on where it claims to be from the
future. One that comes late, from the 24 hours before the day at hand, joins it; one that is older
still (an import) begins a part of its own day.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, NamedTuple

from audit_log.exceptions import RetentionRefused

MAX_RECORDS: Final = 100_000
GRACE: Final = timedelta(hours=1)  # what happened just before midnight is still on its way
LATE: Final = timedelta(hours=24)


class Row(NamedTuple):
    """What cutting needs of a record."""

    sequence: int
    occurred_at: datetime
    recorded_at: datetime

    @property
    def moment(self) -> datetime:
        """When it happened, and never after it was recorded."""
        return min(self.occurred_at, self.recorded_at)


@dataclass(slots=True)
class Cut:
    """Records `first` to `last`; the times are the span of `occurred_at`."""

    day: date
    first: int
    last: int
    min_time: datetime
    max_time: datetime

    @property
    def count(self) -> int:
        """How many records."""
        return self.last - self.first + 1

    def takes(self, row: Row, most: int) -> bool:
        """Whether a record belongs to this part."""
        earliest, end = midnight(self.day) - LATE, midnight(self.day) + timedelta(days=1)
        return self.count < most and earliest <= row.moment < end

    def add(self, row: Row) -> None:
        """Take a record. Raises RetentionRefused where it is not the next one."""
        if row.sequence != self.last + 1:
            raise RetentionRefused(_gap(self.last + 1))
        self.last = row.sequence
        self.min_time = min(self.min_time, row.occurred_at)
        self.max_time = max(self.max_time, row.occurred_at)


def cuts(
    rows: Iterable[Row], first: int, now: datetime, *, most: int = MAX_RECORDS
) -> Iterator[Cut]:
    """The parts that records from `first` on make up, until one of a day that is not over.

    Raises RetentionRefused where a record is missing.
    """
    part: Cut | None = None
    for row in rows:
        if part is not None and part.takes(row, most):
            part.add(row)
            continue
        expected = first if part is None else part.last + 1
        if row.sequence != expected:
            raise RetentionRefused(_gap(expected))
        if part is not None:
            yield part
            part = None
        day = row.moment.astimezone(UTC).date()
        if not is_over(day, now):
            return
        part = Cut(day, row.sequence, row.sequence, row.occurred_at, row.occurred_at)
    if part is not None:
        yield part


def midnight(day: date) -> datetime:
    """When a day begins, in UTC."""
    return datetime.combine(day, time.min, UTC)


def is_over(day: date, now: datetime) -> bool:
    """Whether a day has ended, and an hour more has passed for what was on its way."""
    return midnight(day) + timedelta(days=1) + GRACE <= now


def _gap(sequence: int) -> str:
    return (
        f"record {sequence} is missing, so nothing behind it is archived. Run `manage.py audit_log "
        "verify`."
    )
