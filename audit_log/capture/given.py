"""Instances that a project hands over by the hundred: what they have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from audit_log.capture import snapshots
from audit_log.capture.fields import NOT_LOADED, FieldPlan
from audit_log.capture.plans import Plan
from audit_log.capture.saves import is_expression, only_the_row_tells
from audit_log.recording import pending


def fields_of(plan: Plan, rows: Sequence[models.Model]) -> list[FieldPlan]:
    """The fields that are not null in all of these rows."""
    return [
        item
        for item in plan.fields
        if any(row.__dict__.get(item.attname) is not None for row in rows)
    ]


def common_values(items: Sequence[FieldPlan], rows: Sequence[models.Model]) -> dict[str, Any]:
    """The values that are the same in all of these rows, by attribute name."""
    common = {}
    for item in items:
        first = rows[0].__dict__.get(item.attname, NOT_LOADED)
        if only_the_row_tells(item, first):
            continue
        if all(_equal(first, row.__dict__.get(item.attname, NOT_LOADED)) for row in rows):
            common[item.attname] = first
    return common


def _equal(first: Any, value: Any) -> bool:
    if value is first:
        return True
    if type(value) is not type(first):
        return False
    try:
        return bool(value == first)
    except Exception:  # noqa: BLE001 - an array of numbers has no truth
        return False


def note(
    plan: Plan,
    rows: Sequence[models.Model],
    connection: BaseDatabaseWrapper,
    items: Sequence[FieldPlan] | None = None,
) -> None:
    """Note what these rows hold from now on, without an event."""
    inside = pending.in_transaction(connection)
    mark = pending.mark(connection) if inside else None
    looked_at = plan.fields if items is None else items
    for row in rows:
        if row.pk is None:
            continue
        held = {item.attname: row.__dict__.get(item.attname, NOT_LOADED) for item in looked_at}
        values = {
            name: NOT_LOADED if is_expression(value) else value for name, value in held.items()
        }
        snapshots.written(row, plan, connection.alias, values, mark)
