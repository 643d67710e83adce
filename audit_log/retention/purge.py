"""Out of the database: parts that are proved elsewhere and past their days, from the first on.

Only the beginning of a stream is ever purged. A purge is announced (`audit_log.purged`) before the
first row goes, so what is not there any more is always accounted for. Rows go in batches, each in a
transaction of its own that also moves the head's boundary; a kill leaves a whole number of them,
and the next run goes on there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import file_digest
from typing import Any, Final

from django.db import connections, transaction
from django.db.models import QuerySet

from audit_log.exceptions import RetentionRefused
from audit_log.ledger import checkpoints, redactions
from audit_log.ledger.heads import BOOKKEEPING
from audit_log.ledger.merkle import TILE_WIDTH
from audit_log.models import ArchivePart, Record, Stream, Tile
from audit_log.retention import bookkeeping, brake, holds, parts, policy
from audit_log.retention.archive import EXPECTED
from audit_log.retention.clock import database_now
from audit_log.retention.manifests import Manifest
from audit_log.retention.steps import read_small
from audit_log.retention.stores import Store
from audit_log.router import ledger_alias

logger = logging.getLogger("audit_log")

BATCH: Final = 5_000
State = ArchivePart.State
DUE: Final = (State.PURGEABLE, State.PURGING)
_MAX_ERROR: Final = 500
_HELD: Final = "A legal hold stands, so nothing is purged: see `manage.py audit_log hold`."
Progress = Callable[[str, int, int], None]


@dataclass(slots=True)
class Purge:
    """What is to be purged, or was: parts in order, and records by stream."""

    off: str = ""
    parts: list[ArchivePart] = field(default_factory=list)
    records: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """How many records of all streams."""
        return sum(self.records.values())


def due(using: str | None = None, *, stream: str | None = None) -> Purge:
    """What a purge would delete now."""
    using = using or ledger_alias()
    found = Purge(off=policy.NOT_SET if policy.is_off() else "")
    if found.off:
        return found
    if holds.standing(using).exists():
        found.off = _HELD
        return found
    now = database_now(using)
    heads = Stream.objects.using(using).order_by("name")
    for head in heads if stream is None else heads.filter(pk=stream):
        chosen = _due(head, policy.purge_before(head.name, now), using)
        found.parts += chosen
        found.sizes[head.name] = head.size - head.purged
        found.records[head.name] = chosen[-1].last + 1 - head.purged if chosen else 0
    return found


def _due(head: Stream, before: Any, using: str) -> list[ArchivePart]:
    """The parts at the beginning of what is left that are all old enough, and all proved."""
    chosen: list[ArchivePart] = []
    checkpoint = checkpoints.last(head.name, using)
    rows = ArchivePart.objects.using(using).filter(stream=head.name, last__gte=head.purged)
    for part in rows.order_by("first").iterator():
        follows = part.first == chosen[-1].last + 1 if chosen else part.first <= head.purged
        covered = checkpoint is not None and checkpoint.size > part.last
        old = policy.ends_at(part) < before
        if not (follows and covered and old and part.state in DUE):
            break
        if head.name == BOOKKEEPING and redactions.needed_between(part.first, part.last, using):
            break  # it accounts for the missing contents of a record that is still there
        chosen.append(part)
    return chosen


def run(
    using: str | None = None,
    *,
    stream: str | None = None,
    override_brake: bool = False,
    seen: Any = None,
    progress: Progress = lambda _stream, _done, _total: None,
) -> Purge:
    """Purge what is due, of one stream or all. Raises RetentionRefused when the brake holds.

    `seen` is `brake.newest` from before an archive run. What fails is logged, kept with its part
    and tried again by the next run; it stops its own stream only.
    """
    using = using or ledger_alias()
    found = due(using, stream=stream)
    if not found.parts:
        return found
    if not override_brake:
        _brake(found, seen or brake.newest(using), using)
    done = Purge(sizes=found.sizes)
    store = policy.open_store()
    for name, total in found.records.items():
        try:
            for part in (p for p in found.parts if p.stream == name):
                _Purging(part, store, using, done, progress, total).go()
        except EXPECTED as error:
            logger.exception("The purge of stream %r stopped.", name)
            done.failures.append(f"Stream {name!r}: {error}")
    return done


def _brake(found: Purge, seen: Any, using: str) -> None:
    loads = [brake.Load(n, records, found.sizes[n]) for n, records in found.records.items()]
    try:
        brake.check(loads, database_now(using), seen)
    except RetentionRefused as refusal:
        logger.error("%s", refusal)  # noqa: TRY400 - it is the message that counts
        _note(found.parts[0], refusal, using)
        raise


def _note(part: ArchivePart, error: Exception, using: str) -> None:
    """Where `status` finds it."""
    rows = ArchivePart.objects.using(using).filter(pk=part.pk)
    rows.update(error=str(error)[:_MAX_ERROR])


class _Purging:
    """One part on its way out."""

    def __init__(
        self,
        part: ArchivePart,
        store: Store | None,
        using: str,
        done: Purge,
        progress: Progress,
        total: int,
    ) -> None:
        self.part = part
        self.store = store
        self.using = using
        self.done = done
        self.progress = progress
        self.total = total

    def go(self) -> None:
        try:
            if self.part.state == State.PURGEABLE:
                self._check_archive()
                self._announce()
            while self._batch():
                done = self.done.records.get(self.part.stream, 0)
                self.progress(self.part.stream, done, self.total)
        except EXPECTED as error:
            _note(self.part, error, self.using)
            raise
        self.done.parts.append(self.part)

    def _check_archive(self) -> None:
        """The last look before the rows go: part and manifest are there, and what they were."""
        part, store = self.part, self.store
        if store is None:
            return  # "none": purged without an archive
        if part.store != store.name:
            then = "let ARCHIVE name that place for one run" if part.store else "run archive before"
            raise RetentionRefused(
                f"Part {part} is in {part.store or 'no archive'}, which is not what "
                'AUDIT_LOG["ARCHIVE"] names, so nobody can see that it is still there. To purge '
                f"it, {then}."
            )
        data = read_small(store, parts.manifest_key(part.key))
        manifest = Manifest.parse(data)
        if manifest.digest != part.manifest_sha256 or manifest.sha256 != part.sha256:
            raise RetentionRefused(f"The manifest of part {part} is not the one on record.")
        if part.version_id and not store.exists(part.key, part.version_id):
            raise RetentionRefused(
                f"Version {part.version_id} of {store.name}/{part.key}, which was archived, is not "
                "there any more. Its records are kept."
            )
        # What a reader sees now: a version behind a delete marker is about to be gone.
        with store.open(part.key) as file:
            if file_digest(file, "sha256").hexdigest() != part.sha256:  # type: ignore[arg-type]
                raise RetentionRefused(
                    f"{store.name}/{part.key} is not what was archived there: its checksum is "
                    "another. Its records are kept."
                )

    def _announce(self) -> None:
        """On record before anything goes; and what is older and comes now comes too late."""
        with transaction.atomic(using=self.using):
            self._refuse_held()
            part = self._locked()
            if part.state != State.PURGEABLE:
                return
            part.state, part.purged_through, part.error = State.PURGING, part.first, ""
            part.save(using=self.using, update_fields=["state", "purged_through", "error"])
            head = Stream.objects.using(self.using).select_for_update().get(pk=part.stream)
            through = policy.ends_at(part)
            if head.purged_through is None or head.purged_through < through:
                head.purged_through = through
                head.save(using=self.using, update_fields=["purged_through"])
            bookkeeping.purged(part, self.using)

    def _batch(self) -> bool:
        """Delete up to 5,000 rows. Whether there were any."""
        with transaction.atomic(using=self.using):
            self._refuse_held()
            part = self._locked()
            if part.state != State.PURGING or part.purged_through is None:
                return False
            start = part.purged_through
            end = min(start + BATCH, part.last + 1)
            self._delete_rows(part, start, end)
            self._move_head(part, start, end)
            part.purged_through = end
            if end > part.last:
                part.state, part.purged_at = State.PURGED, database_now(self.using)
            part.save(using=self.using, update_fields=["purged_through", "state", "purged_at"])
        self.done.records[part.stream] = self.done.records.get(part.stream, 0) + end - start
        return True

    def _refuse_held(self) -> None:
        """A hold may have been placed since the purge began."""
        if holds.standing(self.using).exists():
            raise RetentionRefused(_HELD)

    def _locked(self) -> ArchivePart:
        """The part as it is now; several runs at once take turns."""
        rows = ArchivePart.objects.using(self.using)
        if connections[self.using].features.has_select_for_update:
            rows = rows.select_for_update()
        return rows.get(pk=self.part.pk)

    def _delete_rows(self, part: ArchivePart, start: int, end: int) -> None:
        rows = Record.objects.using(self.using).filter(
            stream=part.stream, sequence__gte=start, sequence__lt=end
        )
        ids = list(rows.values_list("pk", flat=True))
        if len(ids) != end - start:
            raise RetentionRefused(
                f"Of records {start} to {end - 1} of stream {part.stream!r} there are {len(ids)}: "
                "somebody deleted or added some. Nothing more is purged. Run `manage.py audit_log "
                f"verify --stream {part.stream}`."
            )
        _delete(Record.objects.using(self.using).filter(pk__in=ids))

    def _move_head(self, part: ArchivePart, start: int, end: int) -> None:
        """The boundary, and the tiles of leaves that are wholly before it."""
        moved = Stream.objects.using(self.using).filter(pk=part.stream, purged=start)
        if not moved.update(purged=end):
            raise RetentionRefused(
                f"The head of stream {part.stream!r} does not say that the records before {start} "
                f"are purged. Run `manage.py audit_log verify --stream {part.stream}`."
            )
        tiles = Tile.objects.using(self.using).filter(
            stream=part.stream, level=0, index__lt=end // TILE_WIDTH
        )
        if ids := list(tiles.values_list("pk", flat=True)):
            _delete(Tile.objects.using(self.using).filter(pk__in=ids))


def _delete(rows: QuerySet[Any]) -> None:
    """The one way in which what is append-only leaves: no signals, no cascade, one statement."""
    rows._raw_delete(rows.db)  # noqa: SLF001
