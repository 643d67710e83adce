"""PostgreSQL's driver, spoken to directly: our statements as one message each, unlogged."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper

from audit_log.models import Outbox
from audit_log.recording import beginning

_IDLE, _IN_TRANSACTION, _IN_ERROR = 0, 2, 3  # libpq's PGTransactionStatusType
_FATAL: Final = 7  # libpq's PGRES_FATAL_ERROR
# SQLSTATE classes: the connection, a rollback of the server's, an operator's doing.
_NOT_OURS: Final = frozenset({"08", "40", "57"})
_WAITED: Final = "55P03"  # for a lock that was not to be had


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


def begin_with(connection: BaseDatabaseWrapper, sql: str) -> None:
    """Begin a transaction in autocommit, and run a statement in it, as one message."""
    driver: Any = connection.connection
    if hasattr(driver, "pgconn"):
        _send(driver, f"BEGIN; {sql}".encode())
    else:
        execute(connection, f"BEGIN; {sql}")


def _send(driver: Any, sql: bytes) -> None:
    execute_all, error_of = _psycopg()
    with driver.lock:
        driver.pgconn.send_query(sql)
        results = driver.wait(execute_all(driver.pgconn))
    for result in results:
        if result.status == _FATAL:
            raise error_of(result)


class Begin(beginning.Begin):
    """BEGIN travels with the first statement, and the driver need not be told twice how to behave.

    Harmless where it stays on: it asks the server's own state. A first statement that takes its
    batch along needs no BEGIN.
    """

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
        if self._joining is not None and not many and isinstance(sql, str):
            joining, self._joining = self._joining, None
            together = joining.statement(sql, params or ())  # may have asked the server
            if _status(driver) != _IDLE:
                return execute(sql, params, many, context)
            if (
                together is not None
                and self._is_sent(execute, *together, context)
                and joining.sent(context["cursor"].rowcount)
            ):
                return None
        if many or not isinstance(sql, str):
            _send(driver, b"BEGIN")
            return execute(sql, params, many, context)
        result = execute(f"BEGIN; {sql}", params, many, context)
        context["cursor"].cursor.nextset()  # from BEGIN's result to the statement's
        return result

    def _is_sent(self, execute: Any, statement: str, params: Any, context: dict[str, Any]) -> bool:
        """Whether the statement with its batch went through; if not, it is sent without.

        A failed one has done nothing. Where the error may be of our part, the project's own
        statement has to be given its chance; else it is the project's error.
        """
        flag = self._connection.errors_occurred
        try:
            execute(statement, params, False, context)  # noqa: FBT003 - Django's signature
        except Error as error:
            if not _may_be_ours(error.__cause__):
                raise
            self._connection.errors_occurred = flag
            return False
        return True


def _may_be_ours(error: Any) -> bool:
    """Whether a statement that took its batch along may have failed because of it."""
    state = getattr(error, "sqlstate", None) or ""
    if not state or state[:2] in _NOT_OURS or state == _WAITED:
        return False
    table = error.diag.table_name
    return table is None or table == Outbox._meta.db_table


def arm(connection: BaseDatabaseWrapper, joining: beginning.Joining | None = None) -> None:
    """Let the transaction that is entered next begin with its first statement, where that can be.

    Not where statements are looked at on the way, and not where the driver binds on the server,
    which takes one statement at a time.
    """
    connection.ensure_connection()
    if _may_begin_late(connection):
        beginning.arm_late(connection, Begin(connection, joining))


def _may_begin_late(connection: BaseDatabaseWrapper) -> bool:
    driver: Any = connection.connection
    return (
        hasattr(driver, "pgconn")
        and driver.autocommit
        and _status(driver) == _IDLE
        and not beginning.is_watched(connection)
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
