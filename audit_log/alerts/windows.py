"""Where a sliding window first holds as much as a rule allows."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from audit_log.alerts.matching import later
from audit_log.conf.alerts import AlertRule

Span = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class Counted:
    """A record that a rule counts. `is_new` if no evaluation has seen it before."""

    moment: datetime
    amount: int
    stream: str
    sequence: int
    is_new: bool


@dataclass(frozen=True, slots=True)
class Window:
    """From the first record that counted, as long as the rule says. `last` reached the threshold.

    `measured` is what it took; more may have happened until `end`.
    """

    start: datetime
    end: datetime
    measured: int
    last: Counted


def first_window(
    counted: Iterable[Counted], rule: AlertRule, covered: Sequence[Span]
) -> Window | None:
    """The first window that reaches the threshold and holds something new. In order of time.

    What lies in a `covered` span belongs to an alert that fired. Holds no more records at a time
    than the threshold is high.
    """
    held = _Held()
    for one in counted:
        if not one.amount or is_covered(one.moment, covered):
            continue
        held.add(one)
        while one.moment - held.first.moment >= rule.window:
            held.drop()
        if held.total < rule.threshold:
            continue
        if held.news:
            start = held.first.moment
            return Window(start, later(start, rule.window), held.total, one)
        while held.total - held.first.amount >= rule.threshold:
            held.drop()  # from before the rule: enough of them is enough
    return None


class _Held:
    """The records in the window now."""

    def __init__(self) -> None:
        self._items: deque[Counted] = deque()
        self.total = 0
        self.news = 0

    @property
    def first(self) -> Counted:
        return self._items[0]

    def add(self, one: Counted) -> None:
        self._items.append(one)
        self.total += one.amount
        self.news += one.is_new

    def drop(self) -> None:
        one = self._items.popleft()
        self.total -= one.amount
        self.news -= one.is_new


def is_covered(moment: datetime, spans: Iterable[Span]) -> bool:
    """Whether a span holds the moment; its end is outside."""
    return any(start <= moment < end for start, end in spans)
