"""Deletions, of single objects, by cascade and by query set.

No signal receiver is connected: that would turn off Django's fast deletion and change the number
of queries of the project. The three methods that delete rows are bracketed instead.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from django.db import connections, models
from django.db.models.deletion import Collector
from django.db.models.sql import DeleteQuery

from audit_log import context
from audit_log.capture import changes, memberships, snapshots
from audit_log.capture.before import chunks
from audit_log.capture.failures import guarded
from audit_log.capture.fields import FieldPlan
from audit_log.capture.labels import labels_of
from audit_log.capture.plans import Plan, plan_of
from audit_log.capture.ranges import Ranges, in_order
from audit_log.capture.selections import loaded, rows_of
from audit_log.capture.summaries import summary
from audit_log.conf import get_settings
from audit_log.recording import outbox, pending
from audit_log.recording.targets import target_id, target_type
from audit_log.recording.works import ANY_ROW

_original_delete = Collector.delete
_original_delete_batch = DeleteQuery.delete_batch
_original_raw_delete = models.QuerySet._raw_delete

_collector: ContextVar[Collector | None] = ContextVar("audit_log_collector", default=None)
# What references of the rows held before Django pointed them elsewhere, on the way to delete them.
_references: ContextVar[dict[tuple[type[models.Model], Any], dict[str, Any]] | None] = ContextVar(
    "audit_log_references", default=None
)


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


def current() -> Collector | None:
    """The deletion that is going on in this thread or task."""
    return _collector.get()


def _delete(self: Collector) -> Any:
    token, references = _collector.set(self), _references.set({})
    try:
        return _original_delete(self)
    finally:
        _references.reset(references)
        _collector.reset(token)


def going(model: type[models.Model]) -> set[Any]:
    """The keys of the rows of a concrete model that the present deletion takes, as far as known."""
    collector = _collector.get()
    data = {} if collector is None else collector.data
    same = [rows for kind, rows in data.items() if kind._meta.concrete_model is model]
    return {row.pk for rows in same for row in rows}


def remember(model: type[models.Model], key: Any, old: dict[str, Any]) -> None:
    """Keep what a row that goes referred to, for its own event."""
    known = _references.get()
    if known is not None:
        known.setdefault((model, key), {}).update(old)


def _delete_batch(self: DeleteQuery, pk_list: list[Any], using: str) -> int:
    model = self.model
    plan = plan_of(model) if model is not None else None
    if model is None or plan is None or context.current().suspended:
        return _original_delete_batch(self, pk_list, using)
    rows = _Rows(plan, model, using)
    with pending.bracket(rows.connection):
        guarded("capture_failed", rows.collect, connection=rows.connection, keys=pk_list)
        count = _original_delete_batch(self, pk_list, using)
        guarded("capture_failed", rows.capture, connection=rows.connection, count=count)
    return count


def _raw_delete(self: Any, using: str) -> int:
    plan = plan_of(self.model)
    if context.current().suspended:
        return _original_raw_delete(self, using)  # None for a query that is empty by itself
    if plan is None:
        return _raw_delete_members(self, using)
    rows = _Rows(plan, self.model, using)
    with pending.bracket(rows.connection):
        guarded("capture_failed", rows.find, connection=rows.connection, queryset=self)
        count = _original_raw_delete(self, using)
        guarded("capture_failed", rows.capture, connection=rows.connection, count=count or 0)
    return count


def _raw_delete_members(queryset: Any, using: str) -> int:
    """The rows of a table that a many-to-many field made for itself, when they go by cascade.

    Those that a related manager removes are captured there.
    """
    collector = _collector.get()
    field = memberships.field_of(queryset.model)
    origin = getattr(collector, "origin", None)
    own = isinstance(origin, models.QuerySet) and origin.model is queryset.model
    if collector is None or field is None or own:
        return _original_raw_delete(queryset, using)
    connection = connections[using]
    ended = memberships.Cascaded(field, connection)
    with pending.bracket(connection):
        guarded("capture_failed", ended.find, connection=connection, rows=queryset.using(using))
        count = _original_raw_delete(queryset, using)
        extra = cascade_to(queryset.model)
        guarded("capture_failed", ended.capture, connection=connection, extra=extra)
    return count


@dataclass(frozen=True, slots=True)
class _Row:
    """One row that is about to go: its key and label are not to be had afterwards."""

    key: Any
    instance: models.Model  # as it was loaded whole
    held: models.Model  # as Django, and maybe the project, has it
    label: str
    old: dict[str, Any]


class _Rows:
    """The rows that one statement deletes."""

    def __init__(self, plan: Plan, model: type[models.Model], using: str) -> None:
        self.plan = plan
        self.model = model
        self.connection = connections[using]
        self.rows: list[_Row] = []
        self.ranges: Ranges | None = None  # instead of the rows, when they are too many
        self.held: list[models.Model] = []
        self.absent: dict[Any, models.Model] = {}  # collected by Django, and gone when we looked
        self.skipped = 0  # rows whose event is that of a child

    def collect(self, *, keys: list[Any]) -> None:
        """Look at the instances that Django has collected, without parents of deleted children."""
        collected, children = self._collected()
        wanted = [key for key in keys if key not in children]
        self.skipped = len(keys) - len(wanted)
        if len(wanted) > get_settings().bulk_rows:
            self.ranges = Ranges(self.plan, in_order(wanted))
            self.held = [collected[key] for key in wanted if key in collected]
            return
        known = {key: row for key in wanted if (row := self._known(collected.get(key))) is not None}
        # For a cascade Django loads only some columns.
        full = self._load(key for key in wanted if key not in known)
        whole = {key: collected[key] if key in known else full.get(key) for key in wanted}
        there = {key: each for key, each in whole.items() if each is not None}
        self.absent = {k: collected[k] for k in wanted if k not in there and k in collected}
        labels = labels_of(list(there.values()), self.connection)
        for (key, instance), name in zip(there.items(), labels, strict=True):
            old = known[key] if key in known else self._fresh(instance)
            self._add(key, instance, collected.get(key, instance), name, old)

    def find(self, *, queryset: Any) -> None:
        """Look at the rows that a query set is about to delete unseen."""
        limit = get_settings().bulk_rows
        found = rows_of(queryset, self.model, self.connection, keys_stay=False)
        with outbox.quiet(self.connection):
            instances = loaded(found[: limit + 1])
            if len(instances) > limit:
                keys = found.order_by("pk").values_list("pk", flat=True)
                self.ranges = Ranges(self.plan, keys)
                return
        labels = labels_of(instances, self.connection)
        for instance, name in zip(instances, labels, strict=True):
            self._add(instance.pk, instance, instance, name, self._fresh(instance))

    def capture(self, *, count: int) -> None:
        """One event for each, in the order Django deletes them."""
        if not count:
            return
        if self.ranges is not None:
            self._add_summary(max(1, count - self.skipped), self.ranges)
            return
        # More than we saw: another transaction put them there after we had looked.
        more = count - self.skipped - len(self.rows)
        if more == len(self.absent):
            self._add_absent()
            more = 0
        # Fewer than asked for: another transaction was faster with some of them.
        outcome = "success" if count >= len(self.rows) else "unknown"
        fields = self._fields()
        mark = pending.mark(self.connection)
        for row in self.rows:
            event = changes.row_event(
                "delete",
                self.plan,
                row.instance,
                changes.of_deletion(fields, row.old),
                pk=row.key,
                label=row.label,
                source="orm",
                outcome=outcome,
                data=cascade(row.instance, row.key),
            )
            pending.add(self.connection, event)
            snapshots.deleted(row.held, self.plan, mark)
        if more > 0:
            self._add_summary(more, None)

    def _add_absent(self) -> None:
        """Rows with these keys were deleted all the same: what they held nobody saw."""
        rows = list(self.absent.values())
        labels = labels_of(rows, self.connection)
        for (key, row), name in zip(self.absent.items(), labels, strict=True):
            self._add(key, row, row, name, {})

    def _add_summary(self, count: int, keys: Ranges | None) -> None:
        mark = pending.mark(self.connection)
        mark.rows.add((self.plan.root, ANY_ROW))
        more = cascade_to(self.model)
        pending.add(
            self.connection, summary("delete", self.plan, count=count, keys=keys, more=more)
        )
        for held in self.held:
            snapshots.deleted(held, self.plan, mark)

    def _collected(self) -> tuple[dict[Any, models.Model], set[Any]]:
        collector = _collector.get()
        if collector is None:
            return {}, set()
        children: set[Any] = set()
        for other, others in collector.data.items():
            if _origin_model(collector) is self.plan.model:
                break  # the parent is what was to be deleted: it has its own event
            link = other._meta.get_ancestor_link(self.plan.model)
            if link is not None and plan_of(other) is not None:
                children.update(child.__dict__.get(link.attname, child.pk) for child in others)
        return {i.pk: i for i in collector.data.get(self.model, ())}, children

    def _known(self, instance: models.Model | None) -> dict[str, Any] | None:
        """The whole row as this process has it, where that is to be trusted."""
        if instance is None or self.plan.options.before == "database":
            return None
        row = dict(snapshots.old_values(instance, self.plan, self.connection.alias))
        return row if all(item.attname in row for item in self.plan.fields) else None

    def _fresh(self, instance: models.Model) -> dict[str, Any]:
        """The row of an instance that was loaded just now."""
        values = instance.__dict__
        names = self.plan.by_attname
        return snapshots.kept(self.plan, {name: values[name] for name in names if name in values})

    def _load(self, keys: Iterable[Any]) -> dict[Any, models.Model]:
        found: dict[Any, models.Model] = {}
        with outbox.quiet(self.connection):
            for portion in chunks(keys):
                found.update((i.pk, i) for i in self._query().filter(pk__in=portion))
        return found

    def _query(self) -> models.QuerySet[Any]:
        query = self.model._base_manager.using(self.connection.alias)
        if self.connection.features.has_select_for_update:
            return query.select_for_update()
        return query

    def _add(
        self,
        key: Any,
        instance: models.Model,
        held: models.Model,
        label: str,
        old: dict[str, Any],
    ) -> None:
        referred = (_references.get() or {}).get((self.plan.model, key), {})
        old = {**old, **{name: referred[name] for name in referred if name in old}}
        self.rows.append(_Row(key, instance, held, label, old))

    def _fields(self) -> list[FieldPlan]:
        """The fields that go: not those of a parent that is kept (`keep_parents`)."""
        collector = _collector.get()
        deleted = set() if collector is None else {m._meta.concrete_model for m in collector.data}
        kept = set(self.plan.model._meta.all_parents) - deleted
        return [item for item in self.plan.fields if item.field.model not in kept]


def _origin_model(collector: Collector) -> type[models.Model] | None:
    origin = getattr(collector, "origin", None)
    model = origin.model if isinstance(origin, models.QuerySet) else type(origin)
    return model._meta.concrete_model if issubclass(model, models.Model) else None


def cascade(instance: models.Model, key: Any) -> dict[str, Any] | None:
    """What the deletion started from, if not from this object."""
    origin = getattr(_collector.get(), "origin", None)
    return None if origin is instance else cascade_to(type(instance), key)


def cascade_to(model: type[models.Model], key: Any = None) -> dict[str, Any] | None:
    """What the deletion started from, if not from rows of this model, or the one with `key`."""
    origin = getattr(_collector.get(), "origin", None)
    if isinstance(origin, models.Model):
        kind = type(origin)
        if kind._meta.concrete_model is model._meta.concrete_model and origin.pk == key:
            return None
        return {"cascade_from": f"{target_type(kind)}:{target_id(kind, origin.pk)}"}
    if isinstance(origin, models.QuerySet) and not issubclass(model, origin.model):
        return {"cascade_from": target_type(origin.model)}
    return None
