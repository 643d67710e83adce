"""Old values as the database has them, exact behind a concurrent writer: `before="database"`.

The row is locked and read before it is written. PostgreSQL gives both by the UPDATE itself, which
costs a fifth of what the SELECT does; elsewhere, and where somebody looks at the statements, it is
a SELECT.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from audit_log import conf
from audit_log.capture import snapshots
from audit_log.capture.fields import FieldPlan
from audit_log.capture.plans import Plan
from audit_log.recording import beginning, outbox, pending

_CHUNK: Final = 500  # keys a query; SQLite may take no more than 999 parameters
_ALIAS: Final = "audit_log_old"
_EARLY: Final = "audit_log_early"

Row = dict[str, Any]
"""Values by attribute name, as snapshots keep them."""


def chunks(keys: Iterable[Any]) -> Iterator[list[Any]]:
    """Keys in portions that every database takes in one query."""
    rest = iter(keys)
    while portion := list(islice(rest, _CHUNK)):
        yield portion


def read_rows(
    plan: Plan,
    keys: Iterable[Any],
    connection: BaseDatabaseWrapper,
    *,
    lock: bool = True,
    items: Sequence[FieldPlan] | None = None,
) -> dict[Any, Row]:
    """The rows of these keys as they stand in the database, by key; locked until COMMIT.

    All fields that are looked at, or only these.
    """
    names = [item.attname for item in (plan.fields if items is None else items)]
    query = plan.model._base_manager.using(connection.alias)
    if lock and connection.features.has_select_for_update and pending.in_transaction(connection):
        # The key does not change, so rows that refer to this one need not wait.
        query = query.select_for_update(no_key=connection.features.has_select_for_no_key_update)
    rows: dict[Any, Row] = {}
    with outbox.quiet(connection):
        for portion in chunks(keys):
            for row in query.filter(pk__in=portion).values_list("pk", *names):
                rows[row[0]] = snapshots.kept(plan, dict(zip(names, row[1:], strict=True)))
    return rows


@dataclass(slots=True)
class _Early:
    """A row of several tables, read before the first of them was written by the same save."""

    row: Row | None
    tables: set[type[models.Model]]


def read_early(
    instance: models.Model, plan: Plan, table: type[models.Model], connection: BaseDatabaseWrapper
) -> None:
    """A parent's table is about to be written: the row has to be read now, if it is to be read."""
    early: _Early | None = instance._state.__dict__.get(_EARLY)
    if early is None or table in early.tables:  # left behind by a save that failed
        row = None
        if instance.pk is not None:
            row = read_rows(plan, [instance.pk], connection).get(instance.pk)
        early = _Early(row, set())
        setattr(instance._state, _EARLY, early)
    early.tables.add(table)


class Overwritten(beginning.Ours):
    """A context manager around one save: `row` is what its UPDATE found, None if it found none.

    And a wrapper of `connection.execute_wrapper`, to be there when the UPDATE is sent.
    """

    def __init__(self, instance: models.Model, plan: Plan, connection: BaseDatabaseWrapper) -> None:
        self.row: Row | None = None
        self.has_looked = False
        self._instance = instance
        self._plan = plan
        self._connection = connection

    def __enter__(self) -> Overwritten:
        early: _Early | None = self._instance._state.__dict__.pop(_EARLY, None)
        if early is not None:
            self.row, self.has_looked = early.row, True
        # The statement is the project's own from here on, for those who look at it.
        self._is_watched = beginning.is_watched(self._connection)
        # Outermost, so that a transaction that begins with its first statement begins with ours.
        self._connection.execute_wrappers.insert(0, self)
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.execute_wrappers.remove(self)

    def __call__(
        self,
        execute: Callable[..., Any],
        sql: Any,
        params: Any,
        many: bool,  # noqa: FBT001 - Django's signature
        context: dict[str, Any],
    ) -> Any:
        if self.has_looked or not isinstance(sql, str) or not sql.startswith("UPDATE "):
            return execute(sql, params, many, context)
        self.has_looked = True
        returning = None if self._is_watched else returning_of(self._plan, self._connection)
        if returning is None or not sql.endswith(returning.condition):
            key = self._instance.pk
            self.row = read_rows(self._plan, [key], self._connection).get(key)
            return execute(sql, params, many, context)
        text = sql.removesuffix(returning.condition) + returning.text
        result = execute(text, (*params, params[-1]), many, context)
        for values in context["cursor"].fetchall():
            self.row = snapshots.kept(self._plan, returning.row(values, self._connection))
        return result


@dataclass(frozen=True, slots=True)
class Returning:
    """How an UPDATE of one row gives what it overwrites. `text` replaces its `condition`."""

    condition: str
    text: str
    columns: tuple[tuple[str, Any, tuple[Callable[..., Any], ...]], ...]

    def row(self, values: Sequence[Any], connection: BaseDatabaseWrapper) -> Row:
        """The values as Django reads them."""
        found = {}
        for (name, column, converters), value in zip(self.columns, values, strict=True):
            for convert in converters:
                value = convert(value, column, connection)  # noqa: PLW2901 - step by step
            found[name] = value
        return found


_known: dict[tuple[type[models.Model], str], Returning | None] = {}
conf.on_change(_known.clear)


def returning_of(plan: Plan, connection: BaseDatabaseWrapper) -> Returning | None:
    """For a model of one table with one key, on PostgreSQL; None elsewhere."""
    if connection.vendor != "postgresql":
        return None
    key = (plan.model, connection.alias)
    if key not in _known:
        _known[key] = _made(plan, connection)
    return _known[key]


def _made(plan: Plan, connection: BaseDatabaseWrapper) -> Returning | None:
    fields = [item.field for item in plan.fields]
    if plan.root is not plan.model or len(plan.key) != 1 or not all(map(_reads_itself, fields)):
        return None
    quote = connection.ops.quote_name
    table = quote(plan.model._meta.db_table)
    key, *names = [quote(str(field.column)) for field in (plan.model._meta.pk_fields[0], *fields)]
    found = ", ".join(f"{_ALIAS}.{name}" for name in names) or "1"
    # Joined by the key, so that the row is locked, and read as it is then, before it is written.
    old = f"SELECT {', '.join([key, *names])} FROM {table} WHERE {table}.{key} = %s"  # noqa: S608 - names
    columns = []
    for item in plan.fields:
        column = item.field.get_col(plan.model._meta.db_table)
        converters = [
            *connection.ops.get_db_converters(column),
            *column.get_db_converters(connection),
        ]
        columns.append((item.attname, column, tuple(converters)))
    return Returning(
        condition=f" WHERE {table}.{key} = %s",
        text=(
            f" FROM ({old} FOR NO KEY UPDATE) AS {_ALIAS}"
            f" WHERE {_ALIAS}.{key} = {table}.{key} AND {table}.{key} = %s RETURNING {found}"
        ),
        columns=tuple(columns),
    )


def _reads_itself(field: Any) -> bool:
    """Whether a column is selected by its name alone; geometries, say, are not."""
    return type(field).select_format is models.Field.select_format
