"""Which policy a model field, a primary key and an entry of `data` has, and by which rule.

The first that speaks decides: the project's own options and settings, then the name, then the
type. Anything unknown is sealed.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any, Final, Protocol

from django.db import models

from audit_log import conf, registry
from audit_log.privacy import names
from audit_log.privacy.maskers import Masker
from audit_log.privacy.names import Kind, Named


class Policy(StrEnum):
    """What happens to a value: see the words of the design."""

    OPEN = "open"
    SEALED = "sealed"
    MASKED = "masked"
    EXCLUDED = "excluded"


@dataclass(frozen=True, slots=True)
class FieldPolicy:
    """A policy and the rule that chose it. The others are what `maskers.shown` is to be told."""

    policy: Policy
    rule: str
    keep_last4: bool = False
    masker: Masker | None = None


class Declared(Protocol):
    """What a model asked for: `registry.Options`."""

    @property
    def open(self) -> frozenset[str]: ...
    @property
    def sealed(self) -> frozenset[str]: ...
    @property
    def masked(self) -> frozenset[str]: ...
    @property
    def excluded(self) -> frozenset[str]: ...
    @property
    def maskers(self) -> tuple[tuple[str, Masker], ...]: ...


class Rules(Protocol):
    """What the project asked for: `conf.Settings`."""

    @property
    def open_fields(self) -> tuple[str, ...]: ...
    @property
    def sealed_fields(self) -> tuple[str, ...]: ...
    @property
    def mask_fields(self) -> tuple[str, ...]: ...
    @property
    def exclude_fields(self) -> tuple[str, ...]: ...
    @property
    def mask_keys(self) -> tuple[str, ...]: ...
    @property
    def safe_keys(self) -> tuple[str, ...]: ...


# Django's fields have no common type of their own for typing: forward and generic ones differ.
Field = Any

_OPEN_FIELDS: Final = (
    models.BooleanField,
    models.IntegerField,
    models.FloatField,
    models.DecimalField,
    models.DateField,
    models.TimeField,
    models.DurationField,
    models.UUIDField,
)
_OPEN_VALUES: Final = (
    bool,
    int,
    float,
    type(None),
    Decimal,
    datetime.date,
    datetime.time,
    datetime.timedelta,
    uuid.UUID,
)
_MASKED_KINDS: Final = frozenset({Kind.SECRET, Kind.CARD_SECRET, Kind.CARD})

_Options = tuple[registry.Options, ...]
_decided: dict[tuple[type[models.Model], str], tuple[conf.Settings, _Options, FieldPolicy]] = {}


def field_policy(model: type[models.Model], field: Field) -> FieldPolicy:
    """The policy of a field of a model, from its registration and the settings in force."""
    options, settings = _options(model, field), conf.get_settings()
    known = _decided.get((model, field.name))
    if known is not None and known[0] is settings and known[1] == options:
        return known[2]
    policy = decide(field, _labels(model, field), options, settings)
    _decided[model, field.name] = (settings, options, policy)
    return policy


def decide(
    field: Field, labels: Iterable[str], declared: Iterable[Declared], rules: Rules
) -> FieldPolicy:
    """The policy of a field known by `labels` ("app.model", its own and its parents')."""
    return (
        _by_models(field, declared)
        or _by_settings(field, labels, rules)
        or _by_names(field, rules)
        or _by_type(field)
    )


def data_policy(key: str, value: object) -> FieldPolicy:
    """The policy of an entry of `record(data={key: value})`."""
    settings = conf.get_settings()
    return decide_data(key, value, settings.mask_keys, settings.safe_keys)


def decide_data(
    key: str, value: object, mask_keys: tuple[str, ...] = (), safe_keys: tuple[str, ...] = ()
) -> FieldPolicy:
    """The same from its parts. Every kind of name is masked here: `data` is not needed for undo."""
    named = names.judge(key, mask_keys, safe_keys)
    if named is not None:
        return FieldPolicy(Policy.MASKED, named.rule, keep_last4=named.kind is Kind.CARD)
    policy = Policy.OPEN if isinstance(value, _OPEN_VALUES) else Policy.SEALED
    return FieldPolicy(policy, f"type:{type(value).__name__}")


def key_kind(model: type[models.Model]) -> str | None:
    """Why the primary keys of a model may not be shown, or None when they may.

    Where it is not None, a target's id is `fingerprint(key_kind, key)`.
    """
    meta = model._meta
    keys = getattr(meta, "pk_fields", None) or [meta.pk]
    kinds = (_kind_of_key(model, key) for key in keys)
    return next((kind for kind in kinds if kind is not None), None)


def _options(model: type[models.Model], field: Field) -> _Options:
    """The options of the model, then of the parent the field was inherited from."""
    owners = (model,) if field.model is model else (model, field.model)
    found = (registry.options_for(owner) for owner in owners)
    return tuple(options for options in found if options is not None)


def _labels(model: type[models.Model], field: Field) -> tuple[str, ...]:
    return tuple({owner._meta.label_lower for owner in (model, field.model)})


def _by_models(field: Field, declared: Iterable[Declared]) -> FieldPolicy | None:
    spellings = {field.name, getattr(field, "attname", field.name)}
    for options in declared:
        for policy, fields in (
            (Policy.EXCLUDED, options.excluded),
            (Policy.MASKED, options.masked),
            (Policy.SEALED, options.sealed),
            (Policy.OPEN, options.open),
        ):
            if not spellings.isdisjoint(fields):
                chosen = _chosen(policy, f"model:{policy}", field)
                return _with_masker(chosen, spellings, options) if options.maskers else chosen
    return None


def _with_masker(chosen: FieldPolicy, spellings: set[str], options: Declared) -> FieldPolicy:
    own = [masker for name, masker in options.maskers if name in spellings]
    if chosen.policy is not Policy.MASKED or not own:
        return chosen
    return replace(chosen, keep_last4=False, masker=own[0])


def _by_settings(field: Field, labels: Iterable[str], rules: Rules) -> FieldPolicy | None:
    paths = [f"{label}.{field.name.lower()}" for label in labels]
    for policy, setting, patterns in (
        (Policy.EXCLUDED, "EXCLUDE_FIELDS", rules.exclude_fields),
        (Policy.MASKED, "MASK_FIELDS", rules.mask_fields),
        (Policy.SEALED, "SEALED_FIELDS", rules.sealed_fields),
        (Policy.OPEN, "OPEN_FIELDS", rules.open_fields),
    ):
        for pattern in patterns:
            if any(fnmatchcase(path, pattern.lower()) for path in paths):
                return _chosen(policy, f"setting:{setting}", field)
    return None


def _chosen(policy: Policy, rule: str, field: Field) -> FieldPolicy:
    card = policy is Policy.MASKED and names.kind_of(field.name) is Kind.CARD
    return FieldPolicy(policy, rule, keep_last4=card)


def _by_names(field: Field, rules: Rules) -> FieldPolicy | None:
    named = _named(field, rules)
    if named is None:
        return None
    policy = Policy.MASKED if named.kind in _MASKED_KINDS else Policy.SEALED
    return FieldPolicy(policy, named.rule, keep_last4=named.kind is Kind.CARD)


def _named(field: Field, rules: Rules) -> Named | None:
    """What the field's name says, or that of the key it holds: a session's key is a secret."""
    for name in (field.name, *_referenced(field)):
        named = names.judge(name, rules.mask_keys, rules.safe_keys)
        if named is not None:
            return named
    return None


def _referenced(field: Field) -> list[str]:
    """The names of the keys that a relation holds, also through keys that are relations."""
    found: list[str] = []
    while getattr(field, "remote_field", None) is not None:
        # A ForeignKey says which field it holds (to_field); a ManyToManyField holds primary keys.
        target = getattr(field, "target_field", None) or field.remote_field.model._meta.pk
        if target is None or target.name in found:
            break
        found.append(target.name)
        field = target
    return found


def _by_type(field: Field) -> FieldPolicy:
    rule = f"type:{type(field).__name__}"
    if isinstance(field, models.GeneratedField):
        return FieldPolicy(_by_type(field.output_field).policy, rule)
    is_key = getattr(field, "is_relation", False) or _is_in_primary_key(field)
    is_open = is_key or bool(getattr(field, "choices", None)) or isinstance(field, _OPEN_FIELDS)
    return FieldPolicy(Policy.OPEN if is_open else Policy.SEALED, rule)


def _is_in_primary_key(field: Field) -> bool:
    """A primary key, or a part of a composite one."""
    if getattr(field, "primary_key", False):
        return True
    model = getattr(field, "model", None)  # a field of its own, as in a GeneratedField, has none
    return model is not None and field in getattr(model._meta, "pk_fields", ())


def _kind_of_key(model: type[models.Model], key: Field) -> str | None:
    policy = field_policy(model, key).policy
    if policy in (Policy.OPEN, Policy.EXCLUDED):
        return None
    named = _named(key, conf.get_settings())
    return "key" if named is None else named.kind
