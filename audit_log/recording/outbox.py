"""One INSERT just before COMMIT: the batch is in the database if and only if the change is."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from django.db.backends.base.base import BaseDatabaseWrapper

from audit_log.conf import get_settings
from audit_log.events import Event, encode_batch
from audit_log.exceptions import RecordingFailed
from audit_log.models import Outbox
from audit_log.privacy.encryption import key_ring
from audit_log.recording import beginning, losses, mysql, postgresql
from audit_log.recording.beginning import Begin
from audit_log.recording.values import encode_bounded

logger = logging.getLogger("audit_log")

PURPOSE: Final = "outbox"
_DEFLATED_FROM: Final = 1_800  # shorter rows fit into a page of PostgreSQL as they are
_ROW_EVENTS: Final = 500
_ROW_BYTES: Final = 1_000_000  # far below MariaDB's max_allowed_packet, 16 MB if nobody changed it


@dataclass(frozen=True, slots=True)
class Row:
    """What is inserted: an encrypted batch, and how many events it holds."""

    event_count: int
    payload: bytes


class quiet:  # noqa: N801 - used as a function, many times a save: a generator would cost more
    """Keep our statements from `connection.queries` and from `connection.execute_wrapper`.

    Host projects count the ones in their tests, and count or forbid queries by the other.
    """

    __slots__ = ("_connection", "_held")

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection
        self._held: tuple[Any, Any] | None = None

    def __enter__(self) -> None:
        connection = self._connection
        # Not for a wrapper of ours alone: one that begins a transaction may be added inside.
        if beginning.is_watched(connection):
            log, wrappers = self._held = connection.queries_log, connection.execute_wrappers
            connection.queries_log = type(log)(maxlen=log.maxlen)
            connection.execute_wrappers = [w for w in wrappers if isinstance(w, Begin)]

    def __exit__(self, *_: object) -> None:
        if self._held is not None:
            self._connection.queries_log, self._connection.execute_wrappers = self._held


def rows_of(events: Sequence[Event]) -> list[Row]:
    """The events as encrypted batches of at most 500 events or a megabyte."""
    service = get_settings().service
    rows: list[Row] = []
    chunk: list[bytes] = []
    size = 0
    for event in events:
        encoded = encode_bounded(event)
        if chunk and (len(chunk) >= _ROW_EVENTS or size + len(encoded) > _ROW_BYTES):
            rows.append(Row(len(chunk), _encrypted(chunk, service)))
            chunk, size = [], 0
        chunk.append(encoded)
        size += len(encoded)
    if chunk:
        rows.append(Row(len(chunk), _encrypted(chunk, service)))
    return rows


def _encrypted(chunk: Sequence[bytes], service: str | None) -> bytes:
    batch = encode_batch(chunk, service)
    return key_ring().encrypt(PURPOSE, batch, deflated_from=_DEFLATED_FROM)


def flush(connection: BaseDatabaseWrapper, events: Sequence[Event]) -> list[Row]:
    """Write the batches into the open transaction; on PostgreSQL and MariaDB this commits it, too.

    Returns the rows that could not be written although the transaction is sound: spool them once
    it is committed. Raises RecordingFailed with `ON_FAILURE="block"`, and whatever ended the
    transaction if it is no longer open.
    """
    if postgresql.is_in_error(connection):
        return []  # nothing of it will be committed
    block = get_settings().on_failure == "block"
    try:
        rows = rows_of(events)
    except Exception as error:
        losses.warn("encryption_failed", "Cannot encrypt a batch of %d events.", len(events))
        if block:
            raise RecordingFailed(f"The batch could not be encrypted: {error}") from error
        losses.count("events_lost", len(events))
        return []
    try:
        with connection.wrap_database_errors:
            _insert(connection, rows, savepoint=not block)
    except Exception as error:
        if not _still_open(connection, error):
            raise  # the change itself is gone: a deferred constraint, a deadlock, a lost server
        losses.warn("flush_failed", "Cannot write to the outbox of %r.", connection.alias)
        if block:
            raise RecordingFailed(
                f"The outbox of {connection.alias!r} refused the batch, and ON_FAILURE is "
                f'"block", so the transaction was rolled back: {error}'
            ) from error
        _undo_insert(connection)
        return rows
    return []


def write_some(connection: BaseDatabaseWrapper, events: Sequence[Event]) -> bool:
    """Write batches into the open transaction, which goes on. False where they are refused.

    Then the transaction is as it was. Raises whatever ended it, if it is no longer open.
    """
    if postgresql.is_in_error(connection):
        return False  # nothing of it will be committed
    try:
        rows = rows_of(events)
        with connection.wrap_database_errors, quiet(connection):
            _insert_only(connection, rows)
    except Exception as error:
        if not _still_open(connection, error):
            raise
        losses.warn("flush_failed", "Cannot write to the outbox of %r now.", connection.alias)
        _undo_insert(connection)
        return False
    return True


def _insert_only(connection: BaseDatabaseWrapper, rows: Sequence[Row]) -> None:
    if connection.vendor == "postgresql":
        values = ", ".join(f"({values_of(row)})" for row in rows)
        sql = (
            f"SAVEPOINT audit_log; {into(connection)} VALUES {values}; RELEASE SAVEPOINT audit_log"
        )
        postgresql.execute(connection, sql)
    elif connection.vendor == "sqlite":
        _insert_sqlite(connection, rows)
    else:
        _insert_mysql(connection, rows, commit=False)


def insert(connection: BaseDatabaseWrapper, rows: Sequence[Row]) -> None:
    """Put rows into the outbox within whatever transaction is open (spool, ingest)."""
    now = datetime.now(UTC)
    Outbox.objects.using(connection.alias).bulk_create(
        [Outbox(created_at=now, event_count=r.event_count, payload=r.payload) for r in rows]
    )


def _insert(connection: BaseDatabaseWrapper, rows: Sequence[Row], *, savepoint: bool) -> None:
    if connection.vendor == "postgresql":
        _insert_and_commit_postgresql(connection, rows, savepoint=savepoint)
        return
    if connection.vendor == "sqlite":
        _insert_sqlite(connection, rows)
    else:
        _insert_mysql(connection, rows, commit=True)


def _insert_sqlite(connection: BaseDatabaseWrapper, rows: Sequence[Row]) -> None:
    now = connection.ops.adapt_datetimefield_value(datetime.now(UTC))
    values = [value for row in rows for value in (now, row.event_count, row.payload)]
    place = ", ".join(["(?, ?, ?, 0)"] * len(rows))
    connection.connection.execute(f"{into(connection)} VALUES {place}", values)


def _insert_mysql(connection: BaseDatabaseWrapper, rows: Sequence[Row], *, commit: bool) -> None:
    """One at a time: a packet larger than the server takes would end the connection."""
    now = connection.ops.adapt_datetimefield_value(datetime.now(UTC))
    sql = f"{into(connection)} VALUES (%s, %s, %s, 0)"
    with_commit = commit and connection.vendor == "mysql" and mysql.takes_several(connection)
    *first, last = [(now, row.event_count, row.payload) for row in rows]
    with quiet(connection), connection.cursor() as cursor:
        for values in first if with_commit else [*first, last]:
            cursor.execute(sql, values)
    if with_commit:
        mysql.insert_and_commit(connection, sql, last)


def into(connection: BaseDatabaseWrapper) -> str:
    """The beginning of our INSERT."""
    quote = connection.ops.quote_name
    columns = ", ".join(map(quote, ("created_at", "event_count", "payload", "attempts")))
    return f"INSERT INTO {quote(Outbox._meta.db_table)} ({columns})"


def _insert_and_commit_postgresql(
    connection: BaseDatabaseWrapper, rows: Sequence[Row], *, savepoint: bool
) -> None:
    """Savepoint, INSERT, release and COMMIT as one string: one round trip instead of four.

    The `commit()` that follows finds no transaction open and costs nothing.
    """
    values = ", ".join(f"({values_of(row)})" for row in rows)
    sql = f"{into(connection)} VALUES {values}; COMMIT"
    if savepoint:
        sql = sql.replace("; COMMIT", "; RELEASE SAVEPOINT audit_log; COMMIT")
        sql = f"SAVEPOINT audit_log; {sql}"
    postgresql.execute(connection, sql)


def values_of(row: Row) -> str:
    """A row in PostgreSQL's words: numbers, a time and hexadecimal, so nothing needs quoting."""
    now = datetime.now(UTC).isoformat()
    return f"'{now}'::timestamptz, {row.event_count}, decode('{row.payload.hex()}', 'hex'), 0"


def _still_open(connection: BaseDatabaseWrapper, error: Exception) -> bool:
    """Whether the caller's transaction can still commit after a failed INSERT."""
    if connection.connection is None:
        return False
    if connection.vendor == "postgresql":
        return postgresql.is_open(connection)
    if connection.vendor == "sqlite":
        return bool(connection.connection.in_transaction)
    return mysql.is_open(connection, error)


def _undo_insert(connection: BaseDatabaseWrapper) -> None:
    """Back to before our INSERT, so that the caller's COMMIT can go on."""
    if postgresql.is_in_error(connection):
        with connection.wrap_database_errors:
            postgresql.execute(
                connection, "ROLLBACK TO SAVEPOINT audit_log; RELEASE SAVEPOINT audit_log"
            )
