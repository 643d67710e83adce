"""Into the archive: every closed day, part by part, each step in the database before the next.

A part is planned, written, verified, recorded and purgeable, in this order. A kill at any point
leaves it at its last step, where the next run goes on. Several runs at once share the parts: each
step is taken under the part's lock, or (SQLite) counts for one of them only.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from django.db import DatabaseError, connections, transaction

from audit_log.delivery import relay
from audit_log.exceptions import AuditLogError, RetentionRefused
from audit_log.ledger import checkpoints, heads
from audit_log.models import ArchivePart, Record, Stream
from audit_log.retention import bookkeeping, planning, policy, steps
from audit_log.retention.clock import database_now
from audit_log.retention.stores import Store
from audit_log.router import ledger_alias

logger = logging.getLogger("audit_log")

State = ArchivePart.State
UNFINISHED: Final = (State.PLANNED, State.WRITTEN, State.VERIFIED, State.RECORDED)
_RELAY_SECONDS: Final = 60.0
_MAX_ERROR: Final = 500
_AT_ONCE: Final = 1_000
EXPECTED: Final = (AuditLogError, DatabaseError, OSError)


@dataclass(slots=True)
class Archived:
    """What one run did. `purgeable` are parts that this run finished; `waiting` are under way.

    `off` says that nothing is archived, and why.
    """

    off: str = ""
    planned: int = 0
    parts: list[ArchivePart] = field(default_factory=list)
    purgeable: int = 0
    waiting: int = 0
    failures: list[str] = field(default_factory=list)


def run(
    using: str | None = None,
    *,
    stream: str | None = None,
    progress: steps.Progress = lambda _part, _done: None,
) -> Archived:
    """Archive what is closed, of one stream or all.

    What fails is logged, kept with the part and tried again by the next run; it stops its own
    stream only. `progress(part, records)` is called now and then.
    """
    using = using or ledger_alias()
    result = Archived()
    if policy.is_off():
        result.off = policy.NOT_SET
        return result
    names = [stream] if stream is not None else _streams(using)
    for name in names:
        try:
            _archive(name, using, result, progress)
        except EXPECTED as error:
            _failed(result, f"Stream {name!r}: {error}")
    if not policy.without_archive():
        try:
            result.purgeable += settle(using)
        except EXPECTED as error:
            _failed(result, f"The parts written cannot be put on record now: {error}")
    result.waiting = _unfinished(using).filter(stream__in=names).count()
    return result


def _streams(using: str) -> list[str]:
    return list(Stream.objects.using(using).order_by("name").values_list("name", flat=True))


def _failed(result: Archived, text: str) -> None:
    logger.error("The archive: %s", text)
    result.failures.append(text)


def _unfinished(using: str) -> Any:
    return ArchivePart.objects.using(using).filter(state__in=UNFINISHED).order_by("stream", "first")


def _archive(name: str, using: str, result: Archived, progress: steps.Progress) -> None:
    planned = planning.plan(name, using)
    result.planned += len(planned)
    if policy.without_archive():
        result.purgeable += _release(name, using)
        return
    store = policy.open_store()
    if store is None:
        return
    _take_up(name, store, using)
    last = _unfinished(using).filter(stream=name).last()
    if last is None:
        return
    _sign(name, last.last, using)
    _Run(name, store, using, result, progress).go()


def _take_up(stream: str, store: Store, using: str) -> None:
    """Parts that were on their way under other settings go on from where they are under these."""
    parts = ArchivePart.objects.using(using).filter(stream=stream)
    # What was to be purged without an archive, and is still here, is archived after all.
    released = parts.filter(state=State.PURGEABLE, record_id=None)
    released.filter(key="").update(state=State.PLANNED)
    released.filter(manifest_sha256="").update(state=State.WRITTEN)
    released.update(state=State.VERIFIED)
    # What was written and not yet proved when ARCHIVE still named another place.
    elsewhere = parts.filter(state=State.WRITTEN).exclude(store=store.name)
    elsewhere.update(state=State.PLANNED)


def _sign(stream: str, last: int, using: str) -> None:
    """A published checkpoint over all that is to be archived."""
    newest = checkpoints.last(stream, using)
    if newest is None or newest.size <= last:
        checkpoints.sign(stream, using)


def _release(name: str, using: str) -> int:
    """Without an archive: what a published checkpoint covers may be purged."""
    unfinished = _unfinished(using).filter(stream=name)
    last = unfinished.last()
    if last is None:
        return 0
    _sign(name, last.last, using)
    newest = checkpoints.last(name, using)
    covered = unfinished.filter(last__lt=newest.size) if newest else unfinished.none()
    return int(
        covered.order_by().update(state=State.PURGEABLE, purgeable_at=database_now(using), error="")
    )


class _Run:
    """One stream's parts, in order, until none of them can be taken further."""

    def __init__(
        self, stream: str, store: Store, using: str, result: Archived, progress: steps.Progress
    ) -> None:
        self.stream = stream
        self.store = store
        self.using = using
        self.result = result
        self.progress = progress
        place = policy.archive()
        self.prefix = place.prefix if place is not None else ""

    def go(self) -> None:
        """Passes over what is left: another run may hold a part that those behind it wait for."""
        todo = _unfinished(self.using).filter(stream=self.stream).exclude(state=State.RECORDED)
        while sum(map(self._all_steps, list(todo[:_AT_ONCE]))):
            continue

    def _all_steps(self, part: ArchivePart) -> bool:
        """Take a part as far as it goes. Whether it went anywhere."""
        moved = False
        try:
            while self._step(part):
                moved = True
        except EXPECTED as error:
            text = f"{part}: {error}"
            ArchivePart.objects.using(self.using).filter(pk=part.pk).update(
                error=str(error)[:_MAX_ERROR]
            )
            raise RetentionRefused(text) from error
        return moved

    def _step(self, part: ArchivePart) -> bool:
        """One step. False where there is none, or another run is at it."""
        if part.state not in {State.PLANNED, State.WRITTEN, State.VERIFIED}:
            return False
        short = part.state == State.VERIFIED
        locks = connections[self.using].features.has_select_for_update_skip_locked
        if not locks and not short:  # a transaction would keep all others from writing
            return self._work(part)
        with transaction.atomic(using=self.using):
            rows = ArchivePart.objects.using(self.using).filter(pk=part.pk, state=part.state)
            mine = rows.select_for_update(skip_locked=True) if locks else rows
            if mine.first() is None:
                return False
            return self._record(part) if short else self._work(part)

    def _work(self, part: ArchivePart) -> bool:
        if part.state == State.PLANNED:
            values = steps.write(part, self.store, self.prefix, self.using, self.progress)
            return self._reached(part, State.WRITTEN, values)
        found = steps.verify(part, self.store, self.prefix, self.using)
        return found is not None and self._reached(part, State.VERIFIED, found)

    def _record(self, part: ArchivePart) -> bool:
        """Within the transaction that writes the batch."""
        values = {"record_id": bookkeeping.archived(part, self.using)}
        self.result.parts.append(part)
        return self._reached(part, State.RECORDED, values)

    def _reached(self, part: ArchivePart, state: str, values: dict[str, Any]) -> bool:
        """Into the database, unless another run was there first."""
        rows = ArchivePart.objects.using(self.using).filter(pk=part.pk, state=part.state)
        if not rows.update(state=state, error="", **values):
            return False
        part.state = state
        for name, value in values.items():
            setattr(part, name, value)
        return True


def settle(using: str) -> int:
    """Store what was recorded, sign it, and make purgeable what is signed. How many parts."""
    recorded = ArchivePart.objects.using(using).filter(state=State.RECORDED)
    if not recorded.exists():
        return 0
    relay.relay(using, seconds=_RELAY_SECONDS)
    stored = _stored(recorded.order_by("id").values_list("record_id", flat=True)[:_AT_ONCE], using)
    if not stored:
        return 0
    _sign(heads.BOOKKEEPING, max(stored.values()), using)
    newest = checkpoints.last(heads.BOOKKEEPING, using)
    signed = [id_ for id_, number in stored.items() if newest and number < newest.size]
    return recorded.filter(record_id__in=signed).update(
        state=State.PURGEABLE, purgeable_at=database_now(using), error=""
    )


def _stored(ids: Iterable[Any], using: str) -> dict[Any, int]:
    rows = Record.objects.using(using).filter(
        pk__in=list(ids), stream=heads.BOOKKEEPING, action=bookkeeping.ARCHIVED
    )
    return dict(rows.values_list("pk", "sequence"))
