"""The methods of query sets that write many rows by one statement, and send no signal.

`update` and `_batched_insert` are where one statement is made of it; `bulk_update` calls `update`
for each of its batches, `bulk_create` the other. In autocommit our transaction ends with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from django.db import connections, models
from django.db.backends.base.base import BaseDatabaseWrapper

from audit_log import context
from audit_log.capture import deletes, references
from audit_log.capture.conflicts import Upsert
from audit_log.capture.failures import guarded
from audit_log.capture.inserts import Insert
from audit_log.capture.plans import plan_of
from audit_log.capture.updates import GivenUpdate, Update
from audit_log.recording import pending

_original_update = models.QuerySet.update
_original_bulk_update = models.QuerySet.bulk_update
_original_batched_insert = models.QuerySet._batched_insert  # type: ignore[attr-defined]

# Django derives them from the models, after each `migrate`: as much bookkeeping as content types.
_DERIVED: Final = frozenset({"auth.permission"})


def install() -> None:
    """Hook the methods of QuerySet. Harmless when done twice."""
    models.QuerySet.update = _update  # type: ignore[method-assign]
    models.QuerySet.bulk_update = _bulk_update  # type: ignore[method-assign]
    models.QuerySet._batched_insert = _batched_insert  # type: ignore[attr-defined]


def uninstall() -> None:
    """Put Django's own methods back."""
    models.QuerySet.update = _original_update  # type: ignore[method-assign]
    models.QuerySet.bulk_update = _original_bulk_update  # type: ignore[method-assign]
    models.QuerySet._batched_insert = _original_batched_insert  # type: ignore[attr-defined]


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
        given = _given_to(self.model, values)
        if given is not None and given.is_summed:
            return _original_update(self, **values)
        instances = None if given is None else given.rows
        rows = Update(plan, self.model, values, connections[self.db], instances)
        if not rows.is_seen:
            return _original_update(self, **values)
    with pending.bracket(rows.connection):
        guarded("capture_failed", rows.find, connection=rows.connection, queryset=self)
        count = _original_update(self, **values)
        guarded("capture_failed", rows.capture, connection=rows.connection, count=count)
    return count


_update.alters_data = True  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class _Given:
    """What `bulk_update()` was given, for the updates that it makes of it."""

    model: type[models.Model]
    attnames: frozenset[str]
    rows: Mapping[Any, models.Model]
    is_summed: bool  # one event will tell all of it


_given: ContextVar[_Given | None] = ContextVar("audit_log_bulk_update", default=None)


def _given_to(model: type[models.Model], values: Mapping[str, Any]) -> _Given | None:
    given = _given.get()
    if given is None or given.model is not model or given.attnames != set(values):
        return None
    return given


def _bulk_update(self: Any, objs: Any, fields: Any, batch_size: int | None = None) -> Any:
    plan = plan_of(self.model)
    if plan is None or not fields:
        return _original_bulk_update(self, objs, fields, batch_size)
    rows, names = tuple(objs), list(fields)
    items = [item for item in plan.fields if item.name in names or item.attname in names]
    self._for_write = True  # as Django does next
    written = GivenUpdate(plan, self.model, rows, items, connections[self.db])
    if context.current().suspended or not items or not rows:
        count = _original_bulk_update(self, rows, names, batch_size)
        guarded("capture_failed", written.note)
        return count
    given = _Given(self.model, _attnames(self.model, names), written.by_key, written.is_summed)
    token = _given.set(given)
    try:
        if not given.is_summed:
            return _original_bulk_update(self, rows, names, batch_size)
        # Django's method opens a transaction of its own inside of ours.
        with pending.bracket(written.connection, logged=True):
            count = _original_bulk_update(self, rows, names, batch_size)
            guarded("capture_failed", written.capture, connection=written.connection, count=count)
        return count
    finally:
        _given.reset(token)


_bulk_update.alters_data = True  # type: ignore[attr-defined]


def _attnames(model: type[models.Model], names: Iterable[str]) -> frozenset[str]:
    """As `bulk_update()` passes them on; a name that is none is refused there."""
    known = {field.name: field.attname for field in model._meta.concrete_fields}
    return frozenset(known.get(name, name) for name in names)


def _batched_insert(  # noqa: PLR0913, PLR0917 - Django's signature
    self: Any,
    objs: Any,
    fields: Any,
    batch_size: Any,
    on_conflict: Any = None,
    update_fields: Any = None,
    unique_fields: Any = None,
) -> Any:
    arguments = (self, objs, fields, batch_size, on_conflict, update_fields, unique_fields)
    plan = plan_of(self.model)
    if plan is None or not objs or plan.model._meta.label_lower in _DERIVED:
        return _original_batched_insert(*arguments)
    connection = connections[self.db]
    if context.current().suspended:
        returned = _original_batched_insert(*arguments)
        if on_conflict is None:
            rows = Insert(plan, objs, connection)
            guarded("capture_failed", rows.note, connection=connection, returned=returned)
        return returned
    with pending.bracket(connection, logged=_is_in_batches(connection, fields, objs, batch_size)):
        if on_conflict is None:
            written: Insert | Upsert = Insert(plan, objs, connection)
        else:
            written = Upsert(plan, self.model, objs, connection, on_conflict, unique_fields)
            guarded("capture_failed", written.find, connection=connection)
        returned = _original_batched_insert(*arguments)
        guarded("capture_failed", written.capture, connection=connection, returned=returned)
    return returned


def _is_in_batches(
    connection: BaseDatabaseWrapper, fields: Any, objs: Any, batch_size: int | None
) -> bool:
    """Whether Django itself begins a transaction here, from 6.0 on only for more than one batch."""
    limit = max(connection.ops.bulk_batch_size(fields, objs), 1)
    return bool(len(objs) > (min(batch_size, limit) if batch_size else limit))
