"""Many-to-many changes, from either side, as events of the object that owns the field.

No `m2m_changed` receiver is connected: with one, Django asks for the existing members before each
`add()`, a query the project's tests would count. The related manager's three methods are bracketed
instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from django.apps import apps
from django.core.exceptions import ValidationError
from django.db import connections, models, router
from django.db.models.fields import related_descriptors

from audit_log import context
from audit_log.capture import accounts
from audit_log.capture.before import chunks
from audit_log.capture.failures import guarded
from audit_log.capture.memberships import MAX_LABELS, Membership
from audit_log.capture.plans import plan_of
from audit_log.recording import outbox, pending

_original = related_descriptors.create_forward_many_to_many_manager


def install() -> None:
    """Hook the factory of related managers. Harmless when done twice."""
    related_descriptors.create_forward_many_to_many_manager = _create_manager
    _forget_classes()


def uninstall() -> None:
    """Put Django's own factory back; managers made meanwhile capture nothing."""
    related_descriptors.create_forward_many_to_many_manager = _original
    _forget_classes()


def _forget_classes() -> None:
    """Django keeps the class of each relation's managers, from its first use on."""
    for model in apps.get_models(include_auto_created=True):
        for value in vars(model).values():
            if isinstance(value, related_descriptors.ManyToManyDescriptor):
                value.__dict__.pop("related_manager_cls", None)


def _is_installed() -> bool:
    return related_descriptors.create_forward_many_to_many_manager is _create_manager


def _create_manager(superclass: Any, rel: Any, reverse: bool) -> Any:  # noqa: FBT001 - Django's
    manager = _original(superclass, rel, reverse)
    clear = "_clear_base" if hasattr(manager, "_clear_base") else "clear"  # Django 6.1, 5.2
    methods = {
        "__module__": manager.__module__,
        "__qualname__": manager.__qualname__,
        "_add_items": _add_items(manager),
        "_remove_items": _remove_items(manager),
        clear: _clear(manager, clear),
    }
    return type(manager.__name__, (manager,), methods)


def _add_items(manager: Any) -> Callable[..., None]:
    def _add_items(self: Any, source: str, target: str, *objs: Any, **options: Any) -> None:
        with _captured(self, "m2m.add", source, objs, options) as change:
            if change is not None:
                change.before(self._get_target_ids(target, objs))
            manager._add_items(self, source, target, *objs, **options)

    return _add_items


def _remove_items(manager: Any) -> Callable[..., None]:
    def _remove_items(self: Any, source: str, target: str, *objs: Any, **options: Any) -> None:
        with _captured(self, "m2m.remove", source, objs, options) as change:
            if change is not None:
                change.before(_ids(self, objs))
            manager._remove_items(self, source, target, *objs, **options)

    return _remove_items


def _clear(manager: Any, name: str) -> Callable[..., None]:
    original = getattr(manager, name)

    def clear(self: Any, *args: Any, **options: Any) -> None:
        with _captured(self, "m2m.clear", self.source_field_name, None, options) as change:
            if change is not None:
                change.before(None)
            original(self, *args, **options)

    clear.alters_data = True  # type: ignore[attr-defined]
    return clear


def _ids(manager: Any, objs: Iterable[Any]) -> set[Any]:
    found = set()
    for obj in objs:
        if isinstance(obj, manager.model):
            found.add(manager.target_field.get_foreign_related_value(obj)[0])
            continue
        with suppress(ValidationError):  # Django's method will raise what it raises without us
            found.add(manager.target_field.target_field.to_python(obj))
    return found


def _ordered(keys: set[Any]) -> list[Any]:
    try:
        return sorted(keys)
    except TypeError:
        return sorted(keys, key=str)


@contextmanager
def _captured(
    manager: Any, action: str, source: str, objs: Sequence[Any] | None, options: dict[str, Any]
) -> Iterator[_Change | None]:
    """Bracket one operation on `objs`, None for all. Gives None where nothing is to be captured."""
    owner = manager.model if manager.reverse else type(manager.instance)
    plan = plan_of(owner)
    # A symmetrical relation writes a second, mirrored row: one event is enough.
    mirrored = source != manager.source_field_name
    unwatched = plan is None or not _is_installed() or context.current().suspended
    if unwatched or mirrored or (objs is not None and not objs):
        yield None
        return
    alias = options.get("using") or router.db_for_write(manager.through, instance=manager.instance)
    change = _Change(manager, action, alias, source="import" if options.get("raw") else "orm")
    # Django's method opens a transaction of its own, outside (add) or inside of ours.
    with pending.bracket(change.connection, logged=True):
        yield change
        guarded("capture_failed", change.capture, connection=change.connection)


class _Change:
    """Which members one operation really adds or removes."""

    def __init__(self, manager: Any, action: str, alias: str, *, source: str) -> None:
        self.manager = manager
        self.action = action
        self.source = source
        self.connection = connections[alias]
        self.ids: set[Any] = set()

    def before(self, ids: set[Any] | None) -> None:
        """Look at the members before the change; `None` for all of them."""
        guarded("capture_failed", self._read, connection=self.connection, ids=ids)

    def _read(self, *, ids: set[Any] | None) -> None:
        manager = self.manager
        name = manager.target_field_name
        through = manager.through._default_manager.using(self.connection.alias)
        rows = through.filter(**{manager.source_field_name: manager.related_val[0]})
        existing: set[Any] = set()
        with outbox.quiet(self.connection):
            for portion in [None] if ids is None else chunks(ids):
                some = rows if portion is None else rows.filter(**{f"{name}__in": portion})
                existing.update(some.values_list(f"{name}_id", flat=True))
        self.ids = (ids or set()) - existing if self.action == "m2m.add" else existing

    def capture(self) -> None:
        """One event; from the other side, one for each owner."""
        if not self.ids:
            return
        manager = self.manager
        keys = _ordered(self.ids)
        if not manager.reverse:
            members = self._load(keys[:MAX_LABELS])
            self._add(manager.instance, keys, [members[key] for key in keys if key in members])
            return
        owners = self._load(keys)
        for key in keys:
            if key in owners:
                self._add(owners[key], [manager.related_val[0]], [manager.instance])

    def _load(self, keys: Sequence[Any]) -> dict[Any, models.Model]:
        """The objects on the other side, by the value that the relation holds of them."""
        name = self.manager.target_field.target_field.attname
        query = self.manager.model._base_manager.using(self.connection.alias)
        query = accounts.loading(query)
        found: dict[Any, models.Model] = {}
        with outbox.quiet(self.connection):
            for portion in chunks(keys):
                rows = query.filter(**{f"{name}__in": portion})
                found.update((getattr(row, name), row) for row in rows)
        return found

    def _add(self, owner: models.Model, keys: list[Any], members: Iterable[models.Model]) -> None:
        reverse = self.manager.reverse
        member = type(self.manager.instance) if reverse else self.manager.model
        Membership(self.action, self._field_name(), member, self.connection, self.source).note(
            owner, keys, members
        )

    def _field_name(self) -> str:
        manager = self.manager
        name = manager.query_field_name if manager.reverse else manager.prefetch_cache_name
        return str(name)
