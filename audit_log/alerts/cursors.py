"""How far the evaluation has come in each stream, and who is evaluating now."""

from __future__ import annotations

from bisect import bisect_left
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from audit_log.models import Cursor, Record, Stream

READER: Final = "alerts"
# A ledger that was there before its alerts begins with its last hour: nothing of a fresh install
# is missed, and years of records raise no storm.
_FRESH: Final = timedelta(hours=1)


def behind(using: str) -> dict[str, int]:
    """The streams with records that were not looked at, and how long each is. Two queries."""
    sizes = dict(Stream.objects.using(using).order_by("name").values_list("name", "size"))
    places = dict(_cursors(using).values_list("stream", "sequence"))
    for name in sizes.keys() - places.keys():
        _begin(name, using)
    return {name: size for name, size in sizes.items() if places.get(name, -1) < size}


def lock(stream: str, using: str) -> int:
    """The place in `stream`, with every cursor locked: a rule counts over all streams at once."""
    rows = _cursors(using).select_for_update().order_by("stream")
    return dict(rows.values_list("stream", "sequence"))[stream]


def move(stream: str, sequence: int, using: str) -> None:
    """Go on to `sequence`, never back."""
    rows = _cursors(using).filter(stream=stream, sequence__lt=sequence)
    rows.update(sequence=sequence, updated_at=_now())


def _cursors(using: str) -> QuerySet[Cursor]:
    return Cursor.objects.using(using).filter(reader=READER)


def _begin(stream: str, using: str) -> None:
    head = Stream.objects.using(using).get(pk=stream)
    numbers = range(head.purged, head.size)
    since = _now() - _FRESH
    # `recorded_at` never goes back within a stream: a search by halves.
    fresh = bisect_left(numbers, since, key=lambda number: _recorded_at(stream, number, using))
    place = Cursor(reader=READER, stream=stream, sequence=head.purged + fresh, updated_at=_now())
    with suppress(IntegrityError), transaction.atomic(using=using):  # another may be faster
        place.save(using=using, force_insert=True)


def _recorded_at(stream: str, number: int, using: str) -> datetime:
    rows = Record.objects.using(using).filter(stream=stream, sequence__gte=number)
    moment = rows.order_by("sequence").values_list("recorded_at", flat=True).first()
    return _now() if moment is None else moment


def _now() -> datetime:
    return datetime.now(UTC)
