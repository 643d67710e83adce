"""The records since the last evaluation, against every rule.

Nothing is kept in memory from one evaluation to the next: the cursor says what is new, and the
ledger itself what came before. A page and the alerts it fired are one transaction, under a lock
that lets one evaluation through at a time.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from django.db import transaction
from django.db.models import QuerySet

from audit_log.alerts import cursors, firing
from audit_log.alerts.matching import Group, Matcher, Row, later
from audit_log.alerts.windows import Counted, Span, Window, first_window, is_covered
from audit_log.conf import get_settings
from audit_log.models import Record
from audit_log.router import ledger_alias

PAGE: Final = 1_000


def evaluate(using: str | None = None, *, seconds: float | None = None) -> int:
    """Look at what is new in every stream, or as much as fits into `seconds`. How many fired.

    Two queries where nothing is new, a few for a page of a thousand records. Safe to run many at
    once. Channels are told by `notifying.notify`.
    """
    using = using or ledger_alias()
    matchers = [Matcher(rule) for rule in get_settings().alerts]
    stop = None if seconds is None else time.monotonic() + seconds
    fired = 0
    for stream, size in cursors.behind(using).items():
        if not matchers:
            cursors.move(stream, size, using)
            continue
        has_more = True
        while has_more and (stop is None or time.monotonic() < stop):
            number, has_more = _page(stream, size, matchers, using)
            fired += number
    return fired


def _page(stream: str, size: int, matchers: Sequence[Matcher], using: str) -> tuple[int, bool]:
    """One page: how many alerts fired, and whether there is another. `size` is there at least."""
    columns = set[str]().union(*(matcher.columns for matcher in matchers))
    with transaction.atomic(using=using):
        place = cursors.lock(stream, using)
        found = Record.objects.using(using).filter(stream=stream, sequence__gte=place)
        rows: list[Row] = list(found.order_by("sequence").values(*columns)[:PAGE])
        fired = sum(_Judgement(matcher, rows, using).fire() for matcher in matchers)
        is_full = len(rows) == PAGE
        end = rows[-1]["sequence"] + 1 if rows else 0
        # What was purged before we came is passed over.
        cursors.move(stream, end if is_full else max(end, size), using)
    return fired, is_full


class _Judgement:
    """One rule over one page."""

    def __init__(self, matcher: Matcher, rows: Sequence[Row], using: str) -> None:
        self.matcher = matcher
        self.rule = matcher.rule
        self.using = using
        self.news: dict[Group, list[Row]] = defaultdict(list)
        for row in rows:
            if matcher.takes(row):
                self.news[matcher.group(row)].append(row)

    def fire(self) -> int:
        """Fire what is to be fired. No query where the rule takes nothing of the page."""
        if not self.news:
            return 0
        spans = self._drop_covered()
        fired = 0
        for group in self._suspects():
            for window in self._windows(group, spans[firing.group_text(group)]):
                firing.fire(self.rule, group, window, self.using)
                fired += 1
        return fired

    def _drop_covered(self) -> dict[str, list[Span]]:
        """Forget what belongs to alerts that fired. Returns their spans, by group."""
        since, until = self._range(self.news)
        groups = map(firing.group_text, self.news)
        spans = firing.covered(self.rule, groups, since, until, self.using)
        for group, rows in list(self.news.items()):
            known = spans[firing.group_text(group)]
            self.news[group] = [row for row in rows if not is_covered(row["occurred_at"], known)]
            if not self.news[group]:
                del self.news[group]
        return spans

    def _range(self, groups: Any) -> Span:
        """A window before the first new record of these groups to a window after the last."""
        moments = [row["occurred_at"] for group in groups for row in self.news[group]]
        return min(moments) - self.rule.window, later(max(moments), self.rule.window)

    def _suspects(self) -> list[Group]:
        """The groups with enough around their new records to be worth a closer look."""
        if not self.news:
            return []
        query = self.matcher.query(self.using, *self._range(self.news))
        column = self.rule.group_by
        if column is None:
            return [None] if self._total(query) >= self.rule.threshold else []
        sums = query.filter(self.matcher.in_groups(self.news)).order_by().values(column)
        enough = sums.annotate(total=self.matcher.total()).filter(total__gte=self.rule.threshold)
        return [row[column] for row in enough if row[column] in self.news]

    def _windows(self, group: Group, spans: list[Span]) -> Iterator[Window]:
        """The windows of one group that reach the threshold, one after another."""
        since, until = self._range([group])
        new_ids = {row["id"] for row in self.news[group]}
        for start, end in spans:
            if start <= since < end:
                since = end  # nothing before it can count again
        while since < until:
            query = self._of(group, since, until)
            if spans and self._total(query) < self.rule.threshold:
                return
            window = first_window(self._counted(query, new_ids), self.rule, spans)
            if window is None:
                return
            yield replace(window, measured=max(window.measured, self._measured(group, window)))
            since = window.end
            spans.append((window.start, window.end))

    def _of(self, group: Group, since: datetime, until: datetime) -> QuerySet[Record]:
        return self.matcher.query(self.using, since, until).filter(self.matcher.in_groups([group]))

    def _measured(self, group: Group, window: Window) -> int:
        """All of what the ledger knows of the window now, beyond what reached the threshold."""
        query = self._of(group, window.start, window.end)
        return self._total(query.filter(occurred_at__gte=window.start, occurred_at__lt=window.end))

    def _total(self, query: QuerySet[Record]) -> int:
        return int(query.aggregate(total=self.matcher.total())["total"])

    def _counted(self, query: QuerySet[Record], new_ids: set[Any]) -> Iterator[Counted]:
        """The records of a query in order of time, a page at a time."""
        rows = query.order_by("pk").values(*self.matcher.columns)
        page = list(rows[:PAGE])
        while page:
            for row in filter(self.matcher.takes, page):
                amount, is_new = self.matcher.amount(row), row["id"] in new_ids
                yield Counted(row["occurred_at"], amount, row["stream"], row["sequence"], is_new)
            page = list(rows.filter(pk__gt=page[-1]["id"])[:PAGE]) if len(page) == PAGE else []
