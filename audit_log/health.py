"""The numbers behind status, admin, checks and metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from django.db import DatabaseError, router
from django.db.models import Count, Min, Q, Sum

from audit_log.delivery import outboxes
from audit_log.ledger import checkpoints
from audit_log.models import Alert, Outbox, Record, Stream
from audit_log.recording import losses, spool
from audit_log.retention import waiting
from audit_log.retention.waiting import Waiting
from audit_log.router import ledger_alias

OLD_SECONDS: Final = 300
# Beat signs every minute what has grown: this long without means that nobody does.
UNSIGNED_SECONDS: Final = 900
_REASONS: Final = 5
_OFTEN: Final = 2  # a mail server may restart


@dataclass(frozen=True, slots=True)
class StreamHealth:
    """One stream: how many records, and how many of them a checkpoint covers.

    `unsigned_seconds` is how long a record has waited for its checkpoint, None if none does;
    `overdue` what is past its days in the database, `failures` what keeps its parts from leaving.
    """

    name: str
    size: int
    signed: int
    signed_at: datetime | None
    unsigned_seconds: float | None
    overdue: Waiting | None = None
    failures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Health:
    """How the log is doing. Ages are in seconds; `losses` are this process's own counts.

    `outbox_failing` batches could not be relayed and are tried again; `parked` ones are not.
    `reasons` says why, most frequent first, for a few of either. `unreachable` names the databases
    that could not be asked, and why. A channel has refused `alerts_failing` alerts more than once.
    """

    outbox_batches: int
    outbox_events: int
    outbox_oldest_seconds: float | None
    outbox_failing: int
    parked: int
    reasons: dict[str, int]
    spool_files: int
    streams: tuple[StreamHealth, ...]
    losses: dict[str, int]
    alerts_failing: int = 0
    unreachable: dict[str, str] = field(default_factory=dict)

    @property
    def troubles(self) -> list[str]:
        """What an operator should look at, in words; empty when all is well."""
        found = [
            f"The database {alias!r} cannot be asked: {reason}. What is recorded waits in the "
            "outboxes."
            for alias, reason in self.unreachable.items()
        ]
        reasons = f" Why: {'; '.join(self.reasons)}" if self.reasons else ""
        if self.parked:
            found.append(f"{self.parked} batches are parked, and stay so until retried.{reasons}")
        elif self.outbox_failing:
            found.append(f"{self.outbox_failing} batches failed and will be tried again.{reasons}")
        if self.spool_files:
            found.append(
                f"{self.spool_files} spool files wait to be replayed; `manage.py audit_log relay` "
                "on this host does it."
            )
        oldest = self.outbox_oldest_seconds
        if oldest is not None and oldest > OLD_SECONDS:
            found.append(f"The oldest batch has waited {oldest:.0f} s: is a worker running?")
        if self.alerts_failing:
            found.append(
                f"{self.alerts_failing} alerts cannot be delivered and are tried again: "
                "`manage.py audit_log alerts` says why."
            )
        found += [text for stream in self.streams if (text := _unsigned(stream))]
        found += [waiting.in_words(s.overdue) for s in self.streams if s.overdue is not None]
        return found + [text for stream in self.streams for text in stream.failures]


def _unsigned(stream: StreamHealth) -> str | None:
    if stream.signed > stream.size:
        return (
            f"Stream {stream.name!r} has {stream.size} records, but a checkpoint was signed for "
            f"{stream.signed}. Run `manage.py audit_log verify --stream {stream.name}`."
        )
    waited = stream.unsigned_seconds
    if waited is None or waited <= UNSIGNED_SECONDS:
        return None
    return (
        f"{stream.size - stream.signed} records of stream {stream.name!r} have waited "
        f"{waited:.0f} s for a checkpoint: does beat run audit_log.checkpoint, and does "
        "`manage.py audit_log checkpoint` succeed?"
    )


def measure(using: str | None = None) -> Health:
    """One database: four queries at most, and four for each stream. Raises DatabaseError."""
    using = using or ledger_alias()
    has_ledger = router.allow_migrate_model(using, Stream)
    return _health(_outbox(using), using if has_ledger else None)


def measure_everywhere() -> Health:
    """The ledger's database, and the outboxes of all. One that is down hides no other."""
    parts: dict[str, _Outbox] = {}
    unreachable: dict[str, str] = {}
    for alias in outboxes.aliases():
        try:
            parts[alias] = _outbox(alias)
        except DatabaseError as error:
            unreachable[alias] = (str(error).splitlines() or [type(error).__name__])[0]
    ledger = ledger_alias()
    found = _health(_together(parts.values()), ledger if ledger in parts else None)
    return replace(found, unreachable=unreachable)


@dataclass(slots=True)
class _Outbox:
    batches: int = 0
    events: int = 0
    failing: int = 0
    parked: int = 0
    oldest: datetime | None = None
    reasons: Counter[str] = field(default_factory=Counter)


def _health(outbox: _Outbox, ledger: str | None) -> Health:
    """`ledger` is None where there is no ledger, or none that answers."""
    heads = () if ledger is None else Stream.objects.using(ledger).order_by("name")
    return Health(
        outbox_batches=outbox.batches,
        outbox_events=outbox.events,
        outbox_oldest_seconds=_age(outbox.oldest),
        outbox_failing=outbox.failing,
        parked=outbox.parked,
        reasons=dict(outbox.reasons.most_common(_REASONS)),
        spool_files=len(spool.waiting()),
        streams=tuple(_stream(head, str(ledger)) for head in heads),
        losses=losses.counts(),
        alerts_failing=0 if ledger is None else _alerts_failing(ledger),
    )


def _alerts_failing(using: str) -> int:
    due = Alert.objects.using(using).filter(due_at__isnull=False)
    return due.filter(attempts__gte=_OFTEN).count()


def _outbox(using: str) -> _Outbox:
    rows = Outbox.objects.using(using)
    is_parked = Q(parked_at__isnull=False)
    counted: dict[str, Any] = rows.aggregate(
        batches=Count("id", filter=~is_parked),
        events=Sum("event_count", filter=~is_parked, default=0),
        failing=Count("id", filter=~is_parked & Q(attempts__gt=0)),
        parked=Count("id", filter=is_parked),
        oldest=Min("created_at", filter=~is_parked),
    )
    found = _Outbox(**counted)
    if found.parked or found.failing:
        reasons = rows.exclude(parked_reason=None).values_list("parked_reason")
        found.reasons.update(dict(reasons.annotate(n=Count("id")).order_by("-n")[:_REASONS]))
    return found


def _together(parts: Iterable[_Outbox]) -> _Outbox:
    total = _Outbox()
    for part in parts:
        for name in ("batches", "events", "failing", "parked"):
            setattr(total, name, getattr(total, name) + getattr(part, name))
        total.oldest = min(filter(None, (total.oldest, part.oldest)), default=None)
        total.reasons.update(part.reasons)
    return total


def _stream(head: Stream, using: str) -> StreamHealth:
    last = checkpoints.last(head.name, using)
    signed = 0 if last is None else last.size
    since: datetime | None = None
    if signed < head.size:
        rows = Record.objects.using(using).filter(stream=head.name, sequence=signed)
        since = rows.values_list("recorded_at", flat=True).first()
    return StreamHealth(
        name=head.name,
        size=head.size,
        signed=signed,
        signed_at=None if last is None else last.created_at,
        unsigned_seconds=_age(since),
        overdue=waiting.overdue(head, using),
        failures=waiting.failures(head.name, using),
    )


def _age(moment: datetime | None) -> float | None:
    return None if moment is None else (datetime.now(UTC) - moment).total_seconds()
