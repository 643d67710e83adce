"""How `benchmarks.filling` does it; of its own, since models need Django set up first."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from audit_log.ledger.heads import DEFAULT
from audit_log.ledger.merkle import TILE_WIDTH, Frontier
from audit_log.models import Record, Stream, Tile
from benchmarks.filling_sql import inserting

Progress = Callable[[str], None]

SPAN: Final = timedelta(days=90)
_CHUNK: Final = 250_000  # rows an INSERT: some seconds, so that progress is seen
_TILES: Final = 256  # full ones of a chunk of leaves


def fill(using: str, records: int, *, progress: Progress) -> None:
    """As `benchmarks.filling.fill`."""
    if Stream.objects.using(using).exists() or Record.objects.using(using).exists():
        raise ValueError(f"The ledger of {using!r} is not empty.")
    connection = connections[using]
    end = datetime.now(UTC) - timedelta(minutes=1)
    with (
        _told(progress, "records and indexes"),
        _in_bulk(connection),
        _without_indexes(connection, progress),
    ):
        for first in range(0, records, _CHUNK):
            last = min(first + _CHUNK, records) - 1
            sql = inserting(connection, first, last, end=end, span=SPAN, records=records)
            with connection.cursor() as cursor:
                cursor.execute(sql)
            progress(f"{last + 1:,} records")
    with _told(progress, "tiles"):
        frontier = _grow_tree(using, records)
    newest = Record.objects.using(using).filter(stream=DEFAULT, sequence=records - 1)
    head = Stream(name=DEFAULT, size=records, partial=frontier.partial)
    head.recorded_at = newest.values_list("recorded_at", flat=True).get() if records else None
    head.save(using=using, force_insert=True)
    with _told(progress, "statistics"):
        _settle(connection)


@contextmanager
def _told(progress: Progress, what: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    progress(f"{what}: {time.monotonic() - started:.1f} s")


def _grow_tree(using: str, records: int) -> Frontier:
    """Full tiles into their table; what is left is for the head."""
    frontier = Frontier()
    step = _TILES * TILE_WIDTH
    for first in range(0, records, step):
        leaves = [sha256(b"%d" % n).digest() for n in range(first, min(first + step, records))]
        rows = [
            Tile(stream=DEFAULT, level=tile.level, index=tile.index, hashes=tile.hashes)
            for tile in frontier.extend(leaves)
        ]
        Tile.objects.using(using).bulk_create(rows, batch_size=100)  # 8 KB each: MariaDB's packet
    return frontier


@contextmanager
def _without_indexes(connection: BaseDatabaseWrapper, progress: Progress) -> Iterator[None]:
    """Those that a row lands in at random; what rises with the rows stays."""
    with connection.schema_editor() as editor:
        for index in Record._meta.indexes:
            editor.remove_index(Record, index)
    yield
    with _told(progress, "indexes"):
        _add_indexes(connection)


def _add_indexes(connection: BaseDatabaseWrapper) -> None:
    with connection.schema_editor() as editor:
        if connection.vendor != "mysql":
            for index in Record._meta.indexes:
                editor.add_index(Record, index)
            return
        # All at once: InnoDB then reads the table once.
        quote, table = connection.ops.quote_name, Record._meta
        columns = {field.name: str(field.column) for field in table.concrete_fields}
        added = [
            f"ADD INDEX {quote(index.name)} "
            f"({', '.join(quote(columns[name]) for name in index.fields)})"
            for index in table.indexes
        ]
        editor.execute(f"ALTER TABLE {quote(table.db_table)} {', '.join(added)}")


_BULK: Final[dict[str, dict[str, Any]]] = {
    "postgresql": {"synchronous_commit": "off", "maintenance_work_mem": "'512MB'"},
    "mysql": {"SESSION sql_mode": "CONCAT(@@sql_mode, ',PIPES_AS_CONCAT')", "unique_checks": 0},
}


@contextmanager
def _in_bulk(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Settings of this session alone: closed afterwards, and so forgotten."""
    with connection.cursor() as cursor:
        for name, value in _BULK.get(connection.vendor, {}).items():
            cursor.execute(f"SET {name} = {value}")
    if connection.vendor == "sqlite":
        connection.connection.create_function("unhexed", 1, bytes.fromhex, deterministic=True)
    yield
    connection.close()


def _settle(connection: BaseDatabaseWrapper) -> None:
    """What a server does by itself sooner or later, and not while something is measured.

    Nobody does it for SQLite, whose planner then works without statistics as it would in a project.
    """
    statements = {
        "postgresql": ["VACUUM (ANALYZE) audit_log_record", "ANALYZE audit_log_tile", "CHECKPOINT"],
        "mysql": ["ANALYZE TABLE audit_log_record", "ANALYZE TABLE audit_log_tile"],
        "sqlite": ["PRAGMA wal_checkpoint(TRUNCATE)"],
    }
    with connection.cursor() as cursor:
        for sql in statements[connection.vendor]:
            cursor.execute(sql)
