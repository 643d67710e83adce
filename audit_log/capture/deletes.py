"""Deletions, of single objects, by cascade and by query set.

No signal receiver is connected: that would turn off Django's fast deletion and change the number
of queries of the project. The three methods that delete rows are bracketed instead.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from django.db import connections, models
from django.db.models.deletion import Collector
from django.db.models.sql import DeleteQuery

from audit_log import context
from audit_log.capture import changes, snapshots
from audit_log.capture.failures import guarded
from audit_log.capture.plans import Plan, plan_of
from audit_log.capture.saves import read_rows
from audit_log.recording import outbox, pending
from audit_log.recording.targets import target_id, target_type

_original_delete = Collector.delete
_original_delete_batch = DeleteQuery.delete_batch
_original_raw_delete = models.QuerySet._raw_delete

_collector: ContextVar[Collector | None] = ContextVar("audit_log_collector", default=None)


def install() -> None:
    """Hook the three methods. Harmless when done twice."""
    Collector.delete = _delete  # type: ignore[method-assign]
    DeleteQuery.delete_batch = _delete_batch  # type: ignore[method-assign]
    models.QuerySet._raw_delete = _raw_delete  # type: ignore[method-assign,assignment]


def uninstall() -> None:
    """Put Django's own methods back."""
    Collector.delete = _original_delete  # type: ignore[method-assign]
    DeleteQuery.delete_batch = _original_delete_batch  # type: ignore[method-assign]
    models.QuerySet._raw_delete = _original_raw_delete  # type: ignore[method-assign]


def _delete(self: Collector) -> Any:
    token = _collector.set(self)
    try:
        return _original_delete(self)
    finally:
        _collector.reset(token)


def _delete_batch(self: DeleteQuery, pk_list: list[Any], using: str) -> int:
    model = self.model
    plan = plan_of(model) if model is not None else None
    if model is None or plan is None or context.current().suspended:
        return _original_delete_batch(self, pk_list, using)
    with pending.bracket(connections[using]):
        rows = _Rows(plan, using)
        guarded("capture_failed", rows.read, found=_collected(plan, model, pk_list, using))
        count = _original_delete_batch(self, pk_list, using)
        if count:
            # Fewer than asked for: another transaction was faster with some of them.
            outcome = "success" if count >= len(rows.old) else "unknown"
            guarded("capture_failed", rows.capture, outcome=outcome)
    return count


def _raw_delete(self: Any, using: str) -> int:
    plan = plan_of(self.model)
    if plan is None or context.current().suspended:
        return int(_original_raw_delete(self, using))
    connection = connections[using]
    with pending.bracket(connection):
        query = self._chain().using(using)
        if connection.features.has_select_for_update and not self.query.distinct:
            query = query.select_for_update()
        with outbox.quiet(connection):
            found = list(query)
        rows = _Rows(plan, using)
        guarded("capture_failed", rows.read, found=found)
        count = int(_original_raw_delete(self, using))
        if count:
            guarded("capture_failed", rows.capture, outcome="success")
    return count


def _collected(
    plan: Plan, model: type[models.Model], keys: list[Any], using: str
) -> list[models.Model]:
    """The instances that Django is about to delete, without parents of deleted children."""
    collector = _collector.get()
    instances = {} if collector is None else {i.pk: i for i in collector.data.get(model, ())}
    child_keys: set[Any] = set()
    if collector is not None:
        for other, others in collector.data.items():
            if other is not model and model in other._meta.all_parents:
                child_keys.update(i.pk for i in others)
    wanted = [key for key in keys if key not in child_keys]
    missing = [key for key in wanted if key not in instances]
    if missing:
        with outbox.quiet(connections[using]):
            for instance in plan.model._base_manager.using(using).filter(pk__in=missing):
                instances[instance.pk] = instance
    return [instances[key] for key in wanted if key in instances]


class _Rows:
    """The rows that one statement deletes."""

    def __init__(self, plan: Plan, using: str) -> None:
        self.plan = plan
        self.connection = connections[using]
        self.old: list[tuple[Any, models.Model, dict[str, Any]]] = []

    def read(self, *, found: list[models.Model]) -> None:
        """Old values, before they are gone; Django loads only some columns for a cascade."""
        known = {instance.pk: _old_row(self.plan, instance) for instance in found}
        partial = [key for key, row in known.items() if len(row) < len(self.plan.fields)]
        if partial:
            known.update(read_rows(self.plan, partial, self.connection))
        self.old = [(instance.pk, instance, known[instance.pk]) for instance in found]

    def capture(self, *, outcome: str) -> None:
        """One event for each, in the order Django deletes them."""
        for key, instance, old in self.old:
            with outbox.quiet(self.connection):
                event = changes.row_event(
                    "delete",
                    self.plan,
                    instance,
                    changes.of_deletion(self.plan, old),
                    pk=key,
                    outcome=outcome,
                    data=_cascade(instance, key),
                )
            pending.add(self.connection, event)


def _old_row(plan: Plan, instance: models.Model) -> dict[str, Any]:
    kept = snapshots.old_values(instance, plan)
    return {
        item.attname: snapshots.restore(plan, item.attname, kept)
        for item in plan.fields
        if item.attname in kept
    }


def _cascade(instance: models.Model, key: Any) -> dict[str, Any] | None:
    """What the deletion started from, if not from this object."""
    collector = _collector.get()
    origin = getattr(collector, "origin", None)
    if isinstance(origin, models.Model):
        if origin is instance or (type(origin) is type(instance) and origin.pk == key):
            return None
        kind = type(origin)
        return {"cascade_from": f"{target_type(kind)}:{target_id(kind, origin.pk)}"}
    if isinstance(origin, models.QuerySet) and not isinstance(instance, origin.model):
        return {"cascade_from": target_type(origin.model)}
    return None
