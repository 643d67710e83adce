"""What to look at in each model, worked out once per class.

A plan holds the fields that are looked at, each with its policy and with how its value becomes
JSON. The hot path of a save reads nothing else.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec
from django.db import models
from django.utils import timezone

from audit_log import conf
from audit_log.events import JSON, Redaction
from audit_log.privacy.policies import Policy, field_policy
from audit_log.privacy.redaction import mask, redact
from audit_log.recording.targets import target_type
from audit_log.recording.values import clean, digest, plain
from audit_log.registry import Options, options_for

NOT_LOADED: Final = object()
"""Stands for an old value that this process never saw."""


@dataclass(frozen=True, slots=True)
class FieldPlan:
    """One field: where its value is, what may be stored of it, and how it becomes JSON."""

    name: str
    attname: str
    field: models.Field[Any, Any]
    policy: Policy
    rule: str
    keep_last4: bool
    incidental: bool  # changes by itself (auto_now, last_login): no event on its own
    choices: dict[Any, Any] | None
    convert: Callable[[Any], Any]
    keep: Callable[[Any], Any] | None  # how to keep a mutable value; None for immutable ones
    kept: Callable[[Any], Any] | None  # and how to get it back

    def encode(self, value: Any) -> tuple[JSON, list[Redaction]]:
        """The value as JSON, before any policy, with its marks. Never raises."""
        path = f"changes.{self.name}"
        if value is None:
            return None, []
        try:
            value = self.convert(value)
        except Exception:  # noqa: BLE001 - a value the field itself would refuse: as it is, then
            return plain(value, path)
        if type(value) is str:
            text = clean(value)
            return text, [] if text == value else [Redaction(path, "sanitised")]
        return plain(value, path)

    def guard(self, value: JSON) -> tuple[JSON, list[Redaction]]:
        """An encoded value as the policy allows it to leave the process."""
        path = f"changes.{self.name}"
        if self.policy is Policy.MASKED:
            return mask(value, keep_last4=self.keep_last4), [Redaction(path, self.rule)]
        if isinstance(value, (dict, list)):
            return redact(value, path, **conf.get_settings().key_names)
        return value, []


@dataclass(frozen=True, slots=True)
class Plan:
    """One model: its fields in the order the database returns them."""

    model: type[models.Model]
    type: str
    options: Options
    attnames: tuple[str, ...]
    fields: tuple[FieldPlan, ...]
    by_attname: dict[str, FieldPlan]
    mutable: tuple[tuple[int, FieldPlan], ...]  # positions in a loaded row
    masked: tuple[FieldPlan, ...]

    def subject_of(self, instance: models.Model) -> str | None:
        """The person whose data the instance is: `app.model:id`, or `subject:value`."""
        name = self.options.subject
        if name is None:
            return None
        value = getattr(instance, name, None)
        if isinstance(value, models.Model):
            return f"{target_type(type(value))}:{value.pk}"
        if value is None:
            return None
        field = next((f for f in self.model._meta.concrete_fields if f.attname == name), None)
        related = getattr(field, "related_model", None)
        if isinstance(related, type) and issubclass(related, models.Model):
            return f"{target_type(related)}:{value}"
        if name in {"pk", "id", self.model._meta.pk.attname}:
            return f"{self.type}:{value}"
        return f"subject:{value}"


_plans: dict[type[models.Model], Plan | None] = {}


@conf.on_change
def forget() -> None:
    """Work every plan out again (settings changed, a model was registered)."""
    _plans.clear()


def plan_of(model: type[models.Model]) -> Plan | None:
    """The plan of a class, None when it is not audited."""
    try:
        return _plans[model]
    except KeyError:
        plan = _plans[model] = _make(model)
        return plan


def _make(model: type[models.Model]) -> Plan | None:
    if not conf.get_settings().enabled:
        return None
    options = options_for(model)
    concrete = model._meta.concrete_model
    if options is None or concrete is None:
        return None
    looked_at: list[FieldPlan] = []
    for item in concrete._meta.concrete_fields:
        if item in concrete._meta.pk_fields or getattr(item, "generated", False):
            continue  # the key is the target's id; a generated value follows from the others
        if _is_parent_link(item):
            continue
        plan = _field_plan(concrete, item)
        if plan.policy is not Policy.EXCLUDED:
            looked_at.append(plan)
    by_attname = {item.attname: item for item in looked_at}
    attnames = tuple(item.attname for item in concrete._meta.concrete_fields)
    return Plan(
        model=concrete,
        type=target_type(concrete),
        options=options,
        attnames=attnames,
        fields=tuple(looked_at),
        by_attname=by_attname,
        mutable=tuple(
            (n, by_attname[name])
            for n, name in enumerate(attnames)
            if name in by_attname and by_attname[name].keep is not None
        ),
        masked=tuple(item for item in looked_at if item.policy is Policy.MASKED),
    )


def _is_parent_link(item: models.Field[Any, Any]) -> bool:
    remote = getattr(item, "remote_field", None)
    return bool(remote is not None and getattr(remote, "parent_link", False))


def _field_plan(model: type[models.Model], item: models.Field[Any, Any]) -> FieldPlan:
    policy = field_policy(model, item)
    keep, kept = _keeping(item)
    return FieldPlan(
        name=item.name,
        attname=item.attname,
        field=item,
        policy=policy.policy,
        rule=policy.rule,
        keep_last4=policy.keep_last4,
        incidental=bool(getattr(item, "auto_now", False)) or _is_last_login(model, item),
        choices=dict(item.flatchoices) if item.choices else None,
        convert=_converter(item),
        keep=keep,
        kept=kept,
    )


def _is_last_login(model: type[models.Model], item: models.Field[Any, Any]) -> bool:
    # Every log-in writes it; the log-in itself is the event.
    user = conf.get_settings().user_model.lower()
    return item.name == "last_login" and model._meta.label_lower == user


_IMMUTABLE: Final = (
    models.BooleanField,
    models.CharField,
    models.DateField,
    models.DecimalField,
    models.DurationField,
    models.FileField,
    models.FloatField,
    models.GenericIPAddressField,
    models.IntegerField,
    models.TextField,
    models.TimeField,
    models.UUIDField,
    models.BinaryField,
    models.ForeignKey,
)


def _keeping(
    item: models.Field[Any, Any],
) -> tuple[Callable[[Any], Any] | None, Callable[[Any], Any] | None]:
    if isinstance(item, models.JSONField):
        # Encoded: 1.1 of a plain load, against 1.4 for a deep copy.
        return _keep_json, msgspec.json.decode
    if isinstance(item, _IMMUTABLE):
        return None, None
    return copy.deepcopy, _same


def _keep_json(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return msgspec.json.encode(plain(value)[0])


def _same(value: Any) -> Any:
    return value


def _converter(item: models.Field[Any, Any]) -> Callable[[Any], Any]:
    """What turns an attribute into the value the database holds, so that equal ones compare so."""
    while isinstance(item, models.ForeignKey):
        item = item.target_field
    if isinstance(item, models.DecimalField):
        return _decimal(item)
    if isinstance(item, models.DateTimeField):
        return _datetime(item)
    if isinstance(item, models.FileField):
        return _file_name
    if isinstance(item, models.BinaryField):
        return digest
    if isinstance(item, models.JSONField):
        return _same
    return item.to_python


def _decimal(item: models.DecimalField[Any, Any]) -> Callable[[Any], Any]:
    exponent = Decimal(1).scaleb(-(item.decimal_places or 0))

    def convert(value: Any) -> Any:
        number = item.to_python(value)
        if not isinstance(number, Decimal) or item.decimal_places is None:
            return number
        try:
            return number.quantize(exponent, context=item.context)
        except InvalidOperation:
            return number

    return convert


def _datetime(item: models.DateTimeField[Any, Any]) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        moment = item.to_python(value)
        if isinstance(moment, datetime) and timezone.is_naive(moment):
            return timezone.make_aware(moment)
        return moment

    return convert


def _file_name(value: Any) -> Any:
    return getattr(value, "name", value) or ""
