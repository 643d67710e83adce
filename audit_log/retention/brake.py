"""What stops a purge that would surprise: too much at once, or on a clock that jumped."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from django.db.models import Max

from audit_log.exceptions import RetentionRefused
from audit_log.models import Stream

MAX_SHARE: Final = 0.25
MAX_RECORDS: Final = 10_000
MAX_AHEAD: Final = timedelta(days=2)
_GO_ON: Final = (
    "If it is meant, run `manage.py audit_log purge --override-brake` and say yes; see "
    "docs/retention.md. Nothing was purged."
)


class Load(NamedTuple):
    """What is to be purged of a stream: `records` of the `size` that are in the database."""

    stream: str
    records: int
    size: int


def newest(using: str) -> datetime | None:
    """When the newest record of all streams was stored, by the workers' clocks."""
    found: datetime | None = Stream.objects.using(using).aggregate(at=Max("recorded_at"))["at"]
    return found


def check(loads: Iterable[Load], now: datetime, seen: datetime | None) -> None:
    """Raise RetentionRefused for what a careful operator would look at first.

    `now` is the database's clock; `seen` when the newest record was stored, as it was before this
    run stored any.
    """
    _check_clock(now, seen)
    for load in loads:
        if load.records > MAX_RECORDS and load.records > MAX_SHARE * load.size:
            raise RetentionRefused(
                f"The brake: {load.records} of the {load.size} records of stream {load.stream!r} "
                f"would be purged at once ({load.records / load.size:.0%}; more than "
                f"{MAX_SHARE:.0%} and {MAX_RECORDS} records). The first purge on a long history "
                f"does that, and so does a retention that was shortened. {_GO_ON}"
            )


def _check_clock(now: datetime, seen: datetime | None) -> None:
    worker = datetime.now(UTC)
    if now - worker > MAX_AHEAD:
        raise RetentionRefused(
            f"The brake: the database's clock says {now:%Y-%m-%d %H:%M}, this host's "
            f"{worker:%Y-%m-%d %H:%M}. Set them right. {_GO_ON}"
        )
    if seen is not None and now - seen > MAX_AHEAD:
        raise RetentionRefused(
            f"The brake: the database's clock says {now:%Y-%m-%d %H:%M}, but nothing was recorded "
            f"since {seen:%Y-%m-%d %H:%M}. Either it jumped, or nothing ran: archive and relay "
            f"record something every day, so the next run goes on by itself. {_GO_ON}"
        )
