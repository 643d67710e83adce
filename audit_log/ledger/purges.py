"""What the log itself says was purged.

A purge is announced before the first row goes: `audit_log.purged`, in the bookkeeping stream, says
how far each stream is purged by then (`boundaries`). So every record that is not there any more is
either accounted for here, or somebody deleted it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from django.db.models import Max

from audit_log.ledger import heads
from audit_log.ledger.findings import Findings
from audit_log.ledger.on_record import UNREADABLE, is_in_tree, waiting
from audit_log.models import ArchivePart, Record, Stream

ACTION: Final = "audit_log.purged"
BOUNDARIES: Final = "boundaries"


def boundaries(using: str) -> dict[str, int]:
    """By stream: the first record that is neither purged nor being purged."""
    found = dict(Stream.objects.using(using).values_list("name", "purged"))
    parts = ArchivePart.objects.using(using).filter(state=ArchivePart.State.PURGING)
    for stream, last in parts.order_by().values_list("stream").annotate(last=Max("last")):
        found[stream] = max(found.get(stream, 0), last + 1)
    return found


def accounted_for(stream: str, purged: int, using: str) -> int:
    """How many records, from the first on, the purges on record account for.

    Looks into the ledger, and into the outbox only where that does not reach `purged`.
    """
    on_record = _in_ledger(stream, using)
    if on_record < purged:
        # The ledger again, and last: the relay may have moved the batch between the two looks.
        on_record = max(on_record, _in_outbox(stream, using), _in_ledger(stream, using))
    return on_record


def is_sound(purged: object, size: int) -> bool:
    """Whether `purged` can be how many of `size` records are purged."""
    return type(purged) is int and 0 <= purged <= size


def purged_now(stream: str, using: str) -> int:
    """What the head says by now."""
    now = Stream.objects.using(using).filter(pk=stream).values_list("purged", flat=True).first()
    return now if type(now) is int else 0


def account_for(purged: int, found: Findings) -> int:
    """Find what is purged, but on no record. Returns how much is on record."""
    on_record = accounted_for(found.name, purged, found.using)
    if on_record < purged:
        message = f"up to record {purged - 1} all were purged, but no purge is on record"
        found.find("missing", message, on_record)
    return on_record


def where_records_begin(head: Stream, size: int, found: Findings) -> int:
    """The first record that is to be there. A head that says something else is found."""
    purged = head.purged
    if not is_sound(purged, size):
        found.find("head", f"the head was altered: it says that {purged!r} records are purged")
        purged = 0
    on_record = account_for(purged, found)
    first = _first_from(purged, found) if purged < on_record else purged
    if first == purged or (first is not None and first < on_record):
        return purged  # as it is to be, or some are being purged: what is missing will be named
    now = purged_now(found.name, found.using)
    if now == purged:
        found.find("head", f"the head was altered: {on_record} records are purged, not {now}")
    return min(max(now, on_record), size) if is_sound(now, size) else on_record


def _first_from(sequence: int, found: Findings) -> int | None:
    rows = Record.objects.using(found.using).filter(stream=found.name, sequence__gte=sequence)
    return rows.order_by("sequence").values_list("sequence", flat=True).first()


def _in_ledger(stream: str, using: str) -> int:
    rows = Record.objects.using(using).filter(stream=heads.BOOKKEEPING, action=ACTION)
    read = _reader(stream)
    try:
        found = [(read(data), pk) for pk, data in rows.values_list("pk", "data")]
    except UNREADABLE:  # a row that somebody altered does not hide the others
        found = [(_one(read, rows.filter(pk=pk)), pk) for pk in rows.values_list("pk", flat=True)]
    for boundary, pk in sorted(found, reverse=True):
        if boundary and is_in_tree(rows.filter(pk=pk), using):
            return boundary
    return 0


def _one(read: Callable[[object], int], row: Any) -> int:
    try:
        return read(row.values_list("data", flat=True).first())
    except UNREADABLE:
        return 0


def _in_outbox(stream: str, using: str) -> int:
    return max((_reader(stream)(event.data) for event in waiting(ACTION, using)), default=0)


def _reader(stream: str) -> Callable[[object], int]:
    def read(data: object) -> int:
        by_stream = data.get(BOUNDARIES) if isinstance(data, Mapping) else None
        value = by_stream.get(stream) if isinstance(by_stream, Mapping) else None
        return value if type(value) is int else 0

    return read
