"""Creations and updates, captured where the row is written.

`Model._save_table` is bracketed, not `save_base`: in autocommit our transaction ends before
`post_save`, so receivers, `on_commit`, `durable=True` and caught exceptions see what they would
see without us. Inside somebody's own transaction nothing is added around the write at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.db import connections, models
from django.db.backends.base.base import BaseDatabaseWrapper

from audit_log import context
from audit_log.capture import changes, snapshots
from audit_log.capture.failures import guarded
from audit_log.capture.plans import NOT_LOADED, FieldPlan, Plan, plan_of
from audit_log.recording import outbox, pending

_original_save_table = models.Model._save_table  # type: ignore[attr-defined]
_original_from_db = models.Model.from_db.__func__  # type: ignore[attr-defined]
_original_refresh = models.Model.refresh_from_db


def install() -> None:
    """Hook the three methods of Model. Harmless when done twice."""
    models.Model._save_table = _save_table  # type: ignore[attr-defined]
    models.Model.from_db = classmethod(_from_db)  # type: ignore[assignment,arg-type]
    models.Model.refresh_from_db = _refresh_from_db  # type: ignore[method-assign,assignment]


def uninstall() -> None:
    """Put Django's own methods back."""
    models.Model._save_table = _original_save_table  # type: ignore[attr-defined]
    models.Model.from_db = classmethod(_original_from_db)  # type: ignore[assignment]
    models.Model.refresh_from_db = _original_refresh  # type: ignore[method-assign]


def _from_db(
    cls: type[models.Model], db: str, field_names: Iterable[str], values: Any, **options: Any
) -> models.Model:
    instance: models.Model = _original_from_db(cls, db, field_names, values, **options)
    plan = plan_of(cls)
    if plan is not None:
        snapshots.loaded(instance, plan, field_names, values)
    return instance


_from_db.__wrapped__ = _original_from_db  # type: ignore[attr-defined]


def _refresh_from_db(
    self: models.Model, using: str | None = None, fields: Any = None, **options: Any
) -> None:
    names = None if fields is None else set(fields)
    deferred = self.get_deferred_fields() if fields is None else set()
    _original_refresh(self, using, None if names is None else list(names), **options)
    plan = plan_of(type(self))
    if plan is None:
        return
    read = {
        item.attname: self.__dict__[item.attname]
        for item in plan.fields
        if item.attname in self.__dict__
        and item.attname not in deferred
        and (names is None or item.name in names or item.attname in names)
    }
    connection = connections[self._state.db or "default"]
    # Read inside a transaction, it may be our own uncommitted write: it falls with it.
    mark = pending.mark(connection) if pending.in_transaction(connection) else None
    snapshots.written(self, plan, read, mark)


def _save_table(  # noqa: PLR0913, PLR0917 - Django's signature
    self: models.Model,
    raw: bool = False,  # noqa: FBT001, FBT002
    cls: Any = None,
    force_insert: bool = False,  # noqa: FBT001, FBT002
    force_update: bool = False,  # noqa: FBT001, FBT002
    using: Any = None,
    update_fields: Any = None,
) -> Any:
    def original() -> Any:
        return _original_save_table(
            self, raw, cls, force_insert, force_update, using, update_fields
        )

    plan = plan_of(type(self))
    # Parents' tables are written first, by the same save: the last table makes the event.
    if plan is None or cls is not plan.model or context.current().suspended:
        return original()
    save = _Save(self, plan, connections[using], update_fields, raw=raw)
    if save.changes_nothing():
        updated = original()
        save.note_without_event(updated=bool(updated))
        return updated
    with pending.bracket(save.connection):
        save.read_before(force_insert=bool(force_insert))
        updated = original()
        guarded("capture_failed", save.capture, updated=bool(updated))
    return updated


class _Save:
    """One write of one row."""

    def __init__(
        self,
        instance: models.Model,
        plan: Plan,
        connection: BaseDatabaseWrapper,
        update_fields: Iterable[str] | None,
        *,
        raw: bool,
    ) -> None:
        self.instance = instance
        self.plan = plan
        self.connection = connection
        self.raw = raw
        self.items = _written_items(plan, update_fields, raw=raw)
        self.old: Mapping[str, Any] = {}

    def changes_nothing(self) -> bool:
        """Whether a loaded row is written back as it was: then no query and no transaction."""
        if self.instance._state.adding or self.plan.options.before == "database":
            return False
        self._read_kept()
        return all(item.incidental or not self._differs(item) for item in self.items)

    def _differs(self, item: FieldPlan) -> bool:
        old = self.old.get(item.attname, NOT_LOADED)
        new = self.instance.__dict__.get(item.attname, NOT_LOADED)
        if old is NOT_LOADED or new is NOT_LOADED or hasattr(new, "resolve_expression"):
            return True
        if old is new or (type(old) is type(new) and old == new):
            return False
        return bool(item.encode(old)[0] != item.encode(new)[0])

    def _read_kept(self) -> None:
        kept = snapshots.old_values(self.instance, self.plan)
        self.old = {
            item.attname: snapshots.restore(self.plan, item.attname, kept) for item in self.items
        }

    def read_before(self, *, force_insert: bool) -> None:
        """Old values: kept ones, or with `before="database"` those of the locked row."""
        if self.plan.options.before != "database" or force_insert or self.instance.pk is None:
            if not self.old:
                self._read_kept()
            return
        self._read_kept()
        if self.instance._state.adding and self.plan.model._meta.pk.has_default():
            return  # Django inserts without looking
        row = read_rows(self.plan, [self.instance.pk], self.connection).get(self.instance.pk)
        if row is not None:
            self.old = row

    def capture(self, *, updated: bool) -> None:
        """Make the event, and note what the row holds now."""
        new = self._read_back()
        mark = pending.mark(self.connection)
        source = "import" if self.raw else "orm"
        if updated:
            found = changes.of_update(self.plan, self.instance, self.old, new)
            action = "update"
        else:
            found = changes.of_creation(self.plan, self.instance, new)
            action = "create"
        if found.values or not updated:
            with outbox.quiet(self.connection):  # __str__ may query
                event = changes.row_event(action, self.plan, self.instance, found, source=source)
            pending.add(self.connection, event)
        snapshots.written(self.instance, self.plan, new, mark)

    def note_without_event(self, *, updated: bool) -> None:
        """After a save that changed nothing, unless the row was gone and has been inserted."""
        if not updated:
            guarded("capture_failed", self.capture, updated=False)
            return
        incidental = {
            item.attname: self.instance.__dict__[item.attname]
            for item in self.items
            if item.incidental and item.attname in self.instance.__dict__
        }
        if incidental:
            inside = pending.in_transaction(self.connection)
            mark = pending.mark(self.connection) if inside else None
            snapshots.written(self.instance, self.plan, incidental, mark)

    def _read_back(self) -> dict[str, Any]:
        """What was written; expressions as the database resolved them."""
        values = {
            item.attname: self.instance.__dict__.get(item.attname, NOT_LOADED)
            for item in self.items
        }
        unresolved = [
            name
            for name, value in values.items()
            if value is NOT_LOADED or hasattr(value, "resolve_expression")
        ]
        if unresolved:
            rows = read_rows(self.plan, [self.instance.pk], self.connection, lock=False)
            row = rows.get(self.instance.pk, {})
            for name in unresolved:
                if name in row:
                    values[name] = row[name]
                else:
                    del values[name]
        return values


def _written_items(
    plan: Plan, update_fields: Iterable[str] | None, *, raw: bool
) -> list[FieldPlan]:
    items: Iterable[FieldPlan] = plan.fields
    if raw:  # a fixture's parents are rows of their own
        items = [item for item in items if item.field.model is plan.model]
    if update_fields is None:
        return list(items)
    names = set(update_fields)
    return [item for item in items if item.name in names or item.attname in names]


def read_rows(
    plan: Plan, keys: Iterable[Any], connection: BaseDatabaseWrapper, *, lock: bool = True
) -> dict[Any, dict[str, Any]]:
    """The rows of these keys as they stand in the database, by key; locked until COMMIT."""
    names = [item.attname for item in plan.fields]
    query = plan.model._base_manager.using(connection.alias).filter(pk__in=list(keys))
    if lock and connection.features.has_select_for_update and pending.in_transaction(connection):
        query = query.select_for_update()
    with outbox.quiet(connection):
        return {
            row[0]: dict(zip(names, row[1:], strict=True))
            for row in query.values_list("pk", *names)
        }
