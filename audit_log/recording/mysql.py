"""How transactions of MariaDB and MySQL begin, and how they end unasked.

On a deadlock they roll back the whole transaction, and go on as if nothing had been. Who catches
the error and commits all the same commits only what came after it. What was captured before must
fall with what was written before, though nobody calls `rollback()`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from django.db import DatabaseError, Error
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import DatabaseErrorWrapper

# A deadlock, a full lock table, a row that changed since the snapshot, a deadlock of XA.
_ROLLED_BACK: Final = frozenset({1213, 1206, 1020, 1614})
_LOCK_WAIT: Final = 1205  # takes back the statement alone, unless the server is told otherwise
# No such database, table, column; no right to it: refused before anything began.
_REFUSED: Final = frozenset({1044, 1049, 1054, 1142, 1143, 1146})
_BEGIN_HOOK: Final = "_start_transaction_under_autocommit"  # Django's, as in `postgresql`


def arm(connection: BaseDatabaseWrapper) -> None:
    """Let the transaction that is entered next begin by BEGIN.

    Django turns autocommit off and on again, which is a round trip each; so is BEGIN, but COMMIT
    ends what it began, and the driver knows that autocommit was never off.
    """
    connection.ensure_connection()
    if connection.connection.get_autocommit():
        setattr(connection, _BEGIN_HOOK, lambda: _begin(connection))


def disarm(connection: BaseDatabaseWrapper) -> None:
    """The transaction has been entered."""
    if hasattr(connection, _BEGIN_HOOK):
        delattr(connection, _BEGIN_HOOK)


def _begin(connection: BaseDatabaseWrapper) -> None:
    with connection.wrap_database_errors:
        connection.connection.begin()


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
