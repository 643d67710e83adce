"""PostgreSQL's driver, spoken to directly: our statements as one message each, unlogged."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from django.db.backends.base.base import BaseDatabaseWrapper

_IDLE, _IN_TRANSACTION, _IN_ERROR = 0, 2, 3  # libpq's PGTransactionStatusType
_FATAL: Final = 7  # libpq's PGRES_FATAL_ERROR
# What Django calls instead, on databases whose driver stays in autocommit (SQLite).
_BEGIN_HOOK: Final = "_start_transaction_under_autocommit"


def is_in_error(connection: BaseDatabaseWrapper) -> bool:
    """Whether COMMIT will silently roll back: after an error that somebody caught."""
    return (
        connection.vendor == "postgresql"
        and connection.connection is not None
        and _status(connection.connection) == _IN_ERROR
    )


def has_work(connection: BaseDatabaseWrapper) -> bool:
    """Whether a transaction is open on the server, sound or not."""
    return (
        connection.vendor == "postgresql"
        and connection.connection is not None
        and _status(connection.connection) != _IDLE
    )


def is_open(connection: BaseDatabaseWrapper) -> bool:
    """Whether the transaction can still commit, at the latest after a return to a savepoint."""
    return _status(connection.connection) in {_IN_TRANSACTION, _IN_ERROR}


def execute(connection: BaseDatabaseWrapper, sql: str) -> None:
    """Run statements without parameters as one message, unlogged and never prepared.

    Raises the driver's errors. With psycopg 3 it needs no cursor, whose making and clearing away
    takes longer than the statements; it waits as psycopg does, so gevent can switch meanwhile.
    """
    driver: Any = connection.connection
    if not hasattr(driver, "pgconn"):
        with driver.cursor() as cursor:
            cursor.execute(sql)
    elif _status(driver) != _IDLE:
        _send(driver, sql.encode())
    elif driver.autocommit:  # a transaction that `begin_late` has not begun yet
        _send(driver, f"BEGIN; {sql}".encode())
    else:  # psycopg begins it as the project asked for: isolation, read only
        with driver.cursor() as cursor:
            cursor.execute(sql, prepare=False)


def _send(driver: Any, sql: bytes) -> None:
    execute_all, error_of = _psycopg()
    with driver.lock:
        driver.pgconn.send_query(sql)
        results = driver.wait(execute_all(driver.pgconn))
    for result in results:
        if result.status == _FATAL:
            raise error_of(result)


class Begin:
    """A wrapper of `connection.execute_wrapper`: BEGIN travels with the first statement.

    One round trip less for each write in autocommit, and the driver need not be told twice how
    to behave. Harmless where it stays on: it asks the server's own state.
    """

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection

    def __call__(
        self,
        execute: Any,
        sql: Any,
        params: Any,
        many: bool,  # noqa: FBT001 - Django's signature
        context: dict[str, Any],
    ) -> Any:
        driver = self._connection.connection
        if _status(driver) != _IDLE:
            return execute(sql, params, many, context)
        if many or not isinstance(sql, str):
            _send(driver, b"BEGIN")
            return execute(sql, params, many, context)
        result = execute(f"BEGIN; {sql}", params, many, context)
        context["cursor"].cursor.nextset()  # from BEGIN's result to the statement's
        return result


def arm(connection: BaseDatabaseWrapper) -> None:
    """Let the transaction that is entered next begin with its first statement, where that can be.

    Not where statements are looked at on the way (the query log, wrappers of the project's), and
    not where the driver binds on the server, which takes one statement at a time.
    """
    connection.ensure_connection()
    if _may_begin_late(connection):
        wrappers = connection.execute_wrappers
        setattr(connection, _BEGIN_HOOK, lambda: wrappers.append(Begin(connection)))


def disarm(connection: BaseDatabaseWrapper) -> None:
    """The transaction has been entered."""
    if hasattr(connection, _BEGIN_HOOK):
        delattr(connection, _BEGIN_HOOK)


def end_late(connection: BaseDatabaseWrapper) -> None:
    """As the transaction ends: take the wrapper off again."""
    if connection.execute_wrappers:
        connection.execute_wrappers = [
            wrapper for wrapper in connection.execute_wrappers if not isinstance(wrapper, Begin)
        ]


def _may_begin_late(connection: BaseDatabaseWrapper) -> bool:
    driver: Any = connection.connection
    return (
        hasattr(driver, "pgconn")
        and driver.autocommit
        and _status(driver) == _IDLE
        and not connection.execute_wrappers
        and not connection.queries_logged
        and not connection.settings_dict["OPTIONS"].get("server_side_binding")
        and not driver.pgconn.pipeline_status
    )


@cache
def _psycopg() -> tuple[Any, Any]:
    from psycopg import errors, generators  # noqa: PLC0415 - an optional driver

    return generators.execute, errors.error_from_result


def _status(driver: Any) -> int:
    if hasattr(driver, "pgconn"):
        return int(driver.pgconn.transaction_status)
    return int(driver.get_transaction_status())
