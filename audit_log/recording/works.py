"""What a connection has captured in its open transaction, and the marks of its savepoints."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final, Protocol

from audit_log import signals
from audit_log.events import Event
from audit_log.recording import losses, outbox


class Mark:
    """A place in a transaction. `undone` once that place was rolled back; `settled` once committed.

    Snapshots keep the mark they were taken under, so they know whether they still hold; `rows` are
    the keys of those written there, so that who reads one knows it may yet be undone.
    """

    __slots__ = ("rows", "settled", "undone")

    def __init__(self) -> None:
        self.undone = False
        self.settled = False
        self.rows: set[Hashable] = set()


ANY_ROW: Final = object()
"""Instead of a key in `Mark.rows`: all rows of a model, when they were too many to name."""


MAX_WAITING: Final = 2_000
"""Events of one transaction in memory; then they are written into the outbox before its end."""
MAX_NAMED: Final = 10_000


class Tap(Protocol):
    """Sees events as they are captured (`audit_log.testing`)."""

    def captured(self, event: Event) -> None: ...

    def dropped(self, event: Event) -> None: ...


_taps: list[Tap] = []


def tap(listener: Tap) -> Callable[[], None]:
    """Let `listener` see every event of this process. Returns what ends it."""
    _taps.append(listener)
    return lambda: _taps.remove(listener)


class Work:
    """What one connection has captured in its open transaction, and what of it is in the outbox."""

    __slots__ = ("expects", "items", "limit", "marks", "refused", "stored", "written")

    def __init__(self) -> None:
        self.expects = False  # that triggers of the database wrote into the outbox
        self.items: list[tuple[Mark, Event]] = []
        self.limit = MAX_WAITING  # of items
        self.stored: set[Mark] = set()  # under which something of it is in the outbox
        self.written: list[tuple[Mark, Event]] = []  # what that was, where a tap may want to know
        self.refused: list[outbox.Row] = []
        self.marks: list[tuple[int, Mark]] = []

    def __del__(self) -> None:
        uncommitted.discard(id(self))  # a thread may end, with its connection, at any point

    def mark(self, savepoint_state: int) -> Mark:
        """The mark of the present place; savepoints are told apart by Django's running count."""
        if self.marks and self.marks[-1][0] == savepoint_state:
            return self.marks[-1][1]
        mark = Mark()
        self.marks.append((savepoint_state, mark))
        uncommitted.add(id(self))
        return mark

    def mark_of_row(self, row: tuple[Hashable, Hashable]) -> Mark | None:
        """Where this row, a model and a key, was last written in the open transaction."""
        every = (row[0], ANY_ROW)
        for _, mark in reversed(self.marks):
            if row in mark.rows or every in mark.rows:
                return mark
        return None

    def take(self) -> list[Event]:
        """The events that wait: they go into the outbox now, and with it stand or fall."""
        events = [event for _, event in self.items]
        for mark, event in self.items:
            self.keep(mark, event)
        self.items = []
        return events

    def keep(self, mark: Mark, event: Event) -> None:
        """An event is in the outbox, where it stands or falls with the transaction."""
        self.stored.add(mark)
        if _taps:
            self.written.append((mark, event))

    def forget_rows(self) -> None:
        """Rows too many to name are all rows of their model: a mark must not grow for ever."""
        for _, mark in self.marks:
            if len(mark.rows) > MAX_NAMED:
                mark.rows = {(key[0], ANY_ROW) for key in mark.rows if isinstance(key, tuple)}

    def undo(self, since: int = -1) -> None:
        """Drop what was captured since savepoint number `since` was made (all by default)."""
        kept = []
        for state, mark in self.marks:
            if state >= since:
                mark.undone = True
            else:
                kept.append((state, mark))
        self.marks = kept
        if not kept:
            self.expects = False
            uncommitted.discard(id(self))
        for mark, event in self.written + self.items:
            if mark.undone:
                for listener in _taps:
                    listener.dropped(event)
        self.items = [item for item in self.items if not item[0].undone]
        self.written = [item for item in self.written if not item[0].undone]
        self.stored = {mark for mark in self.stored if not mark.undone}
        self.refused, self.limit = [], MAX_WAITING

    def settle(self) -> None:
        """The transaction has committed."""
        for _, mark in self.marks:
            mark.settled = True
        self.marks, self.items, self.written, self.refused = [], [], [], []
        self.stored, self.limit = set(), MAX_WAITING
        self.expects = False
        uncommitted.discard(id(self))


uncommitted: Final[set[int]] = set()
"""The works that hold marks, by id: most loads of a row find none, and ask no more."""


def announce(event: Event, using: str) -> None:
    """Tell those who listen: nobody, mostly."""
    for listener in _taps:
        listener.captured(event)
    if not signals.captured.receivers:
        return
    for receiver, error in signals.captured.send_robust(sender=None, event=event, using=using):
        if isinstance(error, Exception):
            losses.warn("receiver_failed", "A receiver of `captured` failed: %r.", receiver)
