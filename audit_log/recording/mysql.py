"""How transactions of MariaDB and MySQL begin, and how they end unasked.

On a deadlock they roll back the whole transaction, and go on as if nothing had been. Who catches
the error and commits all the same commits only what came after it. What was captured before must
fall with what was written before, though nobody calls `rollback()`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from django.db import DatabaseError, Error
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import DatabaseErrorWrapper

from audit_log.recording import beginning

# A deadlock, a full lock table, a row that changed since the snapshot, a deadlock of XA.
_ROLLED_BACK: Final = frozenset({1213, 1206, 1020, 1614})
_DUE: Final = "audit_log_begin_due"
_LOCK_WAIT: Final = 1205  # takes back the statement alone, unless the server is told otherwise
# No such database, table, column; no right to it: refused before anything began.
_REFUSED: Final = frozenset({1044, 1049, 1054, 1142, 1143, 1146})


class Begin(beginning.Begin):
    """BEGIN travels with the first statement.

    COMMIT ends what it began, and the driver knows that autocommit was never off. That it is due
    stands on the connection, for the INSERT that may be the only statement.
    """

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        super().__init__(connection)
        setattr(connection, _DUE, True)

    def __call__(
        self,
        execute: Any,
        sql: Any,
        params: Any,
        many: bool,  # noqa: FBT001 - Django's signature
        context: dict[str, Any],
    ) -> Any:
        if not _takes_due(self._connection):
            return execute(sql, params, many, context)
        cursor = context["cursor"]
        if many or not isinstance(sql, str):
            execute("BEGIN", None, False, context)  # noqa: FBT003 - the same
            return execute(sql, params, many, context)
        execute(f"BEGIN; {sql}", params, many, context)
        _next(self._connection, cursor.cursor)
        return cursor.rowcount


def _takes_due(connection: BaseDatabaseWrapper) -> bool:
    """Whether a BEGIN is due, which from now on is the caller's."""
    return bool(connection.__dict__.pop(_DUE, False))


def end(connection: BaseDatabaseWrapper) -> None:
    """A transaction of ours is over: nothing is due any more."""
    connection.__dict__.pop(_DUE, None)


def _next(connection: Any, cursor: Any) -> None:
    """On to the result of the next statement in a message, with errors as Django raises them."""
    with connection.wrap_database_errors:
        try:
            cursor.nextset()
        except connection.Database.OperationalError as error:
            if code_of(error) in cursor.codes_for_integrityerror:
                raise connection.Database.IntegrityError(*error.args) from None
            raise


def takes_several(connection: BaseDatabaseWrapper) -> bool:
    """Whether the driver sends several statements as one message, and nobody looks at them."""
    driver: Any = connection.connection
    return (
        type(driver).__module__.startswith("MySQLdb")
        and connection.settings_dict["OPTIONS"].get("multi_statements", True)
        and not connection.queries_logged
    )


def arm(connection: BaseDatabaseWrapper, joining: object = None) -> None:  # noqa: ARG001
    """Let the transaction that is entered next begin with its first statement, or else by BEGIN.

    Django turns autocommit off and on again, which is a round trip each.
    """
    connection.ensure_connection()
    if not connection.connection.get_autocommit():
        return
    if takes_several(connection) and not beginning.is_watched(connection):
        beginning.arm_late(connection, Begin(connection))
    else:
        beginning.arm(connection, lambda: _begin(connection))


def _begin(connection: BaseDatabaseWrapper) -> None:
    with connection.wrap_database_errors:
        connection.connection.begin()


def insert_and_commit(connection: BaseDatabaseWrapper, sql: str, params: Sequence[Any]) -> None:
    """Our INSERT and COMMIT as one message: the second is not run when the first fails.

    Of the `commit()` that follows nothing is sent: see `commit_again`.
    """
    driver: Any = connection.connection
    begin = "BEGIN; " if _takes_due(connection) else ""
    with driver.cursor() as cursor:
        cursor.execute(f"{begin}{sql}; COMMIT", params)
        while cursor.nextset():
            pass
    driver.commit = _nothing


def _nothing() -> None:
    """In place of the driver's COMMIT, once."""


def commit_again(connection: BaseDatabaseWrapper) -> None:
    """The next COMMIT is sent."""
    if connection.vendor == "mysql" and connection.connection is not None:
        connection.connection.__dict__.pop("commit", None)


def code_of(error: BaseException) -> int | None:
    """The server's number for what went wrong, from Django's error or the driver's."""
    code = error.args[0] if error.args else None
    return code if type(code) is int else None


def has_ended(connection: BaseDatabaseWrapper, error: BaseException) -> bool:
    """Whether this error has taken back all that its transaction did before."""
    code = code_of(error)
    if code == _LOCK_WAIT:
        return bool(_asked(connection, "SELECT @@innodb_rollback_on_timeout"))
    return code in _ROLLED_BACK


def is_open(connection: BaseDatabaseWrapper, error: BaseException) -> bool:
    """Whether the transaction in which a statement failed can still commit."""
    if has_ended(connection, error):
        return False
    is_mariadb = bool(getattr(connection, "mysql_is_mariadb", False))
    alive = _asked(connection, f"SELECT {'@@in_transaction' if is_mariadb else '1'}")
    # A statement that is refused at once begins no transaction, and ends none.
    return bool(alive) or (alive is not None and code_of(error) in _REFUSED)


def _asked(connection: BaseDatabaseWrapper, query: str) -> int | None:
    """The server's answer, past Django; None if it does not answer any more."""
    try:
        with connection.wrap_database_errors, connection.connection.cursor() as cursor:
            cursor.execute(query)
            return int(cursor.fetchone()[0])
    except (DatabaseError, Error):
        return None


class _Noticing(DatabaseErrorWrapper):
    """Calls `undo` when an error passes by that has ended the transaction."""

    def __init__(self, connection: Any, undo: Callable[[], None]) -> None:
        super().__init__(connection)
        self._connection = connection
        self._undo = undo

    def __exit__(self, exc_type: Any, exc_value: Any, traceback: Any) -> None:
        if exc_value is not None and has_ended(self._connection, exc_value):
            self._undo()
        super().__exit__(exc_type, exc_value, traceback)


def notice_rollbacks(connection: BaseDatabaseWrapper, undo: Callable[[], None]) -> None:
    """Call `undo` whenever the server rolls back without being asked to."""
    connection.wrap_database_errors = _Noticing(connection, undo)
