"""Which ranges are to be archived: the parts that are cut, each in the database before its file."""

from __future__ import annotations

from collections.abc import Iterator

from django.db import IntegrityError, transaction

from audit_log.models import ArchivePart, Record, Stream
from audit_log.retention.clock import database_now
from audit_log.retention.cutting import Cut, Row, cuts

_PAGE = 5_000


def plan(stream: str, using: str) -> list[ArchivePart]:
    """Cut what is closed and in no part yet. Two runs at once make one plan.

    Each part begins where the last one ends, and no two can begin at the same record: who comes
    second starts over from what the first has planned. Raises RetentionRefused for a gap.
    """
    planned: list[ArchivePart] = []
    start = next_sequence(stream, using)
    while True:
        try:
            for cut in closed(stream, start, using):
                planned.append(_create(stream, cut, using))
                start = cut.last + 1
        except IntegrityError:
            if (elsewhere := next_sequence(stream, using)) == start:
                raise
            start = elsewhere
        else:
            return planned


def next_sequence(stream: str, using: str) -> int:
    """The first record that is in no part."""
    last = ArchivePart.objects.using(using).filter(stream=stream).order_by("-first").first()
    if last is not None:
        return last.last + 1
    return Stream.objects.using(using).get(pk=stream).purged


def closed(stream: str, start: int, using: str) -> Iterator[Cut]:
    """The parts that the records from `start` on give."""
    return cuts(_rows(stream, start, using), start, database_now(using))


def _rows(stream: str, start: int, using: str) -> Iterator[Row]:
    """A page at a time, by number: no transaction stays open."""
    size = Stream.objects.using(using).get(pk=stream).size
    columns = ("sequence", "occurred_at", "recorded_at")
    while start < size:
        rows = Record.objects.using(using).filter(
            stream=stream, sequence__gte=start, sequence__lt=size
        )
        page = rows.order_by("sequence").values_list(*columns)[:_PAGE]
        found = [Row(*row) for row in page]
        yield from found
        if len(found) < _PAGE:
            return
        start = found[-1].sequence + 1


def _create(stream: str, cut: Cut, using: str) -> ArchivePart:
    with transaction.atomic(using=using):  # so that a conflict ends nothing else
        return ArchivePart.objects.using(using).create(
            stream=stream,
            day=cut.day,
            first=cut.first,
            last=cut.last,
            count=cut.count,
            min_time=cut.min_time,
            max_time=cut.max_time,
            planned_at=database_now(using),
        )
