"""What really reaches the database, ours included: `connection.queries` shows the project's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from django.db import DEFAULT_DB_ALIAS, connections

from audit_log.recording import postgresql

OUTBOX = f"INSERT INTO {connections[DEFAULT_DB_ALIAS].ops.quote_name('audit_log_outbox')}"


@contextmanager
def statements(using: str = DEFAULT_DB_ALIAS) -> Iterator[list[str]]:
    """The statements that the driver sends; a string of several counts as one."""
    connection = connections[using]
    connection.ensure_connection()
    seen: list[str] = []

    def see(text: str) -> None:
        if not text.startswith("SELECT QUOTE("):  # Django's query log asks how it would look
            seen.append(text)

    if connection.vendor == "sqlite":
        connection.connection.set_trace_callback(see)
        try:
            yield seen
        finally:
            connection.connection.set_trace_callback(None)
        return
    with _mysqlclient(seen) if connection.vendor == "mysql" else _psycopg(seen):
        yield seen


@contextmanager
def _psycopg(seen: list[str]) -> Iterator[None]:
    import psycopg

    execute, command = psycopg.ClientCursor.execute, psycopg.Connection._exec_command

    def seen_execute(self: Any, query: Any, *args: Any, **options: Any) -> Any:
        seen.append(str(query))
        return execute(self, query, *args, **options)

    def seen_command(self: Any, query: Any, *args: Any, **options: Any) -> Any:
        text = query.decode() if isinstance(query, bytes) else str(query)
        # Psycopg begins on the first statement, which we have heard of already.
        seen.insert(len(seen) - (text == "BEGIN"), text)
        return command(self, query, *args, **options)

    send = postgresql._send

    def seen_send(driver: Any, sql: bytes) -> None:
        seen.append(sql.decode())
        send(driver, sql)

    with (
        mock.patch.object(postgresql, "_send", seen_send),
        mock.patch.object(psycopg.ClientCursor, "execute", seen_execute),
        mock.patch.object(psycopg.Connection, "_exec_command", seen_command),
    ):
        yield


@contextmanager
def _mysqlclient(seen: list[str]) -> Iterator[None]:
    """COMMIT and the like are calls of its C library; `autocommit(False)` is what begins."""
    from MySQLdb.connections import Connection

    query, commit, rollback = Connection.query, Connection.commit, Connection.rollback
    autocommit = Connection.autocommit

    def seen_query(self: Any, text: Any) -> Any:
        seen.append(bytes(text).decode(errors="replace") if not isinstance(text, str) else text)
        return query(self, text)

    def seen_commit(self: Any) -> Any:
        seen.append("COMMIT")
        return commit(self)

    def seen_rollback(self: Any) -> Any:
        seen.append("ROLLBACK")
        return rollback(self)

    def seen_autocommit(self: Any, on: bool) -> Any:
        if not on and self.get_autocommit():
            seen.append("BEGIN")
        return autocommit(self, on)

    with (
        mock.patch.object(Connection, "query", seen_query),
        mock.patch.object(Connection, "commit", seen_commit),
        mock.patch.object(Connection, "rollback", seen_rollback),
        mock.patch.object(Connection, "autocommit", seen_autocommit),
    ):
        yield


def kinds(seen: list[str]) -> list[str]:
    """The first word of each statement; of a message of several, those of its parts."""
    return [" ".join(part.split(None, 1)[0].upper() for part in _parts(text)) for text in seen]


def _parts(text: str) -> list[str]:
    vendor = connections[DEFAULT_DB_ALIAS].vendor
    if vendor == "postgresql":
        return text.split("; ")
    if vendor != "mysql":
        return [text]
    # Encrypted bytes in an INSERT may hold anything: only what we put before and behind counts.
    parts = text.split("; ", 1) if text.startswith("BEGIN; ") else [text]
    if parts[-1].endswith("; COMMIT"):
        parts[-1:] = parts[-1].rsplit("; ", 1)
    return parts


def savepoint(using: str = DEFAULT_DB_ALIAS) -> str:
    """`transaction.savepoint()`, which Django 6.1 calls by another name."""
    sid = connections[using].savepoint()
    if sid is None:
        raise AssertionError("There is no transaction to set a savepoint in.")
    return sid
