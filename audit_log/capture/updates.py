"""`QuerySet.update`: the rows before and after one UPDATE that Django sends for all of them.

They are read and locked just before, so that whatever differs afterwards is what that statement
did. New values that are the same for every row are known; others are read back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from audit_log.capture import accounts, changes, snapshots
from audit_log.capture.before import chunks, read_rows
from audit_log.capture.failures import sheltered
from audit_log.capture.fields import NOT_LOADED, FieldPlan
from audit_log.capture.given import common_values, note
from audit_log.capture.labels import labels_of, remembering
from audit_log.capture.plans import Plan
from audit_log.capture.ranges import Ranges, in_order
from audit_log.capture.saves import is_expression, only_the_row_tells
from audit_log.capture.selections import Absent, loaded, rows_of
from audit_log.capture.summaries import summary
from audit_log.conf import get_settings
from audit_log.recording import outbox, pending
from audit_log.recording.works import ANY_ROW


class Update:
    """One UPDATE. `values` are what `update()` was given, by field name.

    `given` are the instances whose values `bulk_update()` writes, by key.
    """

    def __init__(
        self,
        plan: Plan,
        model: type[models.Model],
        values: Mapping[str, Any],
        connection: BaseDatabaseWrapper,
        given: Mapping[Any, models.Model] | None = None,
    ) -> None:
        self.plan = plan
        self.given = given
        self.model = model
        self.connection = connection
        self.values: dict[str, Any] = {}
        self.items = [item for item in plan.fields if item.name in values or item.attname in values]
        for item in self.items:
            self.values[item.attname] = values[item.name if item.name in values else item.attname]
        names = {item.attname: {item.name, item.attname} for item in plan.model._meta.pk_fields}
        self.key = {
            attname: values[name] for attname, both in names.items() for name in both & set(values)
        }
        self.found: list[models.Model] = []
        self.old: list[dict[str, Any]] = []
        self.ranges: Ranges | None = None
        self.absent: Absent | None = None

    @property
    def is_seen(self) -> bool:
        """Whether it touches anything that is looked at."""
        return bool(self.items or self.key)

    def find(self, *, queryset: Any) -> None:
        """Look at the rows that the query set is about to update, and lock them."""
        limit = get_settings().bulk_rows
        rows = rows_of(queryset, self.model, self.connection, keys_stay=not self.key)
        with outbox.quiet(self.connection), sheltered(self.connection):
            found = loaded(rows[: limit + 1], self._absent())
            if len(found) > limit:
                keys = rows.order_by("pk").values_list("pk", flat=True)
                self.ranges = Ranges(self.plan, keys)
                return
        self.found = found
        names = [item.attname for item in self.items]
        self.old = [
            snapshots.kept(self.plan, {n: v[n] for n in names if n in (v := row.__dict__)})
            for row in found
        ]

    def _absent(self) -> Absent | None:
        """What need not be read of the rows: neither written, nor asked for but by a label."""
        if self.key or self.plan.account or self.plan.subject is not None:
            return None
        self.absent = Absent(self.model, self.values)
        return self.absent

    def capture(self, *, count: int) -> None:
        """One event for each row that is not as it was, or one for all of them."""
        if not count:
            return
        mark = pending.mark(self.connection)
        if self.ranges is not None:
            mark.rows.add((self.plan.root, ANY_ROW))
            self._add_summary(count, self.ranges)
            return
        # Another transaction may have committed rows that match, in between: these are known only
        # by their number. What is read back of ours is what the statement did to them.
        settled = count == len(self.found)
        changed = self._changed(self._new_rows(settled=settled))
        labels = labels_of([row for row, _new, _found in changed], self.connection)
        for (row, new, found), name in zip(changed, labels, strict=True):
            self._add(row, found, name)
            mark.rows.add((self.plan.root, row.pk))
            if self.key:
                mark.rows.add((self.plan.root, self._key_after(row)))
            if self.given is not None and row.pk in self.given:
                given = self.given[row.pk]
                snapshots.written(given, self.plan, self.connection.alias, new, mark)
        if self.absent is not None:
            self.absent.forget()
        if count > len(self.found):
            self._add_summary(count - len(self.found), None)

    def _add_summary(self, count: int, keys: Ranges | None) -> None:
        event = summary(
            "update",
            self.plan,
            count=count,
            keys=keys,
            fields=self.items,
            values=self._constants(),
        )
        pending.add(self.connection, event)

    def _constants(self) -> dict[str, Any]:
        return {
            item.attname: _as_written(item, value)
            for item in self.items
            if not only_the_row_tells(item, value := self.values[item.attname])
        }

    def _new_rows(self, *, settled: bool) -> Callable[[models.Model], dict[str, Any]]:
        """What gives the new values of a row by attribute name."""
        constants: dict[str, Any] = {}
        if not settled:
            asked = self.items
        elif self.given is not None:
            asked = [item for item in self.items if self._is_asked(item)]
        else:
            constants = self._constants()
            asked = [item for item in self.items if item.attname not in constants]
        read = self._read_back(asked) if asked and self.found else {}
        known = [item for item in self.items if item not in asked] if self.given else []

        def values_of(row: models.Model) -> dict[str, Any]:
            own = {} if self.given is None else self.given[row.pk].__dict__
            given = {item.attname: _as_written(item, own[item.attname]) for item in known}
            return {**constants, **given, **read.get(self._key_after(row), {})}

        return values_of

    def _is_asked(self, item: FieldPlan) -> bool:
        values = (each.__dict__.get(item.attname, NOT_LOADED) for each in self._given_rows())
        return any(only_the_row_tells(item, value) for value in values)

    def _given_rows(self) -> list[models.Model]:
        given = self.given or {}
        return [given[row.pk] for row in self.found if row.pk in given]

    def _read_back(self, items: Sequence[FieldPlan]) -> dict[Any, dict[str, Any]]:
        keys = [self._key_after(row) for row in self.found]
        with sheltered(self.connection):
            rows = read_rows(
                self.plan,
                [key for key in keys if key is not NOT_LOADED],
                self.connection,
                lock=False,
                items=items,
            )
        return {
            key: {name: self.plan.by_attname[name].restore(kept) for name, kept in row.items()}
            for key, row in rows.items()
        }

    def _key_after(self, row: models.Model) -> Any:
        """The key of a row once it is written: seldom another one."""
        if not self.key:
            return row.pk
        parts = []
        for field in self.plan.model._meta.pk_fields:
            value = self.key.get(field.attname, row.__dict__.get(field.attname))
            if is_expression(value):
                return NOT_LOADED
            parts.append(field.to_python(_of_related(field, value)))
        return parts[0] if len(parts) == 1 else tuple(parts)

    def _changed(
        self, values_of: Callable[[models.Model], dict[str, Any]]
    ) -> list[tuple[models.Model, dict[str, Any], changes.Changes]]:
        """The rows that are not as they were, as they are now, with new values and changes."""
        related = [
            (item.field.name, value)
            for item in self.items
            if item.relation and isinstance(value := self.values[item.attname], models.Model)
        ]
        changed = []
        with remembering():
            for row, old in zip(self.found, self.old, strict=True):
                new = values_of(row)
                row.__dict__.update(new)
                for name, value in related:
                    row._state.fields_cache[name] = value
                found = changes.of_update(self.items, row, old, new, self.connection)
                if found.values or self.key or self.given is not None:
                    changed.append((row, new, found))
        return changed

    def _add(self, row: models.Model, found: changes.Changes, name: str) -> None:
        data = None
        if self.key:
            before, after = self.plan.target_id(row.pk), self._id(self._key_after(row))
            data = {"key": [before, after]} if before != after else None
        if not found.values and data is None:
            return
        event = changes.row_event(
            "update", self.plan, row, found, pk=row.pk, label=name, source="orm", data=data
        )
        pending.add(self.connection, event)
        if self.plan.account:
            accounts.follow(event, row, self.plan.account, self.connection)

    def _id(self, key: Any) -> str | None:
        return None if key is NOT_LOADED else self.plan.target_id(key)


class GivenUpdate:
    """A `bulk_update()` as a whole: over many rows it is one event."""

    def __init__(
        self,
        plan: Plan,
        model: type[models.Model],
        rows: Sequence[models.Model],
        items: Sequence[FieldPlan],
        connection: BaseDatabaseWrapper,
    ) -> None:
        self.plan = plan
        self.model = model
        self.rows = rows
        self.items = items
        self.connection = connection
        self.is_summed = len(rows) > get_settings().bulk_rows
        # Of two instances with one key, the database takes the first.
        self.by_key = {row.pk: row for row in reversed(rows)}

    def note(self) -> None:
        """What the rows hold from now on, without an event."""
        note(self.plan, self.rows, self.connection, self.items)

    def capture(self, *, count: int) -> None:
        """One event for all rows that were there."""
        if not count:
            return
        keys = list(self.by_key)
        if count != len(keys):
            keys = self._existing(keys)
        event = summary(
            "update",
            self.plan,
            count=count,
            keys=Ranges(self.plan, in_order(keys)),
            fields=self.items,
            values=common_values(self.items, self.rows),
        )
        pending.add(self.connection, event)
        self.note()

    def _existing(self, keys: Sequence[Any]) -> list[Any]:
        query: models.QuerySet[Any] = models.QuerySet(self.model, using=self.connection.alias)
        with outbox.quiet(self.connection), sheltered(self.connection):
            return [
                key
                for portion in chunks(keys)
                for key in query.filter(pk__in=portion).values_list("pk", flat=True)
            ]


def _as_written(item: FieldPlan, value: Any) -> Any:
    return _of_related(item.field, value)


def _of_related(field: models.Field[Any, Any], value: Any) -> Any:
    """What the column holds: of an object, the value that the relation keeps of it."""
    if isinstance(value, models.Model) and isinstance(field, models.ForeignKey):
        return getattr(value, field.target_field.attname)
    return value
