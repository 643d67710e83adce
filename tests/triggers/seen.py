"""What the triggers wrote, read as the relay reads it."""

from __future__ import annotations

from typing import Any

from django.db import connection

from audit_log.events import Event
from audit_log.models import Outbox
from audit_log.recording import forms
from audit_log.recording.forms import Waiting


def sql(statement: str, params: Any = None) -> None:
    """Run it as the project's code would, by a cursor."""
    with connection.cursor() as cursor:
        cursor.execute(statement, params)


def events(using: str = "default") -> list[Any]:
    """The events that wait in the outbox, those about the log itself left out.

    Any: a test says what it finds in them.
    """
    rows = Outbox.objects.using(using).order_by("id").values_list(*forms.FIELDS)
    found: list[Event] = [event for row in rows for event in forms.events_of(Waiting(*row), using)]
    return [event for event in found if not event.action.startswith("audit_log.")]


def told(found: list[Any]) -> list[tuple[str, str, str | None]]:
    """Action, type and id of the target of each."""
    return [(e.action, e.target.type, e.target.id) for e in found if e.target is not None]


def forget() -> None:
    Outbox.objects.all().delete()


def in_clear() -> str:
    """Everything in the outbox as it stands there."""
    payloads = Outbox.objects.values_list("payload", flat=True)
    return "\n".join(bytes(payload).decode(errors="replace") for payload in payloads)
