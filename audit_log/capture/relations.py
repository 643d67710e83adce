"""Many-to-many changes, from either side, as events of the object that owns the field.

No `m2m_changed` receiver is connected: with one, Django asks for the existing members before each
`add()`, a query the project's tests would count. The related manager's three methods are bracketed
instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections, models, router
from django.db.models.fields import related_descriptors

from audit_log import context
from audit_log.capture.failures import guarded
from audit_log.capture.plans import plan_of
from audit_log.events import Redaction, Target
from audit_log.privacy.names import kind_of
from audit_log.privacy.redaction import MASK
from audit_log.recording import outbox, pending
from audit_log.recording.targets import MAX_LABEL, target_id, target_type
from audit_log.recording.values import safe_str

_original = related_descriptors.create_forward_many_to_many_manager
_MAX_LABELS = 100


def install() -> None:
    """Hook the factory of related managers. Harmless when done twice."""
    related_descriptors.create_forward_many_to_many_manager = _create_manager


def uninstall() -> None:
    """Put Django's own factory back; managers made meanwhile stay bracketed but inert."""
    related_descriptors.create_forward_many_to_many_manager = _original


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
        with _captured(self, "m2m.add", source, options) as change:
            if change is not None and objs:
                change.before(self._get_target_ids(target, objs))
            manager._add_items(self, source, target, *objs, **options)

    return _add_items


def _remove_items(manager: Any) -> Callable[..., None]:
    def _remove_items(self: Any, source: str, target: str, *objs: Any, **options: Any) -> None:
        with _captured(self, "m2m.remove", source, options) as change:
            if change is not None and objs:
                change.before(_ids(self, objs))
            manager._remove_items(self, source, target, *objs, **options)

    return _remove_items


def _clear(manager: Any, name: str) -> Callable[..., None]:
    original = getattr(manager, name)

    def clear(self: Any, *args: Any, **options: Any) -> None:
        with _captured(self, "m2m.clear", self.source_field_name, options) as change:
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
        else:
            found.add(manager.target_field.target_field.to_python(obj))
    return found


@contextmanager
def _captured(
    manager: Any, action: str, source: str, options: dict[str, Any]
) -> Iterator[_Change | None]:
    """Bracket one operation. None where there is nothing to capture."""
    owner = manager.model if manager.reverse else type(manager.instance)
    plan = plan_of(owner)
    # A symmetrical relation writes a second, mirrored row: one event is enough.
    mirrored = source != manager.source_field_name
    if plan is None or mirrored or context.current().suspended:
        yield None
        return
    alias = options.get("using") or router.db_for_write(manager.through, instance=manager.instance)
    change = _Change(manager, action, alias)
    with pending.bracket(connections[alias]):
        yield change
        guarded("capture_failed", change.capture)


class _Change:
    """Which members one operation really adds or removes."""

    def __init__(self, manager: Any, action: str, alias: str) -> None:
        self.manager = manager
        self.action = action
        self.connection = connections[alias]
        self.ids: set[Any] = set()

    def before(self, ids: set[Any] | None) -> None:
        """Look at the members before the change; `None` for all of them."""
        guarded("capture_failed", self._read, ids=ids)

    def _read(self, *, ids: set[Any] | None) -> None:
        manager = self.manager
        if ids is not None and not ids:
            return
        through = manager.through._default_manager.using(self.connection.alias)
        rows = through.filter(**{manager.source_field_name: manager.related_val[0]})
        if ids is not None:
            rows = rows.filter(**{f"{manager.target_field_name}__in": ids})
        with outbox.quiet(self.connection):
            existing = set(rows.values_list(f"{manager.target_field_name}_id", flat=True))
        self.ids = (ids or set()) - existing if self.action == "m2m.add" else existing

    def capture(self) -> None:
        """One event; from the other side, one for each owner."""
        if not self.ids:
            return
        manager = self.manager
        with outbox.quiet(self.connection):
            others = {
                getattr(other, manager.target_field.target_field.attname): other
                for other in manager.model._base_manager.using(self.connection.alias).filter(
                    **{f"{manager.target_field.target_field.attname}__in": self.ids}
                )
            }
            if not manager.reverse:
                self._add(manager.instance, sorted(self.ids, key=str), others.values())
                return
            for key in sorted(self.ids, key=str):
                owner = others.get(key)
                if owner is not None:
                    self._add(owner, [manager.related_val[0]], [manager.instance])

    def _add(self, owner: models.Model, keys: list[Any], members: Iterable[models.Model]) -> None:
        field = self._field_name()
        plan = plan_of(type(owner))
        if plan is None:
            return
        member = self.manager.model if not self.manager.reverse else type(self.manager.instance)
        ids = [target_id(member, key) for key in keys]
        labels: list[str] = [safe_str(m)[:MAX_LABEL] for m in list(members)[:_MAX_LABELS]]
        redactions: tuple[Redaction, ...] = ()
        if kind_of(field) is not None:
            labels = [MASK] * len(labels)
            redactions = (Redaction("data.labels", f"name:{kind_of(field)}"),)
        pending.add(
            self.connection,
            context.new_event(
                self.action,
                source="orm",
                target=Target(
                    type=plan.type,
                    id=target_id(type(owner), owner.pk),
                    label=safe_str(owner)[:MAX_LABEL],
                ),
                affected=len(ids),
                data={"field": field, "type": target_type(member), "ids": ids, "labels": labels},
                sealed=("data.labels",),
                redactions=redactions,
                subject=plan.subject_of(owner),
            ),
        )

    def _field_name(self) -> str:
        manager = self.manager
        name = manager.query_field_name if manager.reverse else manager.prefetch_cache_name
        return str(name)
