"""The rows that a statement of a query set is about to write."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.base import ModelState


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


def loaded(rows: models.QuerySet[Any]) -> list[models.Model]:
    """The rows as instances for our own use, past `__init__` and its signals where it is Django's.

    Receivers of the project's would see instances that it never asked for, and to make them so
    takes longer than all the rest. They have no snapshot.
    """
    model: type[models.Model] = rows.model
    if model.__init__ is not models.Model.__init__:
        return list(rows)
    names = [field.attname for field in model._meta.concrete_fields]
    made = []
    for values in rows.values_list(*names):
        row = model.__new__(model)
        state = row.__dict__["_state"] = ModelState()
        state.adding, state.db = False, rows.db
        row.__dict__.update(zip(names, values, strict=True))
        made.append(row)
    return made
