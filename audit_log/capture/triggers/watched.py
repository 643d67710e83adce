"""Which tables the triggers are on, and what they look at in each: worked out from the models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

from django.apps import apps
from django.db import models, router

from audit_log.capture.fields import FieldPlan
from audit_log.capture.plans import Plan, by_triggers, full_plan_of
from audit_log.exceptions import ConfigurationError
from audit_log.privacy.policies import Policy
from audit_log.recording.subjects import leads_to_key

# Compared by `=` and written by to_json(), which does not depend on how the session shows dates.
_KNOWN: Final = frozenset(
    {
        *("boolean", "smallint", "integer", "bigint", "numeric", "real", "double precision"),
        *("text", "character varying", "character", "uuid", "inet", "cidr", "jsonb"),
        *("date", "time without time zone", "time with time zone"),
        *("timestamp without time zone", "timestamp with time zone"),
    }
)


class As(Enum):
    """How a column is written."""

    JSON = auto()  # by to_json()
    LONG = auto()  # the same, cut where it is long
    BYTES = auto()  # the hash that stands for it
    SECONDS = auto()  # an interval
    TEXT = auto()  # any other type, as it prints
    MASK = auto()  # that there is a value
    CARD = auto()  # the same, and the last four digits of a card number


@dataclass(frozen=True, slots=True)
class Column:
    """A column that is looked at."""

    name: str
    way: As


@dataclass(frozen=True, slots=True)
class Table:
    """A table, and what its triggers write: as `model` (`label_lower`) the columns and the key."""

    model: type[models.Model]
    label: str
    name: str
    key: tuple[Column, ...]
    extra: tuple[Column, ...]  # goes along with the key: whose data it is
    columns: tuple[Column, ...]


def watched_models(using: str | None = None) -> list[type[models.Model]]:
    """The models whose changes are captured by triggers, and the tables of their members."""
    found: list[type[models.Model]] = []
    for model in apps.get_models():
        if model._meta.proxy or not by_triggers(model):
            continue
        if using is None or router.db_for_write(model) == using:
            found.append(model)
            found += automatic_tables(model)
    return found


def automatic_tables(model: type[models.Model]) -> Iterator[type[models.Model]]:
    """The models of the tables that many-to-many fields of a model made for themselves."""
    for relation in model._meta.local_many_to_many:
        through = relation.remote_field.through
        if through is not None and through._meta.auto_created:
            yield through


def table_of(model: type[models.Model], types: Mapping[str, str]) -> Table:
    """What to look at in a model's table, whose columns have these types.

    A column that the table does not have yet, or any more, is left out. Raises ConfigurationError.
    """
    if model._meta.auto_created:
        return _of_members(model, types)
    plan = full_plan_of(model)
    if plan is None:
        raise ConfigurationError(f"{model._meta.label} is not audited.")
    refuse(plan)
    keys = [str(field.column) for field in model._meta.pk_fields]
    local = {field.column for field in model._meta.local_concrete_fields}
    return Table(
        model=model,
        label=plan.type,
        name=model._meta.db_table,
        key=tuple(Column(name, _way(types[name])) for name in keys if name in types),
        extra=tuple(
            Column(name, _way(types[name]))
            for name in _subject_columns(plan)
            if name in types and name not in keys
        ),
        columns=tuple(
            Column(name, _way_of(item, types[name]))
            for item in plan.fields
            if (name := str(item.field.column)) in types and name in local
        ),
    )


def refuse(plan: Plan) -> None:
    """Raises ConfigurationError for what SQL cannot do as our own hooks do."""
    label = plan.model._meta.label
    if not plan.key_is_shown:
        raise ConfigurationError(
            f"{label} has a secret primary key, of which the log keeps a fingerprint; a trigger "
            'would write it in clear. Use capture="orm".'
        )
    if plan.subject is not None and not _subject_columns(plan):
        raise ConfigurationError(
            f"{label} has subject={plan.subject.rule!r}, which is no column of its table that "
            "tells a person by the primary key, so a trigger does not know whose data a row is. "
            'Name such a field, or use capture="orm".'
        )


def _subject_columns(plan: Plan) -> list[str]:
    name = None if plan.subject is None else plan.subject.rule
    if not isinstance(name, str):
        return []
    if name == "pk":
        return [str(field.column) for field in plan.model._meta.pk_fields]
    return [
        str(field.column)
        for field in plan.model._meta.local_concrete_fields
        if name in {field.name, field.attname} and leads_to_key(field)
    ]


def _of_members(through: type[models.Model], types: Mapping[str, str]) -> Table:
    field = member_field(through)
    names = (field.m2m_column_name(), field.m2m_reverse_name())
    return Table(
        model=through,
        label=through._meta.label_lower,
        name=through._meta.db_table,
        key=tuple(Column(name, _way(types[name])) for name in names if name in types),
        extra=(),
        columns=(),
    )


def member_field(through: type[models.Model]) -> Any:
    """The many-to-many field that made this table for itself."""
    owner: Any = through._meta.auto_created
    return next(
        field for field in owner._meta.local_many_to_many if field.remote_field.through is through
    )


def _way_of(item: FieldPlan, kind: str) -> As:
    if item.policy is Policy.MASKED:
        return As.CARD if item.keep_last4 else As.MASK
    return _way(kind)


def _way(kind: str) -> As:
    """By the type as `format_type` has it: `character varying(50)`, `text`, `integer[]`."""
    base = kind.partition("(")[0]
    if kind in {"text", "character varying", "jsonb"}:
        return As.LONG
    if base == "bytea":
        return As.BYTES
    if base == "interval":
        return As.SECONDS
    # Also of arrays, and of times with a precision before "with time zone".
    whole = base.removesuffix("[]") + (kind.partition(")")[2] if "(" in kind else "")
    return As.JSON if whole.removesuffix("[]") in _KNOWN else As.TEXT
