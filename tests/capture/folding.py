"""What the records of an object say it is now, and what its row says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import models

import audit_log
from audit_log import context
from audit_log.capture.fields import FieldPlan
from audit_log.capture.plans import plan_of
from audit_log.events import Event, decode_batch
from audit_log.models import Outbox, Record
from audit_log.privacy.encryption import key_ring
from audit_log.recording import outbox
from audit_log.recording.targets import target_id, target_type

State = dict[str, Any]
Key = tuple[str, str | None]
"""Type and id of a target."""


@contextmanager
def unseen() -> Iterator[None]:
    """As before the log was there: nothing is captured, not even that."""
    with context.changed(suspended=True):
        yield


def waiting(action: str = "snapshot", using: str = "default") -> list[Event]:
    """The events in the outbox, of one action."""
    payloads = Outbox.objects.using(using).order_by("id").values_list("payload", flat=True)
    events = [
        event
        for payload in payloads
        for event in decode_batch(key_ring().decrypt(outbox.PURPOSE, bytes(payload)))
    ]
    return [event for event in events if event.action == action]


def ids(events: list[Event]) -> list[str]:
    """The ids of their targets."""
    return [str(event.target and event.target.id) for event in events]


def folded(instance: models.Model, *order: str) -> State | None:
    """The values by the records, from the oldest to the newest; None if there is no such object.

    Left out are values that are null, as a creation does, and fields that change by themselves
    (`auto_now`): that alone is no event.
    """
    state: State | None = None
    for record in audit_log.history(instance).order_by(*(order or ("id",))):
        state = _after(state, record.action, audit_log.contents(record)["changes"])
    steady = {item.name for item in _fields(instance)}
    return None if state is None else {k: v for k, v in state.items() if k in steady}


def _after(state: State | None, action: str, changes: dict[str, Any]) -> State | None:
    news = {name: new for name, (_, new) in changes.items()}
    if action in {"create", "snapshot"}:
        return {name: new for name, new in news.items() if new is not None}
    if action == "update":
        return {k: v for k, v in {**(state or {}), **news}.items() if v is not None}
    return None if action == "delete" else state


def row_of(instance: models.Model) -> State:
    """The same by the row, as it stands in the database."""
    return _read(type(instance)._base_manager.get(pk=instance.pk))


def _read(fresh: models.Model) -> State:
    found = [(item, item.encode(fresh.__dict__[item.attname])[0]) for item in _fields(fresh)]
    return {item.name: item.guard(value)[0] for item, value in found if value is not None}


def _fields(instance: models.Model) -> list[FieldPlan]:
    plan = plan_of(type(instance))
    assert plan is not None
    return [item for item in plan.fields if not item.incidental]


def rows_of(*kinds: type[models.Model]) -> dict[Key, State]:
    """All rows of these models as they stand, with the ids of their members."""
    rows = {
        (target_type(kind), target_id(kind, row.pk)): _read(row)
        for kind in kinds
        for row in kind._base_manager.all()
    }
    for kind in kinds:
        for field in kind._meta.local_many_to_many:
            through: Any = field.remote_field.through
            pairs = (field.m2m_column_name(), field.m2m_reverse_name())
            for owner, member in through._base_manager.values_list(*pairs):
                members = rows[target_type(kind), target_id(kind, owner)].setdefault(
                    field.name, set()
                )
                members.add(target_id(field.remote_field.model, member))
    return rows


def fold(states: dict[Key, State], records: Iterable[Record], *, exact: bool = False) -> None:
    """Do to `states`, of all objects, what the records say, in the order given.

    Asserts that each follows from those before it: what is created was not there, what is changed
    or deleted was, and held the old values. `exact`: and none of these is unknown.
    """
    for record in records:
        key = (record.target_type or "", record.target_id)
        before, said = states.pop(key, None), audit_log.contents(record)
        after = _following(before, record, said, exact=exact)
        if after is not None:
            states[key] = after


def _following(
    before: State | None, record: Record, said: dict[str, Any], *, exact: bool
) -> State | None:
    action, changes = record.action, said["changes"]
    told = (record.sequence, action, record.target_type, record.target_id, said, before)
    unknown = {mark["path"] for mark in record.redactions or () if mark["rule"] == "not_loaded"}
    assert not (exact and unknown), told
    assert (before is None) == (action in {"create", "snapshot"}), told
    if before is None:
        return _after(None, action, changes)
    if action.startswith("m2m."):
        return _with_members(before, action, said["data"], told)
    old = {name: old for name, (old, _) in changes.items() if f"changes.{name}.0" not in unknown}
    assert old == {name: before.get(name) for name in old}, told
    assert action != "delete" or set(before) <= set(changes), told  # nothing goes unsaid
    return _after(before, action, changes)


def _with_members(state: State, action: str, data: dict[str, Any], told: object) -> State:
    """What was added was not there, and what was removed was."""
    members, ids = state.get(data["field"], set()), set(data["ids"])
    if action == "m2m.add":
        assert not ids & members, told
        members = members | ids
    else:
        assert ids <= members, told  # a clear from the other side takes one
        members = members - ids
    others = {name: value for name, value in state.items() if name != data["field"]}
    return {**others, data["field"]: members} if members else others
