"""The stored rows of a stream as they are, whatever somebody wrote into them behind the ORM.

SQLite keeps any value in any column, and an attacker may drop constraints: a row that cannot be
read must be named like any other, and must not stop those behind it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from django.db import DataError, OperationalError
from django.db.models import CharField, Q, QuerySet
from django.db.models.functions import Cast

from audit_log.ledger.entries import ENTRY_COLUMNS
from audit_log.models import Record

COLUMNS: Final = (*ENTRY_COLUMNS, "salt")
_CHUNK: Final = 1_000
_UNREADABLE: Final = (
    *(ValueError, TypeError, OverflowError, RecursionError),
    *(DataError, OperationalError),
)
_UNDECODABLE: Final = "decode"  # sqlite3: "Could not decode to UTF-8 column ..."


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row whose columns do not load, and why."""

    sequence: Any
    id: str | None
    why: str


Row = dict[str, Any] | Unreadable


def numbered(stream: str, start: int, size: int, using: str) -> Iterator[Row]:
    """The rows numbered `start` to `size` - 1 in that order: columns by name, a chunk at a time.

    By number and not by cursor, so that no transaction stays open. Rows of the same number come
    one after the other.
    """
    while start < size:
        rows = Record.objects.using(using).filter(
            stream=stream, sequence__gte=start, sequence__lt=size
        )
        chunk = _read(rows.order_by("sequence"))
        if len(chunk) < _CHUNK:
            yield from chunk
            return
        last = sequence_of(chunk[-1])
        before = [row for row in chunk if sequence_of(row) != last]
        if type(last) is int and before:
            yield from before  # the last number may go on in the next chunk
            start = last
        else:
            yield from chunk
            start = int(last) + 1


def outside(stream: str, using: str, first: Any, size: Any | None) -> Iterator[Row]:
    """The rows of a stream whose number is not in `first` to `size` - 1; without a size, all.

    Both may be subqueries: rows and numbers are then those of one moment.
    """
    rows = Record.objects.using(using).filter(stream=stream)
    if size is not None:
        rows = rows.filter(Q(sequence__lt=first) | Q(sequence__gte=size))
    for sequence, id_ in _names(rows.order_by("sequence")).iterator(chunk_size=_CHUNK):
        yield Unreadable(sequence, id_, "")


def sequence_of(row: Row) -> Any:
    """The number of a row, of whatever type it is."""
    return row.sequence if isinstance(row, Unreadable) else row["sequence"]


def name_of(row: Row) -> tuple[int | None, str | None]:
    """What a finding calls a row: its number and its id."""
    sequence = sequence_of(row)
    id_ = row.id if isinstance(row, Unreadable) else row["id"]
    return sequence if type(sequence) is int else None, _as_id(id_)


def _as_id(value: object) -> str | None:
    try:
        return str(uuid.UUID(str(value)))
    except ValueError:
        return None if value is None else str(value)


def _read(rows: QuerySet[Record]) -> list[Row]:
    try:
        return list(rows.values(*COLUMNS)[:_CHUNK])
    except _UNREADABLE as error:
        _raise_unless_the_rows(error)
    return [_read_one(rows, *name) for name in _names(rows)[:_CHUNK]]


def _names(rows: QuerySet[Record]) -> QuerySet[Record, tuple[Any, str]]:
    """Number and id of rows, without anything that could fail to load."""
    return rows.annotate(text=Cast("id", CharField())).values_list("sequence", "text")


def _read_one(rows: QuerySet[Record], sequence: Any, id_: str) -> Row:
    if type(sequence) is not int:
        return Unreadable(sequence, id_, "its number is not an integer")
    try:
        same = list(rows.filter(sequence=sequence).values(*COLUMNS)[:2])
    except _UNREADABLE as error:
        _raise_unless_the_rows(error)
        return Unreadable(sequence, id_, f"{type(error).__name__}: {error}")
    return same[0] if len(same) == 1 else Unreadable(sequence, id_, "its number is not its own")


def _raise_unless_the_rows(error: Exception) -> None:
    """A server that went away is no finding."""
    if isinstance(error, OperationalError) and _UNDECODABLE not in str(error):
        raise error
