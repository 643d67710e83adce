"""Streams with a past, for the tests of archive and purge."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from audit_log.events import Event, emitter
from audit_log.ledger import checkpoints, heads
from audit_log.models import ArchivePart, Record
from audit_log.retention.cutting import GRACE
from tests.ledger.building import a_full_event, an_event, write


def noon() -> datetime:
    """Noon of the day that no archive has closed yet."""
    day = datetime.now(UTC) - GRACE
    return day.replace(hour=12, minute=0, second=0, microsecond=0)


def event_of(moment: datetime, **values: Any) -> Event:
    """An event of some moment, with the least in it."""
    return an_event(id=emitter().id_for(moment), occurred_at=moment, **values)


def full_event_of(moment: datetime, n: int) -> Event:
    """An event of some moment, with something in every column."""
    return a_full_event(n, id=emitter().id_for(moment), occurred_at=moment)


def days(*counts: tuple[int, int], stream: str = heads.DEFAULT) -> None:
    """`(days ago, how many)` records each, in this order, and a checkpoint over them."""
    today = noon()
    for ago, count in counts:
        day = today - timedelta(days=ago)
        moments = [day + timedelta(milliseconds=n) for n in range(count)]
        for first in range(0, count, 500):
            write(
                [event_of(m, changes={"n": [None, m.microsecond]}) for m in moments[first:][:500]],
                stream,
            )
    checkpoints.sign_all()


def parts(stream: str = heads.DEFAULT) -> list[ArchivePart]:
    return list(ArchivePart.objects.filter(stream=stream).order_by("first"))


def states(stream: str = heads.DEFAULT) -> list[str]:
    return [part.state for part in parts(stream)]


def ranges(stream: str = heads.DEFAULT) -> list[tuple[int, int]]:
    return [(part.first, part.last) for part in parts(stream)]


def numbers(stream: str = heads.DEFAULT) -> list[int]:
    """The records of a stream that are in the database."""
    rows = Record.objects.filter(stream=stream).order_by("sequence")
    return list(rows.values_list("sequence", flat=True))


def bookkept(action: str) -> list[Any]:
    """The data of the bookkeeping records of an action, in order."""
    rows = Record.objects.filter(stream=heads.BOOKKEEPING, action=action).order_by("sequence")
    return list(rows.values_list("data", flat=True))


def files(folder: Path, pattern: str = "*") -> list[Path]:
    return sorted(path for path in folder.rglob(pattern) if path.is_file())
