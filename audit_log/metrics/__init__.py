"""The numbers of `health` as metrics, for Prometheus and OpenTelemetry.

    from audit_log.metrics import prometheus      # or opentelemetry
    prometheus.register()                         # once, in an AppConfig's ready(), say

What is in the databases is asked for at most every 15 seconds, however often it is scraped; what a
process itself gave up or relayed is counted in that process.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from django.db import DatabaseError

from audit_log import health
from audit_log.delivery import tally
from audit_log.health import Health
from audit_log.recording import losses

_LASTS_SECONDS: Final = 15.0


class Kind(NamedTuple):
    """One metric, without the prefix `audit_log_`.

    `label` tells its samples apart, where there are several. A counter only grows, and its name
    ends in `_total`.
    """

    name: str
    meaning: str
    label: str = ""
    is_counter: bool = False


KINDS: Final = (
    Kind("up", "Whether every database of the log answers"),
    Kind("outbox_batches", "Batches that wait in the outboxes"),
    Kind("outbox_events", "Events that wait in the outboxes"),
    Kind("outbox_oldest_seconds", "Age of the oldest batch that waits"),
    Kind("outbox_failing", "Batches that failed and are tried again"),
    Kind("parked", "Batches that were set aside"),
    Kind("spool_files", "Spool files of this machine"),
    Kind("alerts_failing", "Alerts that nobody could be told of"),
    Kind("records", "Length of a stream", "stream"),
    Kind("unsigned_seconds", "How long a record has waited for its checkpoint", "stream"),
    Kind("overdue_records", "Records past their days in the database", "stream"),
    Kind("lost_total", "What this process had to give up", "reason", is_counter=True),
    Kind("relayed_batches_total", "Batches that relays of this process moved", is_counter=True),
    Kind("relayed_events_total", "Events that relays of this process stored", is_counter=True),
    Kind("relayed_seconds_total", "Seconds that relays of this process took", is_counter=True),
)

Samples = dict[str, dict[str, float]]
"""By metric, then by the value of its label (an empty string where it has none)."""


@dataclass(slots=True)
class _Measured:
    lock: threading.Lock = field(default_factory=threading.Lock)
    until: float = 0.0
    health: Health | None = None


_measured = _Measured()


def samples() -> Samples:
    """Every number now. Never raises: where databases do not answer, `up` is 0 and theirs miss."""
    found = _health()
    numbers: Samples = {
        "up": {"": 0.0 if found is None or found.unreachable else 1.0},
        "lost_total": {reason: float(number) for reason, number in losses.counts().items()},
        **{f"relayed_{name}_total": {"": number} for name, number in tally.counts().items()},
    }
    if found is not None:
        numbers |= _of_databases(found)
    return numbers


def _health() -> Health | None:
    with _measured.lock:  # several scrapes at once ask once
        if time.monotonic() >= _measured.until:
            try:
                _measured.health = health.measure_everywhere()
            except DatabaseError:
                _measured.health = None
            _measured.until = time.monotonic() + _LASTS_SECONDS
        return _measured.health


def forget() -> None:
    """Ask the databases at the next scrape."""
    _measured.until = 0.0


def _of_databases(found: Health) -> Samples:
    whole = {
        "outbox_batches": found.outbox_batches,
        "outbox_events": found.outbox_events,
        "outbox_oldest_seconds": found.outbox_oldest_seconds or 0,
        "outbox_failing": found.outbox_failing,
        "parked": found.parked,
        "spool_files": found.spool_files,
        "alerts_failing": found.alerts_failing,
    }
    streams = {stream.name: stream for stream in found.streams}
    return {
        **{name: {"": float(number)} for name, number in whole.items()},
        "records": {name: float(each.size) for name, each in streams.items()},
        "unsigned_seconds": {n: float(each.unsigned_seconds or 0) for n, each in streams.items()},
        "overdue_records": {
            n: float(each.overdue.records if each.overdue else 0) for n, each in streams.items()
        },
    }
