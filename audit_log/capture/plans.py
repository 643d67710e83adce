"""What to look at in each model, worked out once per class.

A plan holds the fields that are looked at, each with its policy and with how its value becomes
JSON. The hot path of a save reads nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connections, models, router

from audit_log import conf
from audit_log.capture import accounts
from audit_log.capture.fields import FieldPlan, plan_field
from audit_log.privacy.policies import Policy, key_kind
from audit_log.recording.subjects import Subject, subject_of
from audit_log.recording.targets import target_id, target_type
from audit_log.registry import Options, options_for


@dataclass(frozen=True, slots=True)
class Plan:
    """One model: its fields in the order the database returns them."""

    model: type[models.Model]
    root: type[models.Model]  # the topmost parent: one key for all tables of a row
    type: str
    options: Options
    subject: Subject | None
    attnames: tuple[str, ...]
    fields: tuple[FieldPlan, ...]
    by_attname: dict[str, FieldPlan]
    mutable: tuple[tuple[int, FieldPlan], ...]  # positions in a loaded row
    masked: tuple[FieldPlan, ...]
    unsteady: bool  # a field of somebody else's sets its value while the row is written
    key: tuple[int, ...]  # positions of the primary key in a loaded row
    key_is_shown: bool  # not secret
    account: frozenset[str]  # of the user model: fields whose change is one of the account

    def target_id(self, pk: Any) -> str | None:
        """A primary key as the target's id; `recording.targets` knows all kinds."""
        if self.key_is_shown and pk.__class__ is int:
            return str(pk)
        return target_id(self.model, pk)

    def key_in(self, values: Sequence[Any]) -> Any:
        """The primary key in a row as loaded."""
        if len(self.key) == 1:
            return values[self.key[0]]
        return tuple(values[position] for position in self.key)

    def subject_of(self, instance: models.Model) -> str | None:
        """The person whose data the instance is: `app.model:id`, or `subject:value`."""
        return None if self.subject is None else self.subject.of(instance)


_plans: dict[type[models.Model], Plan | None] = {}
_full: dict[type[models.Model], Plan | None] = {}


@conf.on_change
def forget() -> None:
    """Work every plan out again (settings changed, a model was registered)."""
    _plans.clear()
    _full.clear()


def plan_of(model: type[models.Model]) -> Plan | None:
    """The plan of a class whose changes our hooks capture; None where they leave it alone.

    That is where it is not audited, or where triggers of the database do.
    """
    try:
        return _plans[model]
    except KeyError:
        plan = _plans[model] = None if by_triggers(model) else full_plan_of(model)
        return plan


def full_plan_of(model: type[models.Model]) -> Plan | None:
    """The plan of a class, whoever captures its changes. None when it is not audited."""
    try:
        return _full[model]
    except KeyError:
        plan = _full[model] = _make(model)
        return plan


def by_triggers(model: type[models.Model]) -> bool:
    """Whether triggers capture the changes of a model: where it asks for that, on PostgreSQL."""
    options = options_for(model)
    if options is None or options.capture != "triggers" or not conf.get_settings().enabled:
        return False
    concrete = model._meta.concrete_model or model
    return connections[router.db_for_write(concrete)].vendor == "postgresql"


def _make(model: type[models.Model]) -> Plan | None:
    if not conf.get_settings().enabled:
        return None
    options = options_for(model)
    concrete = model._meta.concrete_model
    if options is None or concrete is None:
        return None
    looked_at: list[FieldPlan] = []
    for item in concrete._meta.concrete_fields:
        if item in concrete._meta.pk_fields or item.primary_key or _is_parent_link(item):
            continue  # the key is the target's id, as are its parents'
        if getattr(item, "generated", False):
            continue  # it follows from the others
        plan = plan_field(concrete, item)
        if plan.policy is not Policy.EXCLUDED:
            looked_at.append(plan)
    by_attname = {item.attname: item for item in looked_at}
    attnames = tuple(item.attname for item in concrete._meta.concrete_fields)
    loaded_mutable = {item.attname for item in looked_at if item.changes_in_place}
    return Plan(
        model=concrete,
        root=_root(concrete),
        type=target_type(concrete),
        options=options,
        subject=subject_of(concrete),
        attnames=attnames,
        fields=tuple(looked_at),
        by_attname=by_attname,
        mutable=tuple(
            (n, by_attname[name]) for n, name in enumerate(attnames) if name in loaded_mutable
        ),
        masked=tuple(item for item in looked_at if item.policy is Policy.MASKED),
        unsteady=any(item.sets_itself for item in looked_at),
        key=tuple(attnames.index(item.attname) for item in concrete._meta.pk_fields),
        key_is_shown=key_kind(concrete) is None,
        account=accounts.fields_of(concrete, (item.name for item in looked_at)),
    )


def _root(model: type[models.Model]) -> type[models.Model]:
    while _is_parent_link(model._meta.pk):
        model = model._meta.pk.remote_field.model  # type: ignore[union-attr]
    return model


def _is_parent_link(item: models.Field[Any, Any]) -> bool:
    remote = getattr(item, "remote_field", None)
    return bool(remote is not None and getattr(remote, "parent_link", False))
