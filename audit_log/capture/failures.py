"""What happens when capture itself fails: the caller's write goes on, or it does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import TransactionManagementError

from audit_log.conf import get_settings
from audit_log.exceptions import RecordingFailed
from audit_log.recording import losses, mysql, pending, postgresql
from audit_log.recording.collisions import met_another

_SAVEPOINT: Final = "audit_log_read"


def guarded(
    reason: str,
    call: Callable[..., object],
    *,
    connection: BaseDatabaseWrapper | None = None,
    **arguments: Any,
) -> None:
    """Call. With `ON_FAILURE="allow"` an error is counted and logged, else it is raised.

    An error that has ended the transaction of `connection` is raised as it is: to hide it would
    let the caller believe in a change that is not there. So is one that the caller's own statement
    would meet without us: a block that is to be rolled back; a lock that others do not let us have.
    Went that statement on, nobody could say what it did to which rows.
    """
    try:
        call(**arguments)
    except Exception as error:
        if connection is not None and _is_the_callers(error):
            if connection.in_atomic_block:
                connection.needs_rollback = True  # as Django does where its statement fails
            raise
        if get_settings().on_failure == "block":
            raise RecordingFailed(f"An event could not be captured: {error}") from error
        losses.warn(reason, "An event could not be captured (%s).", reason)
        if connection is not None and _has_ended_transaction(connection, error):
            raise


def _is_the_callers(error: Exception) -> bool:
    return isinstance(error, TransactionManagementError) or met_another(error)


def _has_ended_transaction(connection: BaseDatabaseWrapper, error: Exception) -> bool:
    if not pending.in_transaction(connection):
        return False
    if connection.vendor == "mysql":
        return mysql.has_ended(connection, error)
    return postgresql.is_in_error(connection)


@contextmanager
def sheltered(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Around queries of ours, a savepoint where a failing one would end the caller's transaction.

    That is PostgreSQL. They may fail where the caller's own statement does not: a column that a
    migration has yet to add, a right to read that nobody gave.
    """
    ends_it = connection.vendor == "postgresql" and pending.in_transaction(connection)
    if not ends_it or postgresql.is_in_error(connection):
        yield
        return
    postgresql.execute(connection, f"SAVEPOINT {_SAVEPOINT}")
    try:
        yield
    finally:
        sql = f"RELEASE SAVEPOINT {_SAVEPOINT}"
        if postgresql.is_in_error(connection):
            sql = f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}; {sql}"
        postgresql.execute(connection, sql)
