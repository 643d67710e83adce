"""What happens when capture itself fails: the caller's write goes on, or it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from audit_log.conf import get_settings
from audit_log.exceptions import RecordingFailed
from audit_log.recording import losses, mysql, pending, postgresql


def guarded(
    reason: str,
    call: Callable[..., object],
    *,
    connection: BaseDatabaseWrapper | None = None,
    **arguments: Any,
) -> None:
    """Call. With `ON_FAILURE="allow"` an error is counted and logged, else it is raised.

    An error that has ended the transaction of `connection` is raised as it is: to hide it would
    let the caller believe in a change that is not there.
    """
    try:
        call(**arguments)
    except Exception as error:
        if get_settings().on_failure == "block":
            raise RecordingFailed(f"An event could not be captured: {error}") from error
        losses.warn(reason, "An event could not be captured (%s).", reason)
        if connection is not None and _has_ended_transaction(connection, error):
            raise


def _has_ended_transaction(connection: BaseDatabaseWrapper, error: Exception) -> bool:
    if not pending.in_transaction(connection):
        return False
    if connection.vendor == "mysql":
        return mysql.has_ended(connection, error)
    return postgresql.is_in_error(connection)
