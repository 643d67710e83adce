"""For other people's tests: see what was captured, and store it without a worker.

With pytest, `audit_events` and `assert_audited` are fixtures (`audit_log.pytest_plugin`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Model

from audit_log.capture.plans import plan_of
from audit_log.delivery.relay import Relayed
from audit_log.delivery.relay import relay as _relay
from audit_log.events import JSON, Event, Target
from audit_log.recording import buffer, pending
from audit_log.recording.targets import target_id, target_type
from audit_log.recording.values import plain

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
    end = pending.tap(events)
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
    target: Model | type[Model] | Target | None = None,
    **changes: Any,
) -> Event:
    """The first of `events` that is this `action` on `target` with these `changes`.

    `name="Ada"` asks for the new value of a field, `name=("Eve", "Ada")` for the old one as well;
    values are written as Python has them, and a masked field's compare as its mask. A target whose
    primary key is None (it was deleted) stands for any object of its model, as the model does.
    Raises AssertionError, which lists what there is.
    """
    events = list(events)
    wanted = _expected(target, changes)
    for event in events:
        if event.action == action and _is_target(event, target) and _has(event, wanted):
            return event
    shown = "".join(f"\n  {_described(event)}" for event in events[:_MAX_SHOWN])
    if len(events) > _MAX_SHOWN:
        shown += f"\n  and {len(events) - _MAX_SHOWN} more"
    asked = " ".join(filter(None, (action, _named(target), _listed(wanted))))
    raise AssertionError(f"Not audited: {asked}. Captured:{shown or ' nothing'}")


def _is_target(event: Event, target: Model | type[Model] | Target | None) -> bool:
    if target is None:
        return True
    found = event.target
    if found is None:
        return False
    if isinstance(target, type):
        return found.type == target_type(target)
    if isinstance(target, Target):
        return (found.type, found.id) == (target.type, target.id)
    same_type = found.type == target_type(type(target))
    return same_type and (target.pk is None or found.id == target_id(type(target), target.pk))


def _expected(target: Any, changes: dict[str, Any]) -> dict[str, tuple[JSON, ...]]:
    """The changes as events hold them: (new,) or (old, new)."""
    model = target if isinstance(target, type) else type(target)
    plan = plan_of(model) if issubclass(model, Model) else None
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


def _named(target: Model | type[Model] | Target | None) -> str:
    if target is None:
        return ""
    if isinstance(target, Target):
        return f"{target.type} {target.id}"
    if isinstance(target, type):
        return target_type(target)
    return f"{target_type(type(target))} {target.pk}"


def _listed(changes: dict[str, Any]) -> str:
    return ", ".join(f"{name}={' -> '.join(map(repr, pair))}" for name, pair in changes.items())
