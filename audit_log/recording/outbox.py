"""One INSERT just before COMMIT: the batch is in the database if and only if the change is."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from django.db.backends.base.base import BaseDatabaseWrapper

from audit_log.conf import get_settings
from audit_log.events import Event, encode_batch
from audit_log.exceptions import RecordingFailed
from audit_log.models import Outbox
from audit_log.privacy.encryption import key_ring
from audit_log.recording import losses
from audit_log.recording.values import encode_bounded

logger = logging.getLogger("audit_log")

PURPOSE: Final = "outbox"
_ROW_EVENTS: Final = 500
_ROW_BYTES: Final = 1_000_000  # MariaDB's max_allowed_packet is 16 MB, and hex doubles it
_IN_TRANSACTION, _IN_ERROR = 2, 3  # libpq's PGTransactionStatusType


@dataclass(frozen=True, slots=True)
class Row:
    """What is inserted: an encrypted batch, and how many events it holds."""

    event_count: int
    payload: bytes


@contextmanager
def quiet(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Keep our statements from `connection.queries` and from `connection.execute_wrapper`.

    Host projects count the ones in their tests, and count or forbid queries by the other.
    """
    if not connection.queries_logged and not connection.execute_wrappers:
        yield
        return
    log, wrappers = connection.queries_log, connection.execute_wrappers
    connection.queries_log = type(log)(maxlen=log.maxlen)
    connection.execute_wrappers = []
    try:
        yield
    finally:
        connection.queries_log, connection.execute_wrappers = log, wrappers


def rows_of(events: Sequence[Event]) -> list[Row]:
    """The events as encrypted batches of at most 500 events or a megabyte."""
    service = get_settings().service
    ring = key_ring()
    rows: list[Row] = []
    chunk: list[bytes] = []
    size = 0
    for event in events:
        encoded = encode_bounded(event)
        if chunk and (len(chunk) >= _ROW_EVENTS or size + len(encoded) > _ROW_BYTES):
            rows.append(Row(len(chunk), ring.encrypt(PURPOSE, encode_batch(chunk, service))))
            chunk, size = [], 0
        chunk.append(encoded)
        size += len(encoded)
    if chunk:
        rows.append(Row(len(chunk), ring.encrypt(PURPOSE, encode_batch(chunk, service))))
    return rows


def flush(connection: BaseDatabaseWrapper, events: Sequence[Event]) -> list[Row]:
    """Write the batches into the open transaction; on PostgreSQL this also commits it.

    Returns the rows that could not be written although the transaction is sound: spool them once
    it is committed. Raises RecordingFailed with `ON_FAILURE="block"`, and whatever ended the
    transaction if it is no longer open.
    """
    if is_doomed(connection):
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
        if not _still_open(connection):
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


def is_doomed(connection: BaseDatabaseWrapper) -> bool:
    """Whether COMMIT will silently roll back: on PostgreSQL, after an error somebody caught."""
    return (
        connection.vendor == "postgresql"
        and connection.connection is not None
        and _postgresql_status(connection) == _IN_ERROR
    )


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
    now = connection.ops.adapt_datetimefield_value(datetime.now(UTC))
    values = [value for row in rows for value in (now, row.event_count, row.payload)]
    if connection.vendor == "sqlite":
        place = ", ".join(["(?, ?, ?, 0)"] * len(rows))
        connection.connection.execute(f"{_into(connection)} VALUES {place}", values)
        return
    place = ", ".join(["(%s, %s, %s, 0)"] * len(rows))
    with quiet(connection), connection.cursor() as cursor:
        cursor.execute(f"{_into(connection)} VALUES {place}", values)


def _into(connection: BaseDatabaseWrapper) -> str:
    quote = connection.ops.quote_name
    columns = ", ".join(map(quote, ("created_at", "event_count", "payload", "attempts")))
    return f"INSERT INTO {quote(Outbox._meta.db_table)} ({columns})"


def _insert_and_commit_postgresql(
    connection: BaseDatabaseWrapper, rows: Sequence[Row], *, savepoint: bool
) -> None:
    """Savepoint, INSERT, release and COMMIT as one string: one round trip instead of four.

    Everything in it is a number, a time or hexadecimal made here, so nothing needs quoting. The
    `commit()` that follows finds no transaction open and costs nothing.
    """
    now = datetime.now(UTC).isoformat()
    values = ", ".join(
        f"('{now}'::timestamptz, {row.event_count}, decode('{row.payload.hex()}', 'hex'), 0)"
        for row in rows
    )
    sql = f"{_into(connection)} VALUES {values}; COMMIT"
    if savepoint:
        sql = sql.replace("; COMMIT", "; RELEASE SAVEPOINT audit_log; COMMIT")
        sql = f"SAVEPOINT audit_log; {sql}"
    execute_postgresql(connection, sql)


def execute_postgresql(connection: BaseDatabaseWrapper, sql: str) -> None:
    """Run statements without parameters as one message, unlogged and never prepared."""
    options: dict[str, Any] = {}
    if not hasattr(connection.connection, "get_transaction_status"):  # not psycopg2
        options["prepare"] = False
    with connection.connection.cursor() as cursor:
        cursor.execute(sql, **options)


def _postgresql_status(connection: BaseDatabaseWrapper) -> int:
    driver = connection.connection
    if hasattr(driver, "get_transaction_status"):
        return int(driver.get_transaction_status())
    return int(driver.info.transaction_status)


def _still_open(connection: BaseDatabaseWrapper) -> bool:
    """Whether the caller's transaction can still commit after a failed INSERT."""
    if connection.connection is None:
        return False
    if connection.vendor == "postgresql":
        return _postgresql_status(connection) in {_IN_TRANSACTION, _IN_ERROR}
    if connection.vendor == "sqlite":
        return bool(connection.connection.in_transaction)
    # A deadlock on MariaDB has rolled everything back, and COMMIT would still "succeed".
    with quiet(connection), connection.cursor() as cursor:
        cursor.execute("SELECT @@in_transaction")
        return bool(cursor.fetchone()[0])


def _undo_insert(connection: BaseDatabaseWrapper) -> None:
    """Back to before our INSERT, so that the caller's COMMIT can go on."""
    if connection.vendor == "postgresql" and _postgresql_status(connection) == _IN_ERROR:
        with connection.wrap_database_errors:
            execute_postgresql(
                connection, "ROLLBACK TO SAVEPOINT audit_log; RELEASE SAVEPOINT audit_log"
            )
