"""Records in their order: of one target, newest first; of one stream, by number and without gaps.

A stream's numbers are given and committed under the lock of its head, so whoever asks for what
follows the last number seen skips nothing and meets nothing twice, however many relays write.
"""

from __future__ import annotations

from itertools import count, takewhile

from django.db.models import QuerySet

from audit_log.conf import get_settings
from audit_log.ledger.heads import BOOKKEEPING, DEFAULT
from audit_log.models import Record, Stream
from audit_log.router import ledger_alias


class UnknownStream(LookupError):
    """There is no stream of that name."""


class Gap(LookupError):
    """The records that follow are not there; `resume` is the number to go on after."""

    def __init__(self, message: str, resume: int) -> None:
        super().__init__(message)
        self.resume = resume


def of_target(type_: str, id_: str) -> QuerySet[Record]:
    """The records of an object by its type and id as they are stored, newest first."""
    rows = Record.objects.using(ledger_alias()).filter(target_type=type_, target_id=id_)
    return rows.order_by("-id")


def following(stream: str, after: int, limit: int) -> list[Record]:
    """The next `limit` records of a stream behind number `after` (-1: from the first).

    Raises UnknownStream; Gap where the next ones were purged, or `after` is beyond the end.
    """
    using = ledger_alias()
    behind = Record.objects.using(using).filter(stream=stream, sequence__gt=after)
    rows = list(behind.order_by("sequence")[:limit])
    # Read after the rows: what a purge took away in between is then known.
    head = Stream.objects.using(using).filter(pk=stream).first()
    if head is None and stream not in {DEFAULT, BOOKKEEPING, *get_settings().streams}:
        raise UnknownStream(f"There is no stream {stream!r}.")
    head = head or Stream(name=stream)  # nothing was recorded in it yet
    unbroken = [
        row
        for row, _ in takewhile(
            lambda pair: pair[0].sequence == pair[1], zip(rows, count(after + 1), strict=False)
        )
    ]
    if not unbroken:
        _refuse_gap(head, after, rows[0].sequence if rows else None)
    return unbroken


def _refuse_gap(head: Stream, after: int, found: int | None) -> None:
    if after >= head.size:
        raise Gap(
            f"Stream {head.name!r} has {head.size} records, none with number {after}. Was it "
            "restored from a backup?",
            head.size - 1,
        )
    resume = max(head.purged, found or 0) - 1
    if resume > after:
        why = "were purged from the database" if head.purged > after + 1 else "are missing"
        raise Gap(
            f"Records {after + 1} to {resume} of stream {head.name!r} {why}. Those behind them "
            f"follow number {resume}.",
            resume,
        )
