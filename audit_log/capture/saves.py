"""Creations and updates, captured where the row is written.

`Model._save_table` is bracketed, not `save_base`: in autocommit our transaction ends before
`post_save`, so receivers, `on_commit`, `durable=True` and caught exceptions see what they would
see without us. Inside somebody's own transaction nothing is added around the write at all.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from types import NoneType
from typing import Any, Final

from django.db import DEFAULT_DB_ALIAS, connections, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.query_utils import DeferredAttribute

from audit_log import context
from audit_log.capture import accounts, before, changes, snapshots
from audit_log.capture.failures import guarded
from audit_log.capture.fields import NOT_LOADED, FieldPlan
from audit_log.capture.labels import label
from audit_log.capture.plans import Plan, plan_of
from audit_log.events import Event
from audit_log.recording import pending
from audit_log.recording.joined import Joined
from audit_log.recording.works import uncommitted

# Written as they are; anything else may be an expression, or be rounded.
_CERTAIN: Final = frozenset({NoneType, bool, int, str, datetime, date, dict, list, uuid.UUID})

_original_save_table = models.Model._save_table  # type: ignore[attr-defined]
_original_from_db = models.Model.from_db.__func__  # type: ignore[attr-defined]
_original_refresh = models.Model.refresh_from_db
_original_fetch_many = getattr(DeferredAttribute, "fetch_many", None)  # since Django 6.1


def install() -> None:
    """Hook the methods of Model, and of its deferred fields. Harmless when done twice."""
    models.Model._save_table = _save_table  # type: ignore[attr-defined]
    models.Model.from_db = classmethod(_from_db)  # type: ignore[assignment,arg-type]
    models.Model.refresh_from_db = _refresh_from_db  # type: ignore[method-assign]
    if _original_fetch_many is not None:
        DeferredAttribute.fetch_many = _fetch_many  # type: ignore[method-assign,assignment]


def uninstall() -> None:
    """Put Django's own methods back."""
    models.Model._save_table = _original_save_table  # type: ignore[attr-defined]
    models.Model.from_db = classmethod(_original_from_db)  # type: ignore[assignment]
    models.Model.refresh_from_db = _original_refresh  # type: ignore[method-assign]
    if _original_fetch_many is not None:
        DeferredAttribute.fetch_many = _original_fetch_many  # type: ignore[method-assign]


def _from_db(
    cls: type[models.Model], db: str, field_names: Iterable[str], values: Any, **options: Any
) -> models.Model:
    instance: models.Model = _original_from_db(cls, db, field_names, values, **options)
    plan = plan_of(cls)
    if plan is None:
        return instance
    if plan.mutable or uncommitted or len(values) != len(plan.attnames):
        snapshots.loaded(instance, plan, field_names, values)
    else:
        instance._state.audit_log = values  # type: ignore[attr-defined]  # most rows: no call more
    return instance


_from_db.__wrapped__ = _original_from_db  # type: ignore[attr-defined]


def _refresh_from_db(
    self: models.Model, using: str | None = None, fields: Any = None, from_queryset: Any = None
) -> None:
    plan = plan_of(type(self))
    if plan is None:
        _original_refresh(self, using, fields, from_queryset)
        return
    names = None if fields is None else set(fields)
    deferred = self.get_deferred_fields() if fields is None else set()
    snapshots.pin(self, plan)
    _original_refresh(self, using, None if names is None else list(names), from_queryset)
    read = {
        item.attname: self.__dict__[item.attname]
        for item in plan.fields
        if item.attname in self.__dict__
        and item.attname not in deferred
        and (names is None or item.name in names or item.attname in names)
    }
    if read:
        snapshots.read(self, plan, self._state.db or DEFAULT_DB_ALIAS, read)


def _fetch_many(self: Any, instances: Sequence[models.Model]) -> None:
    """Django's FETCH_PEERS loads a deferred field of all rows of a result at once."""
    name = self.field.attname
    lacking = [instance for instance in instances if name not in instance.__dict__]
    if _original_fetch_many is not None:
        _original_fetch_many(self, instances)
    for instance in lacking:
        plan = plan_of(type(instance))
        if plan is not None and name in plan.by_attname and name in instance.__dict__:
            value = {name: instance.__dict__[name]}
            snapshots.read(instance, plan, instance._state.db or DEFAULT_DB_ALIAS, value)


def _save_table(  # noqa: PLR0913, PLR0917 - Django's signature
    self: models.Model,
    raw: bool = False,  # noqa: FBT001, FBT002
    cls: Any = None,
    force_insert: bool = False,  # noqa: FBT001, FBT002
    force_update: bool = False,  # noqa: FBT001, FBT002
    using: Any = None,
    update_fields: Any = None,
) -> Any:
    arguments = (self, raw, cls, force_insert, force_update, using, update_fields)
    plan = plan_of(type(self))
    if plan is None or cls is not plan.model:
        # Parents' tables are written first, by the same save: the last table makes the event.
        if plan is not None and plan.options.before == "database":
            before.read_early(self, plan, cls, connections[using])
        return _original_save_table(*arguments)
    save = _Save(self, plan, connections[using], _written_items(plan, update_fields, raw=raw))
    if context.current().suspended or (not force_insert and save.changes_nothing()):
        updated = _original_save_table(*arguments)
        guarded("capture_failed", save.note, connection=save.connection, updated=bool(updated))
        return updated
    joined = None
    if not (force_insert or self._state.adding or pending.in_transaction(save.connection)):
        joined = Joined(save.connection, save.foretell)
    with pending.bracket(save.connection, joined=joined):
        return save.write(arguments, joined, raw=raw, force_insert=bool(force_insert))


class _Save:
    """One write of one row. `kept` is what is known of it, as snapshots have it."""

    __slots__ = (
        "asks_the_database",
        "connection",
        "differing",
        "foretold",
        "instance",
        "items",
        "kept",
        "plan",
        "source",
    )

    def __init__(
        self,
        instance: models.Model,
        plan: Plan,
        connection: BaseDatabaseWrapper,
        items: Sequence[FieldPlan],
    ) -> None:
        self.instance = instance
        self.plan = plan
        self.connection = connection
        self.items = items
        state = instance._state
        elsewhere = not state.adding and state.db != connection.alias and state.db is not None
        # Old values are read where asked for, and for a row of another database.
        self.asks_the_database = elsewhere or plan.options.before == "database"
        self.kept: Mapping[str, Any] = snapshots.old_values(instance, plan, connection.alias)
        self.differing: list[FieldPlan] | None = None
        self.foretold: tuple[Event, dict[str, Any]] | None = None
        self.source = "orm"

    def changes_nothing(self) -> bool:
        """Whether a loaded row is written back as it was: then no query and no transaction."""
        if self.instance._state.adding or self.plan.unsteady or self.asks_the_database:
            return False
        self.differing, surely = self._differing()
        if surely:
            return False
        values, kept = self.instance.__dict__, self.kept
        return all(
            item.incidental
            or item.same(kept.get(item.attname, NOT_LOADED), values.get(item.attname, NOT_LOADED))
            for item in self.differing
        )

    def _differing(self) -> tuple[list[FieldPlan], bool]:
        """The written fields that may not be as they were once the save is done.

        And whether one that matters surely is not.
        """
        values, kept = self.instance.__dict__, self.kept
        found, surely = [], False
        for item in self.items:
            name = item.attname
            old, new = kept.get(name, NOT_LOADED), values.get(name, NOT_LOADED)
            if new is not old:
                if type(new) is type(old) is item.native:  # most of them
                    if new != old:
                        found.append(item)
                        surely = surely or (item.is_plain and not item.incidental)
                        continue
                elif not item.compare(old, new):
                    found.append(item)
                    continue
            if item.set_by_save:
                found.append(item)
        return found, surely

    def write(
        self, arguments: tuple[Any, ...], joined: Joined | None, *, raw: bool, force_insert: bool
    ) -> Any:
        """Let Django write the row, and capture that. What Django returns."""
        self.source = "import" if raw else "orm"
        if self.asks_the_database and not force_insert:
            updated = self._write_asking(arguments)
        else:
            updated = _original_save_table(*arguments)
        stored = None if joined is None else joined.stored
        if stored is not None:
            pending.add_stored(self.connection, stored)
        guarded(
            "capture_failed",
            self.capture,
            connection=self.connection,
            updated=bool(updated),
            stored=stored is not None,
        )
        return updated

    def _write_asking(self, arguments: tuple[Any, ...]) -> Any:
        """With `before="database"`: old values are those of the row that is overwritten."""
        with before.Overwritten(self.instance, self.plan, self.connection) as overwritten:
            updated = _original_save_table(*arguments)
        if overwritten.row is not None:
            self.kept, self.differing = overwritten.row, None
        elif updated and overwritten.has_looked:
            # The row came in after we looked: what we had loaded is another one's.
            self.kept, self.differing = {}, None
        return updated

    def foretell(self) -> Event | None:
        """The event of an update that is about to be sent, if nothing is left to the database."""
        if self.plan.unsteady or self.asks_the_database:
            return None
        differing = self._differing()[0] if self.differing is None else self.differing
        account = self.plan.account
        if account and any(item.name in account for item in differing):
            return None  # there will be two events
        new = self._values(differing)
        if _asked(differing, new):
            return None
        event = self._event_of_update(differing, new)
        self.foretold = None if event is None else (event, new)
        return event

    def capture(self, *, updated: bool, stored: bool = False) -> None:
        """Make the event unless it is `stored` already, and note what the row holds now."""
        event: Event | None
        if not updated:
            new = self._read_back(self.items)
            event = self._event_of_creation(new)
        elif stored and self.foretold is not None:
            event, new = self.foretold
        else:
            differing = self.differing
            if differing is None or self.plan.unsteady:
                differing = self._differing()[0]
            new = self._read_back(differing)
            event = self._event_of_update(differing, new)
        if event is not None and not stored:
            pending.add(self.connection, event)
            if self.plan.account:
                self._follow(event)
        self._note(new)

    def _follow(self, event: Event) -> None:
        old_hash = self.kept.get("password")
        accounts.follow(event, self.instance, self.plan.account, self.connection, old_hash)

    def _event_of_creation(self, new: Mapping[str, Any]) -> Event:
        found = changes.of_creation(self.plan, self.instance, new, self.connection)
        return self._event("create", found)

    def _event_of_update(
        self, differing: Sequence[FieldPlan], new: Mapping[str, Any]
    ) -> Event | None:
        found = changes.of_update(differing, self.instance, self.kept, new, self.connection)
        return self._event("update", found) if found.values else None

    def _event(self, action: str, found: changes.Changes) -> Event:
        return changes.row_event(
            action,
            self.plan,
            self.instance,
            found,
            pk=self.instance.pk,
            label=label(self.instance, self.connection),
            source=self.source,
        )

    def note(self, *, updated: bool) -> None:
        """After a save without an event: it changed nothing, or capture is suspended."""
        if not updated and not context.current().suspended:
            self.capture(updated=False)  # the row was gone, and has been inserted again
            return
        suspended = context.current().suspended
        values = self._values(self.items)
        self._note(
            {
                item.attname: NOT_LOADED if is_expression(value) else value
                for item in self.items
                if (suspended or item.incidental)
                and (value := values[item.attname]) is not NOT_LOADED
            }
        )

    def _note(self, values: Mapping[str, Any]) -> None:
        inside = pending.in_transaction(self.connection)
        mark = pending.mark(self.connection) if inside else None
        if values or mark is not None:
            snapshots.written(self.instance, self.plan, self.connection.alias, values, mark)

    def _values(self, items: Sequence[FieldPlan]) -> dict[str, Any]:
        values = self.instance.__dict__
        return {item.attname: values.get(item.attname, NOT_LOADED) for item in items}

    def _read_back(self, items: Sequence[FieldPlan]) -> dict[str, Any]:
        """What was written; where only the row tells (expressions, rounding), what it holds."""
        values = self._values(items)
        asked = _asked(items, values)
        if asked:
            rows = before.read_rows(self.plan, [self.instance.pk], self.connection, lock=False)
            row = rows.get(self.instance.pk, {})
            for name in asked:
                if name in row:
                    values[name] = self.plan.by_attname[name].restore(row[name])
                else:
                    del values[name]
        return values


def _asked(items: Sequence[FieldPlan], values: Mapping[str, Any]) -> list[str]:
    """The names of values that only the row tells."""
    return [
        item.attname
        for item in items
        if (item.exact is not None or type(values[item.attname]) not in _CERTAIN)
        and only_the_row_tells(item, values[item.attname])
    ]


def is_expression(value: Any) -> bool:
    """Whether the database works the value out."""
    return hasattr(value, "resolve_expression")


def only_the_row_tells(item: FieldPlan, value: Any) -> bool:
    """Whether what was written cannot be known here: an expression, or a number that is rounded."""
    if item.exact is None and type(value) in _CERTAIN:
        return False
    if value is NOT_LOADED or is_expression(value):
        return True
    return item.exact is not None and value is not None and not item.exact(value)


def _written_items(
    plan: Plan, update_fields: Iterable[str] | None, *, raw: bool
) -> Sequence[FieldPlan]:
    items: Sequence[FieldPlan] = plan.fields
    if raw:  # a fixture's parents are rows of their own
        items = [item for item in items if item.field.model is plan.model]
    if update_fields is None:
        return items
    names = set(update_fields)
    return [item for item in items if item.name in names or item.attname in names]
