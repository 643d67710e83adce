"""Going through stored records with today's rules: what would be masked that stands there.

By number, a chunk at a time, without a lock or a long transaction: in constant memory, and what was
looked at need not be looked at again.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any, Final

from django.db.models import Max, Min

from audit_log.ledger.rows import Row, Unreadable, numbered
from audit_log.models import Record
from audit_log.reading import exposed
from audit_log.reading.contents import contents_of_all
from audit_log.reading.search import first_id
from audit_log.recording.explicit import record

_CHUNK: Final = 500
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Found:
    """That a rule would mask something: in which record, and where in it. Never the value."""

    record: str
    stream: str
    sequence: int
    path: str
    rule: str


@dataclass(slots=True)
class Scan:
    """One pass, and what it has seen so far. `sealed` opens the sealed contents as well.

    `after` is the last record of each stream that was looked at; `closed` counts records of which
    a sealed part could not be opened, `unreadable` those that somebody altered beyond reading.
    """

    using: str
    sealed: bool = False
    records: int = 0
    found: int = 0
    affected: int = 0
    closed: int = 0
    unreadable: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    after: dict[str, int] = field(default_factory=dict)

    def run(
        self,
        stream: str,
        *,
        start: int = 0,
        since: datetime | None = None,
        progress: Progress | None = None,
    ) -> Iterator[Found]:
        """What is found in the records of a stream from number `start` on, and from `since` on.

        `progress(stream, number, size)` is called now and then.
        """
        first = None if since is None else first_id(since)
        begin, size = self._range(stream, start, first)
        rows = self._readable(numbered(stream, begin, size, self.using), first)
        while chunk := list(islice(rows, _CHUNK)):
            for row, opened in zip(chunk, self._opened(chunk), strict=True):
                yield from self._look_at(stream, row, opened)
                self.after[stream] = row["sequence"]
            if progress is not None:
                progress(stream, self.after[stream] + 1, size)

    def _readable(self, rows: Iterator[Row], first: uuid.UUID | None) -> Iterator[dict[str, Any]]:
        for row in rows:
            if isinstance(row, Unreadable):
                self.unreadable += 1
            elif first is None or row["id"] >= first:
                yield row

    def _opened(self, rows: list[dict[str, Any]]) -> list[Any]:
        """The sealed contents of each, where they are asked for; one query for all their keys."""
        if not self.sealed:
            return [None] * len(rows)
        stored = [Record(**row) for row in rows]
        for each in stored:  # as if they had been loaded whole
            each._state.db = self.using
        return contents_of_all(stored)

    def _range(self, stream: str, start: int, first: uuid.UUID | None) -> tuple[int, int]:
        rows = Record.objects.using(self.using).filter(stream=stream, sequence__gte=start)
        last = rows.aggregate(last=Max("sequence"))["last"]
        if first is not None:
            rows = rows.filter(pk__gte=first)
        begin = rows.aggregate(first=Min("sequence"))["first"]
        if begin is None or last is None:
            return start, start  # none
        return int(begin), int(last) + 1

    def _look_at(self, stream: str, row: dict[str, Any], opened: Any) -> Iterator[Found]:
        self.records += 1
        marks = dict.fromkeys(self._exposed(row, opened))
        self.affected += bool(marks)
        self.found += len(marks)
        self.rules.update(rule for _, rule in marks)
        for path, rule in marks:
            yield Found(str(row["id"]), stream, row["sequence"], path, rule)

    def _exposed(self, row: dict[str, Any], opened: Any) -> Iterator[exposed.Exposed]:
        yield from exposed.in_envelope(row)
        yield from exposed.in_changes(row["changes"], row["target_type"])
        yield from exposed.in_data(row["data"])
        if opened is not None:
            self.closed += bool(opened["closed"])
            yield from exposed.in_contents(opened, row)

    def announce(self) -> None:
        """Record that the records were looked through, and how much was found."""
        data = {
            "what": "scan",
            "records": self.records,
            "findings": self.found,
            "sealed": self.sealed,
            "streams": {name: str(last) for name, last in self.after.items()},
        }
        record("audit_log.viewed", data=data, using=self.using)
