"""What was captured: seen as it is made, and stored without a worker."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from django.apps import apps
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Model

from audit_log.capture.plans import by_triggers, full_plan_of
from audit_log.conf import get_settings
from audit_log.delivery.claims import Relayed
from audit_log.delivery.relay import relay as _relay
from audit_log.events import JSON, Event, Target
from audit_log.recording import buffer, pending, works
from audit_log.recording.targets import target_id, target_type
from audit_log.recording.values import plain
from audit_log.registry import decide

_MAX_SHOWN: Final = 20
_capturing: list[list[Event]] = []


class _Captured(list[Event]):
    """The events so far; those whose transaction rolls back go away again."""

    def captured(self, event: Event) -> None:
        self.append(event)

    def dropped(self, event: Event) -> None:
        for n, other in enumerate(self):
            if other is event:
                del self[n]
                return


@contextmanager
def capture_events() -> Iterator[list[Event]]:
    """A list that fills with the events captured inside the block, in any thread.

    Works inside Django's TestCase too, where nothing is ever committed. What a rolled-back
    savepoint or transaction captured disappears from it. Requests that end outside a transaction
    are buffered: `flush()` lets them appear, but not those of earlier tests.
    """
    if not _capturing:
        buffer.discard()
    events = _Captured()
    _capturing.append(events)
    end = works.tap(events)
    try:
        yield events
    finally:
        end()
        del _capturing[-1]


def relay(using: str = DEFAULT_DB_ALIAS) -> Relayed:
    """Store everything captured so far, now, in this thread.

    Works inside Django's TestCase, whose transaction never commits: the records are there until
    the test ends.
    """
    connection = connections[using]
    buffer.flush()
    if connection.in_atomic_block:
        pending.write_early(connection)
    return _relay(using)


def flush() -> int:
    """Write the request events this process has buffered into the outbox. How many."""
    return buffer.flush()


def assert_audited(
    events: Iterable[Event],
    action: str,
    /,
    target: Model | type[Model] | Target | str | None = None,
    *,
    pk: Any = None,
    **changes: Any,
) -> Event:
    """The first of `events` that is this `action` on `target` with these `changes`.

    A target is an object, a model or its label; `pk` says which object of a model. A label may also
    stand first: `assert_audited(events, "shop.product", "update", pk=7)`.

    `name="Ada"` asks for the new value of a field, `name=("Eve", "Ada")` for the old one as well;
    values are written as Python has them, and a masked field's compare as its mask. A target whose
    primary key is None (it was deleted) stands for any object of its model, as the model does.
    Raises AssertionError, which lists what there is.
    """
    events = list(events)
    if isinstance(target, str) and _model(target) is None and _model(action) is not None:
        action, target = target, action
    if isinstance(target, str):
        target = _model(target) or target
    wanted = _expected(target, changes)
    for event in events:
        if event.action == action and _is_target(event.target, target, pk) and _has(event, wanted):
            return event
    shown = "".join(f"\n  {_described(event)}" for event in events[:_MAX_SHOWN])
    if len(events) > _MAX_SHOWN:
        shown += f"\n  and {len(events) - _MAX_SHOWN} more"
    key = "" if pk is None else str(pk)
    asked = " ".join(filter(None, (action, _named(target), key, _listed(wanted))))
    raise AssertionError(f"Not audited: {asked}.{_why(target)} Captured:{shown or ' nothing'}")


def _model(label: str) -> type[Model] | None:
    """The installed model of a label, in any case of its letters."""
    app, _, name = label.partition(".")
    try:
        return apps.get_model(app, name)
    except LookupError:
        return None


def _why(target: Model | type[Model] | Target | str | None) -> str:
    """What alone explains that there is nothing, where something does."""
    if not get_settings().enabled:
        return ' AUDIT_LOG["ENABLED"] is False, so nothing is captured.'
    if isinstance(target, str):
        return f" There is no model {target!r}."
    model = target if isinstance(target, type) else type(target)
    if not issubclass(model, Model):
        return ""
    if by_triggers(model):
        return f" {model._meta.label} is captured by triggers: relay() stores what they saw."
    if full_plan_of(model) is not None:
        return ""
    rule = decide(model).rule
    return f" {model._meta.label} is not audited ({rule})."


def _is_target(
    found: Target | None, target: Model | type[Model] | Target | str | None, pk: Any
) -> bool:
    if isinstance(target, Target):
        return found is not None and (found.type, found.id) == (target.type, target.id)
    kind, key = _type_and_id(target, pk)
    if found is None:
        return kind is None and key is None
    return kind in {None, found.type} and key in {None, found.id}


def _type_and_id(
    target: Model | type[Model] | str | None, pk: Any
) -> tuple[str | None, str | None]:
    """What an event's target has to have; None where anything will do."""
    if target is None or isinstance(target, str):
        return target and target.lower(), None if pk is None else str(pk)
    model = target if isinstance(target, type) else type(target)
    if pk is None and isinstance(target, Model):
        pk = target.pk
    return target_type(model), target_id(model, pk)


def _expected(target: Any, changes: dict[str, Any]) -> dict[str, tuple[JSON, ...]]:
    """The changes as events hold them: (new,) or (old, new)."""
    model = target if isinstance(target, type) else type(target)
    plan = full_plan_of(model) if issubclass(model, Model) else None
    items = {} if plan is None else {item.name: item for item in plan.fields}

    def encoded(name: str, value: Any) -> JSON:
        if isinstance(value, Model):
            value = value.pk
        item = items.get(name)
        return plain(value)[0] if item is None else item.guard(item.encode(value)[0])[0]

    return {
        name: tuple(encoded(name, one) for one in (value if _is_pair(value) else (value,)))
        for name, value in changes.items()
    }


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2  # noqa: PLR2004 - old and new


def _has(event: Event, wanted: dict[str, tuple[JSON, ...]]) -> bool:
    found = event.changes or {}
    return all(
        name in found and tuple(found[name])[-len(values) :] == values
        for name, values in wanted.items()
    )


def _described(event: Event) -> str:
    parts = (event.action, _named(event.target), _listed(event.changes or {}))
    return " ".join(filter(None, parts))


def _named(target: Model | type[Model] | Target | str | None) -> str:
    if target is None or isinstance(target, str):
        return target or ""
    if isinstance(target, Target):
        return f"{target.type} {target.id}"
    if isinstance(target, type):
        return target_type(target)
    return f"{target_type(type(target))} {target.pk}"


def _listed(changes: dict[str, Any]) -> str:
    return ", ".join(f"{name}={' -> '.join(map(repr, pair))}" for name, pair in changes.items())
