"""The numbers behind status, admin, checks and metrics."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from django.db import DEFAULT_DB_ALIAS
from django.db.models import Count, Min, Sum

from audit_log.ledger import checkpoints
from audit_log.models import Outbox, Stream
from audit_log.recording import losses, spool

OLD_SECONDS: Final = 300


@dataclass(frozen=True, slots=True)
class StreamHealth:
    """One stream: how many records, and how many of them a checkpoint covers."""

    name: str
    size: int
    signed: int
    signed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Health:
    """How the log is doing. Ages are in seconds; `losses` are this process's own counts."""

    outbox_batches: int
    outbox_events: int
    outbox_oldest_seconds: float | None
    parked: int
    spool_files: int
    streams: tuple[StreamHealth, ...]
    losses: dict[str, int]

    @property
    def troubles(self) -> list[str]:
        """What an operator should look at, in words; empty when all is well."""
        found = []
        if self.parked:
            found.append(f"{self.parked} batches are parked; see why in the outbox table.")
        if self.spool_files:
            found.append(f"{self.spool_files} spool files wait to be replayed.")
        oldest = self.outbox_oldest_seconds
        if oldest is not None and oldest > OLD_SECONDS:
            found.append(f"The oldest batch has waited {oldest:.0f} s: is a worker running?")
        return found


def measure(using: str = DEFAULT_DB_ALIAS) -> Health:
    """Ask the database. Four queries, and one for each stream."""
    rows = Outbox.objects.using(using)
    waiting: dict[str, Any] = rows.filter(parked_at__isnull=True).aggregate(
        batches=Count("id"), events=Sum("event_count"), oldest=Min("created_at")
    )
    oldest = waiting["oldest"]
    return Health(
        outbox_batches=waiting["batches"],
        outbox_events=waiting["events"] or 0,
        outbox_oldest_seconds=None
        if oldest is None
        else (datetime.now(UTC) - oldest).total_seconds(),
        parked=rows.filter(parked_at__isnull=False).count(),
        spool_files=len(spool.waiting()),
        streams=tuple(
            _stream(head, using) for head in Stream.objects.using(using).order_by("name")
        ),
        losses=losses.counts(),
    )


def _stream(head: Stream, using: str) -> StreamHealth:
    last = checkpoints.last(head.name, using)
    return StreamHealth(
        name=head.name,
        size=head.size,
        signed=0 if last is None else last.size,
        signed_at=None if last is None else last.created_at,
    )
