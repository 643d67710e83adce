"""What the records of an object say it is now, and what its row says."""

from __future__ import annotations

from collections.abc import Iterator
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

State = dict[str, Any]


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
        state = _after(state, record)
    steady = {item.name for item in _fields(instance)}
    return None if state is None else {k: v for k, v in state.items() if k in steady}


def _after(state: State | None, record: Record) -> State | None:
    news = {name: new for name, (_, new) in audit_log.contents(record)["changes"].items()}
    if record.action in {"create", "snapshot"}:
        return {name: new for name, new in news.items() if new is not None}
    if record.action == "update":
        return {k: v for k, v in {**(state or {}), **news}.items() if v is not None}
    return None if record.action == "delete" else state


def row_of(instance: models.Model) -> State:
    """The same by the row, as it stands in the database."""
    fresh = type(instance)._base_manager.get(pk=instance.pk)
    found = [(item, item.encode(fresh.__dict__[item.attname])[0]) for item in _fields(instance)]
    return {item.name: item.guard(value)[0] for item, value in found if value is not None}


def _fields(instance: models.Model) -> list[FieldPlan]:
    plan = plan_of(type(instance))
    assert plan is not None
    return [item for item in plan.fields if not item.incidental]
