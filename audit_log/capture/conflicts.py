"""`bulk_create(ignore_conflicts=True)` and `update_conflicts=True`: what was really written.

The database does not say which rows it inserted, updated or passed over. So rows with the same
unique values are read before and after: one that was not there is new, one that differs was
updated. What cannot be looked up so is one event that says how many rows were tried.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import reduce
from operator import or_
from typing import Any, Final

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Q
from django.db.models.constants import OnConflict

from audit_log.capture import accounts, changes, snapshots
from audit_log.capture.before import chunks
from audit_log.capture.failures import sheltered
from audit_log.capture.given import common_values, fields_of
from audit_log.capture.inserts import add_creation, give_keys
from audit_log.capture.labels import labels_of, remembering
from audit_log.capture.plans import Plan
from audit_log.capture.saves import is_expression, only_the_row_tells
from audit_log.capture.selections import loaded
from audit_log.capture.summaries import summary
from audit_log.conf import get_settings
from audit_log.recording import outbox, pending

_PORTION: Final = 200  # conditions a query; SQLite takes no more than 1,000 joined by OR
_PARAMETERS: Final = 900  # and no more than 999 of these

UniqueSet = tuple["models.Field[Any, Any]", ...]


class Upsert:
    """Rows that are inserted unless something of them is there already."""

    def __init__(
        self,
        plan: Plan,
        model: type[models.Model],
        rows: Sequence[models.Model],
        connection: BaseDatabaseWrapper,
        on_conflict: OnConflict,
        unique_fields: Iterable[models.Field[Any, Any]] | None,
    ) -> None:
        self.plan = plan
        self.model = model
        self.rows = rows
        self.connection = connection
        self.on_conflict = on_conflict
        self.sets = list(_unique_sets(plan.model, unique_fields))
        self.too_many = len(rows) > get_settings().bulk_rows
        self.before: dict[Any, models.Model] | None = None

    def find(self) -> None:
        """Look at the rows that are there already, and lock them."""
        if self.too_many:
            return
        with outbox.quiet(self.connection), sheltered(self.connection):
            found = self._lookup(lock=self.connection.vendor != "mysql")
            if found and self.connection.vendor == "mysql":
                # By key: to lock what is not there locks the gap, and two such are a deadlock.
                keys = [row.pk for row in found]
                found = [row for part in chunks(keys) for row in loaded(self._locked(part))]
            self.before = {row.pk: row for row in found}

    def _locked(self, keys: list[Any]) -> models.QuerySet[Any]:
        query: models.QuerySet[Any] = models.QuerySet(self.model, using=self.connection.alias)
        return query.filter(pk__in=keys).select_for_update()

    def _lookup(self, *, lock: bool) -> list[models.Model]:
        query: models.QuerySet[Any] = models.QuerySet(self.model, using=self.connection.alias)
        features = self.connection.features
        if lock and features.has_select_for_update:
            query = query.select_for_update(no_key=features.has_select_for_no_key_update)
        size = sum(len(fields) for fields in self.sets)
        portion = max(1, min(_PORTION, _PARAMETERS // max(1, size)))
        found: dict[Any, models.Model] = {}
        for start in range(0, len(self.rows), portion):
            asked = self._conditions(self.rows[start : start + portion])
            if asked is not None:
                found.update((row.pk, row) for row in loaded(query.filter(asked)))
        return list(found.values())

    def _conditions(self, rows: Sequence[models.Model]) -> Q | None:
        parts: list[Q] = []
        for fields in self.sets:
            known = [values for row in rows if (values := _values(row, fields)) is not None]
            if known and len(fields) == 1:
                parts.append(Q((f"{fields[0].attname}__in", [value for (value,) in known])))
            else:
                names = [field.attname for field in fields]
                parts += [Q(*zip(names, values, strict=True)) for values in known]
        return reduce(or_, parts) if parts else None

    def capture(self, *, returned: Sequence[Sequence[Any]]) -> None:
        """An event for each row that is there and was not, or that is not as it was."""
        give_keys(self.rows, returned)
        if self.before is None:
            self._add_attempt(self.rows)
            return
        with outbox.quiet(self.connection), sheltered(self.connection):
            after = self._lookup(lock=False)
        mark = pending.mark(self.connection)
        matched = self._match(after)
        with remembering():
            for row, name in zip(after, labels_of(after, self.connection), strict=True):
                given = matched.get(row.pk)
                if row.pk not in self.before:
                    self._add_creation(row, given, name)
                elif self.on_conflict == OnConflict.UPDATE:
                    self._add_update(self.before[row.pk], row, name)
                else:
                    continue
                mark.rows.add((self.plan.root, row.pk))
                if given is not None and given.pk == row.pk:
                    values = self._held(row)
                    snapshots.written(given, self.plan, self.connection.alias, values, mark)
        unknown = [row for row in self.rows if self._conditions([row]) is None]
        if unknown:
            self._add_attempt(unknown)

    def _match(self, after: Iterable[models.Model]) -> dict[Any, models.Model]:
        """Which of the given instances each row comes from, by key."""
        given: dict[tuple[Any, ...], models.Model] = {}
        for instance in self.rows:
            for place in self._places(instance):
                given[place] = instance
        found = {}
        for row in after:
            for place in self._places(row):
                if place in given:
                    found[row.pk] = given[place]
                    break
        return found

    def _places(self, row: models.Model) -> Iterator[tuple[Any, ...]]:
        for number, fields in enumerate(self.sets):
            values = _values(row, fields)
            if values is not None:
                yield (number, *map(_normal, fields, values))

    def _held(self, row: models.Model) -> dict[str, Any]:
        values = row.__dict__
        return {name: values[name] for name in self.plan.by_attname if name in values}

    def _add_creation(self, row: models.Model, given: models.Model | None, name: str) -> None:
        # Another transaction may have inserted it, in between: then it holds something else.
        ours = given is not None and self._is_as_given(row, given)
        outcome = "success" if ours else "unknown"
        add_creation(self.plan, row, self._held(row), self.connection, label=name, outcome=outcome)

    def _is_as_given(self, row: models.Model, given: models.Model) -> bool:
        for item in self.plan.fields:
            value = given.__dict__.get(item.attname)
            if only_the_row_tells(item, value):
                continue
            kept = snapshots.kept(self.plan, {item.attname: row.__dict__.get(item.attname)})
            if not item.same(kept[item.attname], value):
                return False
        return True

    def _add_update(self, before: models.Model, row: models.Model, name: str) -> None:
        old = snapshots.kept(self.plan, self._held(before))
        new = self._held(row)
        found = changes.of_update(self.plan.fields, row, old, new, self.connection)
        if found.values:
            event = changes.row_event(
                "update", self.plan, row, found, pk=row.pk, label=name, source="orm"
            )
            pending.add(self.connection, event)
            if self.plan.account:
                accounts.follow(event, row, self.plan.account, self.connection)

    def _add_attempt(self, rows: Sequence[models.Model]) -> None:
        """Of these nobody can say whether they were written."""
        event = summary(
            "create",
            self.plan,
            count=None,
            fields=fields_of(self.plan, rows),
            values=common_values(self.plan.fields, rows),
            extra={"attempted": len(rows), "conflicts": self.on_conflict.name.lower()},
        )
        pending.add(self.connection, event)


def _unique_sets(
    model: type[models.Model], chosen: Iterable[models.Field[Any, Any]] | None
) -> Iterator[UniqueSet]:
    """The fields by which a row can meet another one: its key, and what is unique."""
    meta = model._meta
    yield tuple(meta.pk_fields)
    if chosen:
        if list(chosen) != list(meta.pk_fields):
            yield tuple(chosen)
        return
    for field in meta.concrete_fields:
        if field.unique and not field.primary_key:
            yield (field,)
    named = [*meta.unique_together, *(each.fields for each in meta.total_unique_constraints)]
    for names in named:
        fields: list[Any] = [meta.get_field(name) for name in names]
        yield tuple(fields)


def _values(row: models.Model, fields: UniqueSet) -> tuple[Any, ...] | None:
    """What is unique of a row; None where a part is null, which meets nothing, or an expression."""
    values = tuple(row.__dict__.get(field.attname) for field in fields)
    return None if any(value is None or is_expression(value) for value in values) else values


def _normal(field: models.Field[Any, Any], value: Any) -> Any:
    try:
        value = field.to_python(value)
        hash(value)
    except Exception:  # noqa: BLE001 - then only a row that reads the same is the same
        return repr(value)
    return value
