"""The rows that a statement of a query set is about to write."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from functools import cache, partial
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.base import ModelState

from audit_log.capture.before import chunks


def rows_of(
    queryset: Any,
    model: type[models.Model],
    connection: BaseDatabaseWrapper,
    *,
    keys_stay: bool,
) -> models.QuerySet[Any]:
    """The rows that a query set's UPDATE or DELETE takes, whole and unordered; locked when read.

    Where `keys_stay`, rows that refer to these need not wait.

    By its own conditions where one table is asked for: a subquery would not notice that another
    transaction has changed, meanwhile, what they ask for. Else by key, as Django does.
    """
    query = queryset.query.chain()
    query.clear_ordering(force=True)
    query.clear_select_clause()
    query.select_for_update = False
    query.get_initial_alias()
    if query.count_active_tables() == 1 and query.group_by is None and not query.extra_tables:
        query.distinct, query.distinct_fields = False, ()
        query.clear_deferred_loading()
        query.default_cols = True
        rows: models.QuerySet[Any] = models.QuerySet(model, query=query, using=connection.alias)
    else:
        query.extra = {}
        query.add_fields([model._meta.pk.name])
        rows = models.QuerySet(model, using=connection.alias).filter(pk__in=query)
    features = connection.features
    if not features.has_select_for_update:
        return rows
    return rows.select_for_update(no_key=keys_stay and features.has_select_for_no_key_update)


def loaded(rows: models.QuerySet[Any], absent: Absent | None = None) -> list[models.Model]:
    """The rows as instances for our own use, past `__init__` and its signals where it is Django's.

    Receivers of the project's would see instances that it never asked for, and to make them so
    takes longer than all the rest. They have no snapshot. What is `absent` is left out, and there
    when it is asked for.
    """
    model: type[models.Model] = rows.model
    if model.__init__ is not models.Model.__init__:
        return list(rows)
    names = [field.attname for field in model._meta.concrete_fields]
    if absent is not None:
        names = [name for name in names if name not in absent.names]
    made = []
    for values in rows.values_list(*names):
        row = model.__new__(model)
        state = row.__dict__["_state"] = ModelState()
        state.adding, state.db = False, rows.db
        row.__dict__.update(zip(names, values, strict=True))
        made.append(row)
    if absent is not None:
        absent.leave_out_of(made)
    return made


# Columns that the labels of a model's rows have asked for: they are loaded with the next.
_spoken: dict[type[models.Model], set[str]] = defaultdict(set)


class Absent:
    """Columns that cost more to read than all others: times, JSON. A label seldom says them.

    Where one does, the column is loaded for all of the rows at once, and with the rows from then
    on. For rows that nobody writes meanwhile.
    """

    def __init__(self, model: type[models.Model], wanted: Collection[str]) -> None:
        self.names = _dear(model).difference(wanted, _spoken[model])
        self._rows: list[models.Model] = []
        self._loaded: dict[str, dict[Any, Any]] = {}  # by column and key

    def leave_out_of(self, rows: list[models.Model]) -> None:
        """Load the columns once one of the rows is asked for them."""
        if self.names:
            self._rows = rows
            for row in rows:
                # What Django calls for a column that was not loaded.
                row.__dict__["refresh_from_db"] = partial(self._refresh, row)

    def _refresh(self, row: models.Model, *arguments: Any, **options: Any) -> None:
        names = [name for name in options.get("fields") or () if name in self.names]
        for name in names:
            if name not in self._loaded:
                _spoken[type(row)].add(name)
                self._loaded[name] = self._read(type(row), name)
            if row.pk in self._loaded[name]:
                row.__dict__[name] = self._loaded[name][row.pk]
        if not names or any(name not in row.__dict__ for name in names):
            type(row).refresh_from_db(row, *arguments, **options)

    def _read(self, model: type[models.Model], name: str) -> dict[Any, Any]:
        using = self._rows[0]._state.db if self._rows else None
        query: models.QuerySet[Any] = models.QuerySet(model, using=using)
        found: dict[Any, Any] = {}
        for portion in chunks([row.pk for row in self._rows]):
            found.update(query.filter(pk__in=portion).values_list("pk", name))
        return found

    def forget(self) -> None:
        """The rows are done with."""
        for row in self._rows:
            row.__dict__.pop("refresh_from_db", None)
        self._rows = []


@cache
def _dear(model: type[models.Model]) -> frozenset[str]:
    """The columns whose values Python makes, where drivers make the others."""
    kinds = (models.DateField, models.TimeField, models.DurationField)
    return frozenset(
        field.attname
        for field in model._meta.concrete_fields
        if not field.primary_key and (hasattr(field, "from_db_value") or isinstance(field, kinds))
    )
