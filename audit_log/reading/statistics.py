"""Counts of records by interval, and what the usage summaries say about each route.

Both read a bounded period: a longer one is refused with the longest that is allowed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db.models import Count, QuerySet
from django.db.models.functions import TruncDay, TruncHour, TruncMinute, TruncMonth

from audit_log.models import Record
from audit_log.reading.search import first_id
from audit_log.router import ledger_alias

GROUPS: Final = (
    *("action", "outcome", "actor_type", "target_type"),
    *("source", "service", "stream"),
)
MAX_GROUPS: Final = 50
OTHER: Final = "(other)"
NONE: Final = "(none)"
MAX_SUMMARIES: Final = 100_000
ROUTES_PERIOD: Final = timedelta(days=7)
_SLACK: Final = timedelta(seconds=2)  # how far an id may be from `occurred_at`
_LATE: Final = timedelta(minutes=5)  # how long after its minute a summary is written, at most
_QUANTILES: Final = {"p50": 50, "p95": 95, "p99": 99}


class PeriodTooLong(ValueError):
    """The period holds more than one answer can."""


@dataclass(frozen=True, slots=True)
class Interval:
    """How long one bucket is, and the longest period that is cut into them."""

    truncate: Callable[..., Any]
    longest: timedelta
    next: Callable[[datetime], datetime]
    start: Callable[[datetime], datetime]


def _first_of_month(moment: datetime) -> datetime:
    return moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _next_month(moment: datetime) -> datetime:
    return _first_of_month(moment + timedelta(days=32))


def _every(length: timedelta, truncate: Callable[..., Any], longest: timedelta) -> Interval:
    def start(moment: datetime) -> datetime:
        return moment - (moment - datetime.min.replace(tzinfo=UTC)) % length

    return Interval(truncate, longest, lambda moment: moment + length, start)


INTERVALS: Final = {
    "minute": _every(timedelta(minutes=1), TruncMinute, timedelta(days=1)),
    "hour": _every(timedelta(hours=1), TruncHour, timedelta(days=31)),
    "day": _every(timedelta(days=1), TruncDay, timedelta(days=400)),
    "month": Interval(TruncMonth, timedelta(days=3660), _next_month, _first_of_month),
}


@dataclass(frozen=True, slots=True)
class Bucket:
    """The records of one interval, which begins at `start` (UTC)."""

    start: datetime
    total: int
    counts: dict[str, int]


def check_period(since: datetime, until: datetime, longest: timedelta) -> None:
    """Raises PeriodTooLong, and ValueError for a period that does not go forward."""
    if until <= since:
        raise ValueError("until must be later than since.")
    if until - since > longest:
        raise PeriodTooLong(f"The period is {until - since}; it may be {longest.days} days here.")


def counts(
    rows: QuerySet[Record], interval: str, since: datetime, until: datetime, group_by: str
) -> list[Bucket]:
    """How many of `rows` fall into each interval, by the values of one of GROUPS. One query.

    Intervals are of UTC; the first begins at or before `since`. Those without records are there
    too. The rarest values share OTHER. Raises ValueError.
    """
    step = INTERVALS[interval]
    check_period(since, until, step.longest)
    since = step.start(since.astimezone(UTC))
    rows = rows.filter(
        pk__gte=first_id(since - _SLACK),  # the index; the moments are exact
        pk__lt=first_id(until + _SLACK),
        occurred_at__gte=since,
        occurred_at__lt=until,
    )
    found = (
        rows.order_by()
        .annotate(bucket=step.truncate("occurred_at", tzinfo=UTC))
        .values_list("bucket", group_by)
        .annotate(n=Count("pk"))
    )
    return _buckets(found, step, since, until)


def _buckets(found: Any, step: Interval, since: datetime, until: datetime) -> list[Bucket]:
    by_start: dict[datetime, Counter[str]] = {}
    totals: Counter[str] = Counter()
    for start, value, number in found:
        name = NONE if value is None else str(value)
        by_start.setdefault(start, Counter())[name] += number
        totals[name] += number
    kept = {name for name, _ in totals.most_common(MAX_GROUPS)}
    buckets = []
    while since < until:
        counted: Counter[str] = Counter()
        for name, number in by_start.get(since, {}).items():
            counted[name if name in kept else OTHER] += number
        buckets.append(Bucket(since, counted.total(), dict(sorted(counted.items()))))
        since = step.next(since)
    return buckets


@dataclass(slots=True)
class RouteFigures:
    """One route. A percentile is the upper bound of its class, in ms; None beyond the last."""

    route: str
    requests: int = 0
    errors: int = 0
    latencies: Counter[float] = field(default_factory=Counter)

    @property
    def percentiles(self) -> dict[str, int | None]:
        """`{"p50": at most so many ms, "p95", "p99"}`."""
        return {name: self._percentile(share) for name, share in _QUANTILES.items()}

    def _percentile(self, share: int) -> int | None:
        wanted = self.latencies.total() * share
        seen = 0
        for bound, number in sorted(self.latencies.items()):
            seen += number
            if seen * 100 >= wanted:
                return None if bound == float("inf") else int(bound)
        return None


def routes(since: datetime, until: datetime, route: str | None = None) -> list[RouteFigures]:
    """Requests, errors (5xx) and latencies per route, from the minutes of [since, until).

    The busiest first. Raises ValueError, and PeriodTooLong where there are too many summaries.
    """
    check_period(since, until, ROUTES_PERIOD)
    rows = Record.objects.using(ledger_alias()).filter(
        action="usage", pk__gte=first_id(since), pk__lt=first_id(until + _LATE)
    )
    if route is not None:
        rows = rows.filter(route=route)
    found: dict[str, RouteFigures] = {}
    for name, data in _summaries(rows):
        if since.timestamp() <= data.get("minute", 0) < until.timestamp():
            _add(found.setdefault(name, RouteFigures(name)), data)
    return sorted(found.values(), key=lambda figures: (-figures.requests, figures.route))


def _summaries(rows: QuerySet[Record]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    pairs = rows.order_by().values_list("route", "data")[: MAX_SUMMARIES + 1]
    for number, (route, data) in enumerate(pairs.iterator(chunk_size=2_000)):
        if number == MAX_SUMMARIES:
            raise PeriodTooLong(
                f"There are over {MAX_SUMMARIES} summaries: shorten the period, or name a route."
            )
        if isinstance(data, dict):
            yield route or NONE, data


def _add(figures: RouteFigures, data: Mapping[str, Any]) -> None:
    figures.requests += data.get("requests", 0)
    figures.errors += data.get("errors", 0)
    for name, number in data.get("latency_ms", {}).items():
        bound = name.removeprefix("le_")
        figures.latencies[float(bound) if bound.isdecimal() else float("inf")] += number
