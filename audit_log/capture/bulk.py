"""The methods of query sets that write many rows by one statement, and send no signal.

`update` and `_batched_insert` are where one statement is made of it; `bulk_update` calls `update`
for each of its batches, `bulk_create` the other. In autocommit our transaction ends with them.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any, Final

from django.db import connections, models

from audit_log import context
from audit_log.capture import deletes, references
from audit_log.capture.failures import guarded
from audit_log.capture.plans import plan_of
from audit_log.capture.updates import Update
from audit_log.recording import pending

_original_update = models.QuerySet.update


def install() -> None:
    """Hook the methods of QuerySet. Harmless when done twice."""
    models.QuerySet.update = _update  # type: ignore[method-assign]


def uninstall() -> None:
    """Put Django's own methods back."""
    models.QuerySet.update = _original_update  # type: ignore[method-assign]


def _update(self: Any, **values: Any) -> int:
    plan = plan_of(self.model)
    query = self.query
    # Sliced and combined ones are refused by Django itself.
    if plan is None or context.current().suspended or query.is_sliced or query.combinator:
        return _original_update(self, **values)
    self._for_write = True  # as Django does next: `self.db` may be a call of the project's router
    rows: Any = None
    if deletes.current() is not None:
        rows = references.rows_of(self.model, values, self.db)
    if rows is None:
        rows = Update(plan, self.model, values, connections[self.db])
        if not rows.is_seen:
            return _original_update(self, **values)
    with pending.bracket(rows.connection):
        guarded("capture_failed", rows.find, connection=rows.connection, queryset=self)
        count = _original_update(self, **values)
        guarded("capture_failed", rows.capture, connection=rows.connection, count=count)
    return count


_update.alters_data = True  # type: ignore[attr-defined]
