"""How each model of the project is watched, and with which policy each of its fields."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from django.apps import apps
from django.db import models, router

from audit_log import conf, registry
from audit_log.capture.plans import by_triggers
from audit_log.models import Record
from audit_log.privacy import policies
from audit_log.privacy.names import kind_of

STATES: Final = ("unwatched", "unmanaged", "excluded", "bookkeeping", "own", "audited")
KINDS: Final = ("concrete", "proxy", "through", "unmanaged")
_BY_RULE: Final = {
    "unregister": "excluded",
    "EXCLUDE_MODELS": "excluded",
    "bookkeeping": "bookkeeping",
    "unmanaged": "unmanaged",
}


@dataclass(frozen=True, slots=True)
class Field:
    """A field of an audited model. `policy` is one of the four, or "key": it is the target's id."""

    name: str
    type: str
    policy: str
    rule: str


@dataclass(frozen=True, slots=True)
class Watched:
    """A model: `state` is one of STATES, `kind` one of KINDS.

    `rule` and `named` are those of `registry.Decision`, or "ENABLED". `through` is the field or the
    model under whose name the rows are recorded, where that is not the model itself.
    """

    model: type[models.Model]
    kind: str
    state: str
    rule: str
    named: str | None
    through: str | None
    fields: tuple[Field, ...]
    by_triggers: bool = False  # of the database: raw SQL is seen as well

    @property
    def label(self) -> str:
        """`app.Model`."""
        return self.model._meta.label

    @property
    def database(self) -> str:
        """The alias that its rows are written to."""
        return router.db_for_write(self.model)

    @property
    def unwatched(self) -> bool:
        """Whether it has a table of the project's that nobody watches and nobody excluded."""
        return self.kind == "concrete" and self.state == "unwatched"


def watched() -> list[Watched]:
    """Every installed model, proxies and automatic tables too, sorted by label."""
    found = [_watched(model) for model in apps.get_models(include_auto_created=True)]
    return sorted(found, key=lambda each: each.label)


def _watched(model: type[models.Model]) -> Watched:
    decision = registry.decide(model)
    through: str | None = None
    rule, named = decision.rule, decision.named
    if model._meta.proxy and model._meta.concrete_model is not None:
        through = model._meta.concrete_model._meta.label
    elif rule == "through":
        through, decision = _of_owner(model)
    state = _state(model, decision)
    if state == "unwatched" and not conf.get_settings().enabled:
        rule, named = "ENABLED", None
    fields = () if state != "audited" or through else tuple(_fields(model))
    owner: Any = model._meta.auto_created or model
    seen = state == "audited" and by_triggers(owner)
    return Watched(model, _kind(model), state, rule, named, through, fields, seen)


def _of_owner(model: type[models.Model]) -> tuple[str | None, registry.Decision]:
    """The field that made a table for itself, and what was decided of its owner."""
    owner: Any = model._meta.auto_created
    names = (
        field.name
        for field in owner._meta.local_many_to_many
        if field.remote_field.through is model
    )
    field = next(names, None)
    label = owner._meta.label
    return (label if field is None else f"{label}.{field}"), registry.decide(owner)


def _kind(model: type[models.Model]) -> str:
    if model._meta.proxy:
        return "proxy"
    if model._meta.auto_created:
        return "through"
    return "concrete" if model._meta.managed else "unmanaged"


def _state(model: type[models.Model], decision: registry.Decision) -> str:
    if model._meta.app_label == Record._meta.app_label:
        return "own"
    if decision.options is not None:
        return "audited" if conf.get_settings().enabled else "unwatched"
    return _BY_RULE.get(decision.rule, "unwatched")


def _fields(model: type[models.Model]) -> Iterator[Field]:
    meta = model._meta
    keys = {*meta.pk_fields, *(f for f in meta.concrete_fields if f.primary_key)}
    secret = policies.key_kind(model)
    for field in meta.concrete_fields:
        kind = type(field).__name__
        if field in keys or getattr(field.remote_field, "parent_link", False):
            yield Field(field.name, kind, "key", "target" if secret is None else f"name:{secret}")
        elif getattr(field, "generated", False):
            yield Field(field.name, kind, "excluded", "generated")
        else:
            policy = policies.field_policy(model, field)
            yield Field(field.name, kind, str(policy.policy), policy.rule)
    for relation in meta.many_to_many:
        # As `capture.memberships` records them: keys open, labels sealed or masked.
        named = kind_of(relation.name)
        rule = "members:labels sealed" if named is None else f"members:labels masked, name:{named}"
        yield Field(relation.name, type(relation).__name__, "open", rule)
