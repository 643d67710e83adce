"""Records into their table, by the fastest statement that each database has.

COPY on PostgreSQL, INSERT of many rows on MariaDB and MySQL, one prepared INSERT on SQLite. Rows
are encoded before the stream's lock is taken, all but the number and the moment.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from operator import attrgetter, itemgetter
from typing import Any, Final, NamedTuple, Protocol

import msgspec
from django.db import connections, models

from audit_log.events import format_time
from audit_log.ledger.entries import Spelling
from audit_log.models import Record

_FIELDS: Final = {str(field.attname): field for field in Record._meta.concrete_fields}
_LATE: Final = ("sequence", "recorded_at")
_EARLY: Final = tuple(name for name in _FIELDS if name not in _LATE)
_STATEMENT_ROWS: Final = 500
_STATEMENT_BYTES: Final = 2_000_000  # escaped, it must fit into MariaDB's packet of 16 MB
_json = msgspec.json.Encoder()


class Row(NamedTuple):
    """A row but for its number and moment, in the words of its database."""

    values: Any
    bytes: int


class Table(Protocol):
    """The table of records in one kind of database."""

    def encode(self, columns: Mapping[str, Any], spelling: Spelling) -> Row:
        """A row, ready but for what is known only under the lock."""
        ...

    def insert(self, rows: Sequence[tuple[int, Row]], recorded_at: datetime) -> None:
        """Rows under their numbers, within whatever transaction is open."""
        ...


@lru_cache(maxsize=32)
def _table(using: str, vendor: str) -> Table:
    return _TABLES.get(vendor, _Values)(using)


def table(using: str) -> Table:
    """The table of records in the database `using`."""
    return _table(using, connections[using].vendor)


class _Copied:
    """PostgreSQL: COPY, in its text format.

    Nulls are empty there, so that texts need only be joined; no column has an empty text, for
    `envelope` makes a null of it.
    """

    def __init__(self, using: str) -> None:
        self._using = using
        into = _into(using, (*_TEXTS, *_LATE, *_SPELLED, *_NUMBERS, *_JSON, *_BYTES))
        self._sql = f"COPY {into} FROM STDIN WITH (NULL '')"

    def encode(self, columns: Mapping[str, Any], spelling: Spelling) -> Row:
        texts = [text or "" for text in _pick_texts(columns)]
        together = "".join(texts)
        if not together.isprintable() or "\\" in together:
            texts = [_escaped(text) for text in texts]
        numbers = ["" if number is None else str(number) for number in _pick_numbers(columns)]
        json = b"\t".join([getattr(spelling, name) for name in _JSON]).decode()
        values = [f"\\\\x{value.hex()}" if value else "" for value in _pick_bytes(columns)]
        others = (spelling.id, spelling.occurred_at, *numbers, json.replace("\\", "\\\\"), *values)
        return Row(("\t".join(texts), "\t".join(others)), 0)

    def insert(self, rows: Sequence[tuple[int, Row]], recorded_at: datetime) -> None:
        moment = format_time(recorded_at)
        lines = [
            f"{texts}\t{number}\t{moment}\t{others}\n" for number, ((texts, others), _) in rows
        ]
        connection = connections[self._using]
        with connection.cursor() as cursor, connection.wrap_database_errors:
            if hasattr(cursor, "copy"):
                with cursor.copy(self._sql) as copy:
                    copy.write("".join(lines))
            else:  # psycopg2
                cursor.copy_expert(self._sql, io.StringIO("".join(lines)))


def _escaped(text: str) -> str:
    for plain, escaped in (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r")):
        text = text.replace(plain, escaped)
    return text


def _early(kind: type[models.Field[Any, Any]]) -> tuple[str, ...]:
    return tuple(name for name in _EARLY if isinstance(_FIELDS[name], kind))


_TEXTS: Final = _early(models.CharField)
_NUMBERS: Final = _early(models.IntegerField)
_JSON: Final = _early(models.JSONField)
_BYTES: Final = _early(models.BinaryField)
_SPELLED: Final = ("id", "occurred_at")
_pick_texts = itemgetter(*_TEXTS)
_pick_numbers = itemgetter(*_NUMBERS)
_pick_bytes = itemgetter(*_BYTES)
_pick_early = itemgetter(*_EARLY)


class _Values:
    """MariaDB and MySQL: INSERT of many rows. Any other database takes it, too."""

    def __init__(self, using: str) -> None:
        self._using = using
        self._into = _into(using, (*_LATE, *_EARLY))
        self._encoders = [_stored(_FIELDS[name], using) for name in _EARLY]
        self._places = [_place(_FIELDS[name], using) for name in _EARLY]

    def encode(self, columns: Mapping[str, Any], spelling: Spelling) -> Row:
        places, values, size = [], [], 0
        encoders = zip(_pick_early(columns), self._encoders, self._places, strict=True)
        for value, encoded, place in encoders:
            if value is None:
                places.append("NULL")  # most are: the driver need not look at them
                continue
            stored = encoded(value)
            places.append(place)
            values.append(stored)
            if isinstance(stored, (str, bytes)):
                size += len(stored)
        return Row((", ".join(places), values), size)

    def insert(self, rows: Sequence[tuple[int, Row]], recorded_at: datetime) -> None:
        connection = connections[self._using]
        moment = connection.ops.adapt_datetimefield_value(recorded_at)
        with connection.cursor() as cursor:
            for portion in _portions(rows):
                places = ", ".join([f"(%s, %s, {row.values[0]})" for _, row in portion])
                values: list[Any] = []
                for number, row in portion:
                    values += (number, moment, *row.values[1])
                cursor.execute(f"INSERT INTO {self._into} VALUES {places}", values)  # noqa: S608 - our own names


def _place(field: models.Field[Any, Any], using: str) -> str:
    """What stands for a value in the statement: MariaDB wants to be told of bytes."""
    is_binary = isinstance(field, models.BinaryField) and connections[using].vendor == "mysql"
    return "_binary %s" if is_binary else "%s"


def _portions(rows: Iterable[tuple[int, Row]]) -> Iterator[list[tuple[int, Row]]]:
    """As many rows as one statement can carry."""
    portion: list[tuple[int, Row]] = []
    total = 0
    for number, row in rows:
        full = len(portion) >= _STATEMENT_ROWS or total + row.bytes > _STATEMENT_BYTES
        if portion and full:
            yield portion
            portion, total = [], 0
        portion.append((number, row))
        total += row.bytes
    if portion:
        yield portion


class _Prepared:
    """SQLite: one statement, run for each row."""

    def __init__(self, using: str) -> None:
        self._using = using
        places = ", ".join(["%s"] * len(_FIELDS))
        self._sql = f"INSERT INTO {_into(using, (*_LATE, *_EARLY))} VALUES ({places})"  # noqa: S608 - our own names
        self._encoders = [_stored(_FIELDS[name], using) for name in _EARLY]

    def encode(self, columns: Mapping[str, Any], spelling: Spelling) -> Row:
        values = [
            None if value is None else encoded(value)
            for value, encoded in zip(_pick_early(columns), self._encoders, strict=True)
        ]
        return Row(values, 0)

    def insert(self, rows: Sequence[tuple[int, Row]], recorded_at: datetime) -> None:
        connection = connections[self._using]
        moment = connection.ops.adapt_datetimefield_value(recorded_at)
        with connection.cursor() as cursor:
            cursor.executemany(self._sql, [(number, moment, *row.values) for number, row in rows])


def _stored(field: models.Field[Any, Any], using: str) -> Callable[[Any], Any]:
    """How a value of the field is handed to the driver, as Django would."""
    if isinstance(field, models.JSONField):
        return lambda value: _json.encode(value).decode()
    if isinstance(field, models.BinaryField):
        return bytes
    if isinstance(field, models.DateTimeField):
        # Of a connection of its own, never opened: a thread's would be kept from being closed.
        adapt: Callable[[Any], Any] = connections.create_connection(
            using
        ).ops.adapt_datetimefield_value
        return adapt
    if isinstance(field, models.UUIDField):
        return attrgetter("hex")  # which native types take as well
    return _as_it_is


def _as_it_is(value: Any) -> Any:
    return value


def _into(using: str, names: Iterable[str]) -> str:
    """The table and its columns in an order of their own."""
    quote = connections[using].ops.quote_name
    columns = ", ".join(quote(str(_FIELDS[name].column)) for name in names)
    return f"{quote(Record._meta.db_table)} ({columns})"


_TABLES: Final[dict[str, Callable[[str], Table]]] = {
    "postgresql": _Copied,
    "sqlite": _Prepared,
}
