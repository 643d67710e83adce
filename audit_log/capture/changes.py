"""From old and new values to the `changes`, `labels` and marks of one event."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.db import models

from audit_log import context
from audit_log.capture.plans import NOT_LOADED, FieldPlan, Plan
from audit_log.events import JSON, Event, Redaction, Target
from audit_log.privacy.policies import Policy
from audit_log.privacy.redaction import MASK
from audit_log.recording.targets import MAX_LABEL, target_id
from audit_log.recording.values import clean, safe_str


class Changes:
    """What one event says about the fields of its target."""

    __slots__ = ("labels", "redactions", "sealed", "values")

    def __init__(self) -> None:
        self.values: dict[str, list[JSON]] = {}
        self.labels: dict[str, list[str | None]] = {}
        self.redactions: list[Redaction] = []
        self.sealed: list[str] = []

    def add(self, item: FieldPlan, old: Any, new: Any) -> bool:
        """Note that a field went from `old` to `new`, both as Python has them. Whether it did."""
        unknown = old is NOT_LOADED
        old_json, old_marks = (None, []) if unknown else item.encode(old)
        new_json, new_marks = item.encode(new)
        if not unknown and old_json == new_json and type(old_json) is type(new_json):
            return False
        path = f"changes.{item.name}"
        old_safe, more_old = item.guard(old_json)
        new_safe, more_new = item.guard(new_json)
        self.values[item.name] = [old_safe, new_safe]
        marks = {*old_marks, *new_marks, *more_old, *more_new}
        if unknown:
            marks.add(Redaction(f"{path}.0", "not_loaded"))
        self.redactions += sorted(marks)
        if item.policy is Policy.SEALED:
            self.sealed.append(path)
        if item.choices is not None and item.policy is not Policy.MASKED:
            self._label(item, _choice(item, old), _choice(item, new))
        return True

    def label_relation(self, item: FieldPlan, instance: models.Model) -> None:
        """Label a foreign key by the object that is loaded already; never load one."""
        related = instance._state.fields_cache.get(item.field.name)
        if related is not None and getattr(related, "pk", None) is not None:
            self._label(item, None, safe_str(related)[:MAX_LABEL])

    def _label(self, item: FieldPlan, old: str | None, new: str | None) -> None:
        if old is not None or new is not None:
            self.labels[item.name] = [old, new]


def _choice(item: FieldPlan, value: Any) -> str | None:
    if value is None or value is NOT_LOADED or item.choices is None:
        return None
    try:
        label = item.choices.get(value)
    except TypeError:  # an unhashable value is no choice
        return None
    return None if label is None else clean(safe_str(label))


def row_event(
    action: str,
    plan: Plan,
    instance: models.Model,
    changes: Changes,
    *,
    pk: Any = None,
    source: str = "orm",
    **values: Any,
) -> Event:
    """The event of one changed row."""
    label = safe_str(instance)[:MAX_LABEL]
    for item in plan.masked:
        # A masked value must not come back by way of __str__.
        secret = getattr(instance, item.attname, None)
        if isinstance(secret, str) and secret and secret in label:
            label = label.replace(secret, MASK)
    key = instance.pk if pk is None else pk
    return context.new_event(
        action,
        source=source,
        target=Target(type=plan.type, id=target_id(plan.model, key), label=label),
        changes=changes.values or None,
        labels=changes.labels or None,
        redactions=tuple(changes.redactions),
        sealed=tuple(changes.sealed),
        subject=plan.subject_of(instance),
        **values,
    )


def of_creation(plan: Plan, instance: models.Model, values: Mapping[str, Any]) -> Changes:
    """Every value that is set; what is null was not changed."""
    changes = Changes()
    for item in plan.fields:
        new = values.get(item.attname)
        if new is not None and changes.add(item, None, new):
            _add_relation_label(changes, item, instance)
    return changes


def of_deletion(plan: Plan, values: Mapping[str, Any]) -> Changes:
    """Every old value that was set, or a mark that it is not known."""
    changes = Changes()
    for item in plan.fields:
        old = values.get(item.attname, NOT_LOADED)
        if old is not None:
            changes.add(item, old, None)
    return changes


def of_update(
    plan: Plan, instance: models.Model, old: Mapping[str, Any], new: Mapping[str, Any]
) -> Changes:
    """The fields whose value differs; none when only incidental ones do."""
    changes = Changes()
    telling = False
    for item in _in_order(plan, new):
        before, after = old.get(item.attname, NOT_LOADED), new[item.attname]
        if before is after or (type(before) is type(after) and before == after):
            continue
        if changes.add(item, before, after):
            telling = telling or not item.incidental
            _add_relation_label(changes, item, instance)
    return changes if telling else Changes()


def _in_order(plan: Plan, names: Iterable[str]) -> Iterable[FieldPlan]:
    wanted = names if isinstance(names, (dict, set, frozenset)) else set(names)
    return (item for item in plan.fields if item.attname in wanted)


def _add_relation_label(changes: Changes, item: FieldPlan, instance: models.Model) -> None:
    if item.field.is_relation and item.policy is Policy.OPEN:
        changes.label_relation(item, instance)
