"""Batches that were set aside: looked at, tried again, or given up, on record."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

from django.db import connections, transaction

from audit_log import context
from audit_log.delivery import outboxes
from audit_log.events import Actor, Event, format_time
from audit_log.exceptions import ParkedRefused
from audit_log.models import Outbox
from audit_log.recording import forms, outbox
from audit_log.recording.forms import Waiting
from audit_log.recording.values import safe_str

DISCARDED: Final = "audit_log.discarded"
_NAMED_CHARACTERS: Final = 32 * 1024  # of events, so that the record of all this fits
_COLUMNS: Final = ("id", "event_count", "attempts", "created_at", "parked_at", "parked_reason")


@dataclass(frozen=True, slots=True)
class Parked:
    """One batch that waits for somebody. `id` is its number in the outbox of `database`."""

    database: str
    id: int
    events: int
    attempts: int
    created_at: datetime
    parked_at: datetime
    reason: str


def batches(using: str | None = None) -> Iterator[Parked]:
    """Every parked batch, oldest first, of one database or of all that have an outbox."""
    for alias in [using] if using else outboxes.aliases():
        rows = _rows(alias).order_by("id").values_list(*_COLUMNS)
        for id_, events, attempts, created, parked, reason in rows.iterator(chunk_size=500):
            yield Parked(alias, id_, events, attempts, created, parked, reason or "")


def _rows(using: str) -> Any:
    return Outbox.objects.using(using).filter(parked_at__isnull=False)


def events_of(using: str, id_: int) -> list[Event]:
    """What is in a parked batch.

    Raises ParkedRefused where there is none, AuditLogError where it cannot be read.
    """
    row = _rows(using).filter(pk=id_).first()
    if row is None:
        raise ParkedRefused(_unknown(using, [id_]))
    return forms.events_of(Waiting(row.pk, row.form, row.payload, row.created_at), using)


def _unknown(using: str, ids: Collection[int]) -> str:
    numbers = ", ".join(map(str, sorted(ids)))
    return f"No parked batch {numbers} in {using!r}: see `manage.py audit_log parked`."


def retry(using: str, ids: Collection[int] | None = None) -> int:
    """Let the relay try batches again, these or all, as if for the first time. How many.

    Raises ParkedRefused, with nothing changed, where one of `ids` is not parked.
    """
    with transaction.atomic(using=using):
        rows = _locked(using, ids)
        return int(
            Outbox.objects.using(using)
            .filter(pk__in=[row.pk for row in rows])
            .update(attempts=0, parked_at=None, parked_reason=None, next_attempt_at=None)
        )


def discard(using: str, ids: Collection[int], reason: str) -> int:
    """Give batches up, on record: which events they held, and why. How many.

    Raises ParkedRefused, with nothing changed, without a reason or where one is not parked.
    """
    if not reason.strip():
        raise ParkedRefused("To discard a batch needs a reason: its events will never be stored.")
    with transaction.atomic(using=using):
        rows = _locked(using, ids)
        for row in rows:
            _say(row, reason, using)
        Outbox.objects.using(using).filter(pk__in=[row.pk for row in rows]).delete()
        return len(rows)


def _locked(using: str, ids: Collection[int] | None) -> list[Outbox]:
    rows = _rows(using).select_for_update()
    found: list[Outbox] = list(rows if ids is None else rows.filter(pk__in=ids))
    if missing := {*(ids or ())} - {row.pk for row in found}:
        raise ParkedRefused(_unknown(using, missing))
    return found


def _say(row: Outbox, reason: str, using: str) -> None:
    """In the same transaction: it is gone exactly if that is on record."""
    data = {
        "batch": row.pk,
        "database": using,
        "events": row.event_count,
        "sha256": sha256(bytes(row.payload)).hexdigest(),
        "parked_because": row.parked_reason,
        "held": _held(row, using),
    }
    event = context.new_event(
        DISCARDED,
        source="explicit",
        actor=context.actor_now() or Actor(type="system", id="audit_log.parked"),
        data={name: value for name, value in data.items() if value},
        reason=safe_str(reason),
    )
    outbox.insert(connections[using], outbox.rows_of([event]))


def _held(row: Outbox, using: str) -> list[dict[str, Any]]:
    """What the batch held, as far as it can be read: enough to see what is missing for ever."""
    try:
        events = forms.events_of(Waiting(row.pk, row.form, row.payload, row.created_at), using)
    except Exception:  # noqa: BLE001 - unreadable, which may be why it is parked
        return []
    held: list[dict[str, Any]] = []
    size = 0
    for event in map(summary, events):
        size += sum(len(name) + len(said) for name, said in event.items())
        if size > _NAMED_CHARACTERS:
            break
        held.append(event)
    return held


def summary(event: Event) -> dict[str, Any]:
    """What an event is about, without what it says of anybody."""
    found = {
        "id": str(event.id),
        "time": format_time(event.occurred_at),
        "action": event.action,
        "actor": None if event.actor is None else event.actor.id,
        "type": None if event.target is None else event.target.type,
        "target": None if event.target is None else event.target.id,
    }
    return {name: value for name, value in found.items() if value is not None}
