"""What retention says about itself: written with the step itself, or neither is."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from django.db import connections

from audit_log import context
from audit_log.events import Actor, Target
from audit_log.ledger import purges
from audit_log.models import ArchivePart
from audit_log.recording import outbox
from audit_log.recording.values import safe_str

ARCHIVED: Final = "audit_log.archived"
TASK: Final = "audit_log.retention"


def archived(part: ArchivePart, using: str) -> UUID:
    """Put `audit_log.archived` into the outbox, within the open transaction. Returns its id."""
    return say(ARCHIVED, {**_range(part), "sha256": part.sha256}, using)


def purged(part: ArchivePart, using: str) -> UUID:
    """The same for `audit_log.purged`, with how far each stream is purged by then."""
    return say(purges.ACTION, {**_range(part), purges.BOUNDARIES: purges.boundaries(using)}, using)


def _range(part: ArchivePart) -> dict[str, Any]:
    facts = {
        "stream": part.stream,
        "first": part.first,
        "last": part.last,
        "count": part.count,
        "day": part.day.isoformat(),
        "store": part.store,
        "key": part.key,
        "manifest_sha256": part.manifest_sha256,
    }
    return {name: value for name, value in facts.items() if value != ""}


def say(
    action: str,
    data: dict[str, Any],
    using: str,
    *,
    target: Target | None = None,
    reason: str | None = None,
) -> UUID:
    """Put an event about the log itself into the outbox, within the open transaction.

    Not by `record()`: this is recorded whatever ENABLED and ON_FAILURE say, and open but for the
    reason.
    """
    actor = context.actor_now() or Actor(type="system", id=TASK)
    extra = {} if reason is None else {"reason": safe_str(reason)}
    event = context.new_event(
        action, source="explicit", actor=actor, target=target, data=data, **extra
    )
    outbox.insert(connections[using], outbox.rows_of([event]))
    return event.id
