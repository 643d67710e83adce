"""How an object is called at the time of the event, without what may not be seen.

`__str__` is the project's code. It may query, raise, or show a masked value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import DEFAULT_DB_ALIAS, models
from django.db.backends.base.base import BaseDatabaseWrapper

from audit_log.capture import snapshots
from audit_log.capture.plans import Plan, plan_of
from audit_log.privacy.redaction import MASK
from audit_log.recording import outbox, pending, postgresql
from audit_log.recording.targets import MAX_LABEL, label_of

_MIN_PART = 4  # shorter beginnings of a secret are in any text


def label(instance: models.Model, connection: BaseDatabaseWrapper) -> str:
    """The object as it prints itself, at most 256 characters. Never raises."""
    with outbox.quiet(connection):
        text = _shielded(instance, connection)
    plan = plan_of(instance._meta.model)  # `request.user` is an object of another class
    if plan is None or not plan.masked:
        return text
    for secret in _secrets(instance, plan):
        text = _without(text, secret)
    return text


def _shielded(instance: models.Model, connection: BaseDatabaseWrapper) -> str:
    """On PostgreSQL a failing query ends the caller's transaction: set a savepoint before it.

    A `__str__` without a query, which is most of them, costs nothing.
    """
    if connection.vendor != "postgresql" or not pending.in_transaction(connection):
        return label_of(instance)
    shield = _Shield(connection)
    # Outermost: a transaction that begins with its first statement begins with our savepoint.
    connection.execute_wrappers.insert(0, shield)
    try:
        return label_of(instance)
    finally:
        connection.execute_wrappers.remove(shield)
        shield.lift()


class _Shield:
    """A wrapper of `connection.execute_wrapper`."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.connection = connection
        self.up = False

    def __call__(self, execute: Callable[..., Any], *arguments: Any) -> Any:
        if not self.up and not postgresql.is_in_error(self.connection):
            postgresql.execute(self.connection, "SAVEPOINT audit_log_label")
            self.up = True
        return execute(*arguments)

    def lift(self) -> None:
        if not self.up:
            return
        sql = "RELEASE SAVEPOINT audit_log_label"
        if postgresql.is_in_error(self.connection):
            sql = f"ROLLBACK TO SAVEPOINT audit_log_label; {sql}"
        postgresql.execute(self.connection, sql)


def _secrets(instance: models.Model, plan: Plan) -> list[str]:
    """The masked values it may have shown, longest first."""
    kept = snapshots.old_values(instance, plan, instance._state.db or DEFAULT_DB_ALIAS)
    found = set()
    for item in plan.masked:
        # Not getattr(): a deferred field is not loaded; if __str__ did, its old value is kept.
        for value in (instance.__dict__.get(item.attname), kept.get(item.attname)):
            if value is not None and not isinstance(value, (bytes, list, dict)):
                found.add(str(value))
    return sorted(found - {""}, key=len, reverse=True)


def _without(text: str, secret: str) -> str:
    text = text.replace(secret, MASK)
    if len(text) < MAX_LABEL:
        return text
    for length in range(min(len(secret) - 1, len(text)), _MIN_PART - 1, -1):
        if text.endswith(secret[:length]):  # the label was cut in the middle of it
            return text[:-length] + MASK
    return text[:MAX_LABEL]
