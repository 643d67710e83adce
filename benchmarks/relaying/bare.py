"""The floor: the same rows into the same table by nothing but the database's own bulk statement.

COPY on PostgreSQL, an INSERT of many rows elsewhere; 500 rows a commit. The rows are those that
the relay stored last, under new ids and as another stream.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any, Final

from django.db import connections, transaction

from audit_log.events import emitter
from audit_log.models import Record

ROWS_A_COMMIT: Final = 500
_STREAM: Final = "zz-bare"  # behind "default", as what is appended last is in every index
_COLUMNS: Final = [str(field.column) for field in Record._meta.concrete_fields]
_AT_ID, _AT_STREAM, _AT_SEQUENCE = (_COLUMNS.index(c) for c in ("id", "stream", "sequence"))


def bare(using: str, rows: int, start: int) -> float:
    """Seconds for so many rows (a multiple of 500, no more than there are records)."""
    copies = connections[using].vendor == "postgresql"
    read, write = (_read_copied, _copy) if copies else (_read, _insert)
    portions = _portions(read(using, rows), start)
    prepared = [_encoded(portion) if copies else portion for portion in portions]
    began = time.perf_counter()
    for portion in prepared:
        with transaction.atomic(using=using):
            write(using, portion)
    return time.perf_counter() - began


def _portions(rows: list[list[Any]], start: int) -> list[list[list[Any]]]:
    for n, row in enumerate(rows, start):
        row[_AT_ID] = _id_like(row[_AT_ID])
        row[_AT_STREAM] = _STREAM
        row[_AT_SEQUENCE] = str(n) if isinstance(row[_AT_SEQUENCE], str) else n
    return [rows[n : n + ROWS_A_COMMIT] for n in range(0, len(rows), ROWS_A_COMMIT)]


def _id_like(old: object) -> object:
    new, _ = emitter().stamp()
    if isinstance(old, uuid.UUID):
        return new
    return str(new) if "-" in str(old) else new.hex


def _names(using: str) -> str:
    return ", ".join(map(connections[using].ops.quote_name, _COLUMNS))


def _read_copied(using: str, rows: int) -> list[list[Any]]:
    sql = f"SELECT {_names(using)} FROM audit_log_record WHERE stream = 'default'"  # noqa: S608 - our own names
    sql = f"COPY ({sql} ORDER BY sequence DESC LIMIT {rows}) TO STDOUT"
    with connections[using].cursor() as cursor, cursor.copy(sql) as copy:
        data = b"".join(bytes(piece) for piece in copy)
    return [line.split("\t") for line in data.decode().splitlines()]


def _encoded(portion: list[list[Any]]) -> bytes:
    return "".join("\t".join(row) + "\n" for row in portion).encode()


def _copy(using: str, portion: Any) -> None:
    sql = f"COPY audit_log_record ({_names(using)}) FROM STDIN"
    with connections[using].cursor() as cursor, cursor.copy(sql) as copy:
        copy.write(portion)


def _read(using: str, rows: int) -> list[list[Any]]:
    with connections[using].cursor() as cursor:
        cursor.execute(
            f"SELECT {_names(using)} FROM audit_log_record WHERE stream = 'default' "  # noqa: S608
            f"ORDER BY sequence DESC LIMIT {rows}"
        )
        return [list(row) for row in cursor.fetchall()]


def _insert(using: str, portion: Any) -> None:
    _INSERTS[connections[using].vendor](using, portion)


def _insert_mysql(using: str, portion: Sequence[Sequence[Any]]) -> None:
    place = f"({', '.join(['%s'] * len(_COLUMNS))})"
    values = ", ".join([place] * len(portion))
    with connections[using].cursor() as cursor:
        cursor.execute(
            f"INSERT INTO audit_log_record ({_names(using)}) VALUES {values}",  # noqa: S608
            [value for row in portion for value in row],
        )


def _insert_sqlite(using: str, portion: Sequence[Sequence[Any]]) -> None:
    place = ", ".join(["?"] * len(_COLUMNS))
    connections[using].connection.executemany(
        f"INSERT INTO audit_log_record ({_names(using)}) VALUES ({place})",  # noqa: S608
        portion,
    )


_INSERTS: Final[dict[str, Callable[[str, Any], None]]] = {
    "mysql": _insert_mysql,
    "sqlite": _insert_sqlite,
}
