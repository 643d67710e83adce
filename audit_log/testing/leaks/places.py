"""Where a secret could land, and how all that is there is read, raw.

Some places show what the keys open. What is promised no more than to be sealed may be there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from django.core import mail
from django.db import connections

from audit_log.conf import get_settings
from audit_log.models import Record
from audit_log.reading.contents import contents
from audit_log.router import ledger_alias
from audit_log.testing.leaks.secrets import Promise

Piece = tuple[str, bytes]
"""Where in the place, and what stands there."""

NOTHING: Final[frozenset[Promise]] = frozenset()
LABELS: Final = frozenset({Promise.LABEL})
OPENED: Final = frozenset({Promise.LABEL, Promise.SEALED})
_PREFIX: Final = "audit_log_"
_ROWS: Final = 1_000


@dataclass(frozen=True)
class Place:
    """A name for people, and what reads all that is there at the moment it is called."""

    name: str
    read: Callable[[], Iterable[Piece]]
    shows: frozenset[Promise] = NOTHING
    """What may be there, because it is meant to be shown there."""
    close: Callable[[], None] = field(default=lambda: None)
    """Called when the watch ends."""


def as_bytes(value: object) -> bytes:
    """Anything a driver, a client or a library hands over, as it would stand in a file."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    return json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass")


def tables(*databases: str) -> Place:
    """Every column of every table of ours, in the databases named; without a name, the ledger's."""

    def read() -> Iterator[Piece]:
        for alias in databases or (ledger_alias(),):
            connection = connections[alias]
            with connection.cursor() as cursor:
                names = connection.introspection.table_names(cursor)
            for name in names:
                if name.startswith(_PREFIX):
                    yield from _rows_of(alias, name)

    return Place("a table", read)


def _rows_of(alias: str, table: str) -> Iterator[Piece]:
    connection = connections[alias]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")  # noqa: S608 - quoted
        columns = [column[0] for column in cursor.description]
        while rows := cursor.fetchmany(_ROWS):
            for row in rows:
                for column, value in zip(columns, row, strict=True):
                    if value is not None:
                        yield f"{alias}: {table}.{column}, row {row[0]}", as_bytes(value)


def opened(using: str | None = None) -> Place:
    """The contents of every record, with all that the keys open."""

    def read() -> Iterator[Piece]:
        rows = Record.objects.using(using or ledger_alias()).order_by("stream", "sequence")
        for row in rows.iterator(chunk_size=_ROWS):
            for part, value in contents(row).items():
                yield f"{part} of {row.stream}/{row.sequence} ({row.action})", as_bytes(value)

    return Place("the opened contents of a record", read, OPENED)


def files(*paths: str | Path, name: str = "a file") -> Place:
    """These files, and all files under these folders: their names, and what is in them."""

    def read() -> Iterator[Piece]:
        for path in map(Path, paths):
            for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                if file.is_file():
                    yield f"the name of {file}", str(file).encode()
                    yield str(file), file.read_bytes()

    return Place(name, read)


def spool() -> Place:
    """The files of the spool folder."""

    def read() -> Iterator[Piece]:
        yield from files(get_settings().spool_dir).read()

    return Place("the spool", read)


def mails() -> Place:
    """What Django's test runner kept of the mails: encoded as sent, and in words."""

    def read() -> Iterator[Piece]:
        for number, message in enumerate(getattr(mail, "outbox", ())):
            yield f"mail {number}", message.message().as_bytes()
            yield f"mail {number}", f"{message.subject}\n{message.body}".encode()

    return Place("a mail", read)


def values(name: str, *held: object, opened: bool = False) -> Place:
    """Whatever else a test holds: the result of a task, what a process printed, a cache's value.

    What is callable is called each time the place is looked at.
    """

    def read() -> Iterator[Piece]:
        for number, value in enumerate(held):
            found: Any = value() if callable(value) else value
            yield f"value {number}", as_bytes(found)

    return Place(name, read, OPENED if opened else NOTHING)
