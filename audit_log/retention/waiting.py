"""What is past its days and still in the database, and what keeps it there."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, NamedTuple

from audit_log.conf import get_settings
from audit_log.models import ArchivePart, Record, Stream
from audit_log.reading.search import first_id
from audit_log.retention import policy
from audit_log.retention.clock import database_now

# A day has to end, and the next night's run to come.
SLACK: Final = timedelta(days=3)
_SHOWN: Final = 3


class Waiting(NamedTuple):
    """About how many records of a stream should have been purged by now; the oldest of them."""

    stream: str
    records: int
    since: datetime


def overdue(head: Stream, using: str) -> Waiting | None:
    """What of a stream is past its days, if anything: one query, and two more where there is."""
    rows = Record.objects.using(using).filter(stream=head.name)
    oldest = rows.filter(sequence=head.purged).values_list("recorded_at", flat=True).first()
    if oldest is None:
        return None
    before = policy.purge_before(head.name, database_now(using)) - SLACK
    if oldest >= before:
        return None
    # Ids are in the order of time: one look into the primary key, and no counting.
    newest = rows.filter(pk__lt=first_id(before)).order_by("-pk")
    last = newest.values_list("sequence", flat=True).first()
    return Waiting(head.name, 1 if last is None else last - head.purged + 1, oldest)


def in_words(found: Waiting) -> str:
    """The same for an operator: how many, since when, and what to do."""
    days = get_settings().retention_of(found.stream).database.days
    text = (
        f"About {found.records} records of stream {found.stream!r}, the oldest of "
        f"{found.since:%Y-%m-%d}, are past their {days} days in the database"
    )
    if policy.is_off():
        return f"{text}. {policy.NOT_SET}"
    return (
        f"{text}: does beat run audit_log.retention, and do `manage.py audit_log archive` and "
        "`purge` succeed?"
    )


def failures(stream: str, using: str) -> tuple[str, ...]:
    """Parts whose last step failed, in words; a few of them."""
    rows = ArchivePart.objects.using(using).filter(stream=stream).exclude(error="")
    return tuple(f"Part {p} ({p.state}): {p.error}" for p in rows.order_by("first")[:_SHOWN])
