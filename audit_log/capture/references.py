"""Rows that pointed at a deleted object, and that Django points elsewhere (`SET_NULL`, `SET`).

They change in the same transaction as the deletion, by a query set nobody wrote. Both ways in which
the collector does it are bracketed, and only while it does.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import connections, models
from django.db.models.sql import UpdateQuery

from audit_log import context
from audit_log.capture import changes, deletes
from audit_log.capture.before import chunks
from audit_log.capture.failures import guarded
from audit_log.capture.fields import FieldPlan
from audit_log.capture.labels import label
from audit_log.capture.plans import Plan, plan_of
from audit_log.capture.ranges import Ranges, in_order
from audit_log.capture.summaries import summary
from audit_log.conf import get_settings
from audit_log.recording import outbox, pending
from audit_log.recording.works import ANY_ROW

_original_update_batch = UpdateQuery.update_batch


def install() -> None:
    """Hook the method. Harmless when done twice."""
    UpdateQuery.update_batch = _update_batch  # type: ignore[method-assign]


def uninstall() -> None:
    """Put Django's own method back."""
    UpdateQuery.update_batch = _original_update_batch  # type: ignore[method-assign]


def _update_batch(self: UpdateQuery, pk_list: list[Any], values: Any, using: str) -> None:
    rows = None if self.model is None else rows_of(self.model, values, using)
    if rows is None:
        _original_update_batch(self, pk_list, values, using)
        return
    with pending.bracket(rows.connection):
        guarded("capture_failed", rows.collect, connection=rows.connection, keys=pk_list)
        _original_update_batch(self, pk_list, values, using)
        guarded("capture_failed", rows.capture, connection=rows.connection)


def rows_of(model: type[models.Model], values: dict[str, Any], using: str) -> References | None:
    """What to look at; None unless a deletion is pointing references elsewhere just now."""
    collector = deletes.current()
    if collector is None or len(values) != 1 or context.current().suspended:
        return None
    ((name, value),) = values.items()
    plan = plan_of(model)
    if plan is None or not any(field.name == name for field, _ in collector.field_updates):
        return None
    item = next((item for item in plan.fields if item.name == name), None)
    return None if item is None else References(plan, item, value, using)


class References:
    """The rows whose reference changes, and their old values."""

    def __init__(self, plan: Plan, item: FieldPlan, value: Any, using: str) -> None:
        self.plan = plan
        self.item = item
        self.value = value
        self.connection = connections[using]
        self.found: list[models.Model] = []
        self.ranges: Ranges | None = None  # instead of the rows, when they are too many

    def find(self, *, queryset: Any) -> None:
        """Look at the rows of a query set, and lock them."""
        limit = get_settings().bulk_rows
        rows = self._query().filter(pk__in=queryset.values("pk"))
        self._load([rows[: limit + 1]])
        if len(self.found) > limit:
            self.found = []
            with outbox.quiet(self.connection):
                self.ranges = Ranges(self.plan, rows.order_by("pk").values_list("pk", flat=True))

    def collect(self, *, keys: list[Any]) -> None:
        """Look at the rows with these keys, and lock them."""
        if len(keys) > get_settings().bulk_rows:
            self.ranges = Ranges(self.plan, in_order(keys))
            return
        self._load(self._query().filter(pk__in=portion) for portion in chunks(keys))

    def _query(self) -> models.QuerySet[Any]:
        query = self.plan.model._base_manager.using(self.connection.alias)
        if self.connection.features.has_select_for_update:
            return query.select_for_update()
        return query

    def _load(self, queries: Iterable[models.QuerySet[Any]]) -> None:
        with outbox.quiet(self.connection):
            for query in queries:
                self.found += query

    def capture(self, *, count: int | None = None) -> None:
        """One event for each row whose reference was another one before.

        None for rows that the same deletion takes: where foreign keys are checked at once (MariaDB)
        Django empties their references first, and then deletes them.
        """
        value = self.value.pk if isinstance(self.value, models.Model) else self.value
        mark = pending.mark(self.connection)
        attname = self.item.attname
        if self.ranges is not None:
            mark.rows.add((self.plan.root, ANY_ROW))
            event = summary(
                "update",
                self.plan,
                count=self.ranges.count if count is None else count,
                keys=self.ranges,
                fields=[self.item],
                values={attname: value},
                more=deletes.cascade_to(self.plan.model),
            )
            pending.add(self.connection, event)
            return
        going = deletes.going(self.plan.model)
        for instance in self.found:
            old = {attname: instance.__dict__.get(attname)}
            if instance.pk in going:
                deletes.remember(self.plan.model, instance.pk, old)
                continue
            found = changes.of_update([self.item], instance, old, {attname: value}, self.connection)
            if found.values:
                event = changes.row_event(
                    "update",
                    self.plan,
                    instance,
                    found,
                    pk=instance.pk,
                    label=label(instance, self.connection),
                    source="orm",
                    data=deletes.cascade(instance, instance.pk),
                )
                pending.add(self.connection, event)
                mark.rows.add((self.plan.root, instance.pk))
