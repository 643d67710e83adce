"""From old and new values to the `changes`, `labels` and marks of one event."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from audit_log import context
from audit_log.capture.brief import UNSURE
from audit_log.capture.fields import NOT_LOADED, FieldPlan
from audit_log.capture.labels import label_related
from audit_log.capture.plans import Plan
from audit_log.events import JSON, Event, Redaction, Target
from audit_log.privacy.policies import Policy
from audit_log.recording.values import clean, safe_str


class Changes:
    """What one event says about the fields of its target."""

    __slots__ = ("labels", "redactions", "sealed", "values")

    def __init__(self) -> None:
        self.values: dict[str, list[JSON]] = {}
        self.labels: dict[str, list[str | None]] = {}
        self.redactions: list[Redaction] = []
        self.sealed: list[str] = []

    def add(self, item: FieldPlan, kept: Any, new: Any) -> bool:
        """Note that a field went from `kept` to `new`. Whether it did.

        `kept` is as a snapshot has it, `new` as Python has it.
        """
        native = item.native
        if (new is None or type(new) is native) and (kept is None or type(kept) is native):
            # Most of them: scalars in which there is nothing to mark or to mask.
            old_json = None if kept is None else item.brief(kept)
            new_json = None if new is None else item.brief(new)
            if old_json is not UNSURE and new_json is not UNSURE:
                if old_json == new_json:
                    return False
                self.values[item.name] = [old_json, new_json]
                if item.policy is Policy.SEALED:
                    self.sealed.append(item.path)
                if item.choices is not None:
                    self._label(item, _choice(item, kept), _choice(item, new))
                return True
        return self._add(item, kept, new)

    def _add(self, item: FieldPlan, kept: Any, new: Any) -> bool:
        unknown, old = kept is NOT_LOADED, item.restore(kept)
        old_json, old_marks = (None, ()) if unknown else item.encode(old)
        new_json, new_marks = item.encode(new)
        if not unknown and item.equal(old_json, new_json, (old_marks, new_marks), (kept, new)):
            return False
        old_safe, more_old = item.guard(old_json)
        new_safe, more_new = item.guard(new_json)
        self.values[item.name] = [old_safe, new_safe]
        if unknown or old_marks or new_marks or more_old or more_new:
            marks = {*old_marks, *new_marks, *more_old, *more_new}
            if unknown:
                marks.add(Redaction(f"{item.path}.0", "not_loaded"))
            self.redactions += sorted(marks)
        if item.policy is Policy.SEALED:
            self.sealed.append(item.path)
        if item.choices is not None and item.policy is not Policy.MASKED:
            self._label(item, _choice(item, old), _choice(item, new))
        return True

    def add_summed(self, item: FieldPlan, old: Any, new: Any) -> None:
        """Note what is known of a field in many rows; a mark stands for the rest."""
        if new is not NOT_LOADED:
            self._add(item, old, new)
            return
        self.values[item.name] = [None, None]
        sides = ("0", "1") if old is NOT_LOADED else ("1",)
        self.redactions += [Redaction(f"{item.path}.{side}", "not_loaded") for side in sides]
        if item.policy is Policy.SEALED:
            self.sealed.append(item.path)

    def label_relation(
        self, item: FieldPlan, instance: models.Model, connection: BaseDatabaseWrapper
    ) -> None:
        """Label a foreign key by the object that is loaded already; never load one."""
        related = instance._state.fields_cache.get(item.field.name)
        if related is not None and getattr(related, "pk", None) is not None:
            self._label(item, None, label_related(related, connection))

    def _label(self, item: FieldPlan, old: str | None, new: str | None) -> None:
        if old is not None or new is not None:
            self.labels[item.name] = [old, new]


def _choice(item: FieldPlan, value: Any) -> str | None:
    if value is None or value is NOT_LOADED or item.choices is None:
        return None
    try:
        found = item.choices.get(value)
    except TypeError:  # an unhashable value is no choice
        return None
    return None if found is None else clean(safe_str(found))


def row_event(
    action: str,
    plan: Plan,
    instance: models.Model,
    changes: Changes,
    *,
    pk: Any,
    label: str,
    **values: Any,
) -> Event:
    """The event of one changed row. `values` are other fields of Event."""
    kind = instance.__class__  # not type(): `request.user` is a lazy object
    if kind is not plan.model and kind._meta.proxy:
        values["data"] = {**(values.get("data") or {}), "proxy": kind._meta.label_lower}
    return context.new_event(
        action,
        target=Target(type=plan.type, id=plan.target_id(pk), label=label),
        changes=changes.values or None,
        labels=changes.labels or None,
        redactions=tuple(changes.redactions),
        sealed=tuple(changes.sealed),
        subject=plan.subject_of(instance),
        **values,
    )


def of_creation(
    plan: Plan,
    instance: models.Model,
    values: Mapping[str, Any],
    connection: BaseDatabaseWrapper,
) -> Changes:
    """Every value that is set; what is null was not changed."""
    changes = Changes()
    for item in plan.fields:
        new = values.get(item.attname)
        if new is not None and changes.add(item, None, new):
            _add_relation_label(changes, item, instance, connection)
    return changes


def of_deletion(fields: Iterable[FieldPlan], kept: Mapping[str, Any]) -> Changes:
    """Every old value that was set, or a mark that it is not known."""
    changes = Changes()
    for item in fields:
        old = kept.get(item.attname, NOT_LOADED)
        if old is not None:
            changes.add(item, old, None)
    return changes


def of_update(
    items: Iterable[FieldPlan],
    instance: models.Model,
    kept: Mapping[str, Any],
    new: Mapping[str, Any],
    connection: BaseDatabaseWrapper,
) -> Changes:
    """The fields whose value differs; none when only incidental ones do."""
    changes = Changes()
    telling = False
    for item in items:
        name = item.attname  # a row that is gone again could not tell
        if name in new and changes.add(item, kept.get(name, NOT_LOADED), new[name]):
            telling = telling or not item.incidental
            _add_relation_label(changes, item, instance, connection)
    return changes if telling else Changes()


def _add_relation_label(
    changes: Changes, item: FieldPlan, instance: models.Model, connection: BaseDatabaseWrapper
) -> None:
    if item.relation and item.policy is Policy.OPEN:
        changes.label_relation(item, instance, connection)
