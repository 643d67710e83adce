"""Recompute everything: leaves from columns, roots from leaves, signatures from keys.

Rows stream by in the order of their numbers, in constant memory, without a lock or a long
transaction: what is appended meanwhile is left for the next time. A finding names the record.
Blind indexes are not proved (erasure nulls them), nor is the order within `changed_fields`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, NamedTuple

from django.db import DEFAULT_DB_ALIAS
from django.db.models import QuerySet, Subquery

from audit_log.exceptions import AuditLogError, EncodingError
from audit_log.ledger import checkpoints, heads, merkle
from audit_log.ledger.entries import entry_bytes
from audit_log.ledger.findings import MAX_FINDINGS, Enough, Finding, Findings, Verified
from audit_log.ledger.merkle import HASH_BYTES, TILE_WIDTH, CompactRange, Frontier
from audit_log.ledger.rows import Row, Unreadable, name_of, numbered, outside, sequence_of
from audit_log.models import Checkpoint, Record, Stream, Tile

_NO_HASH: Final = b"\0" * HASH_BYTES

_CHECKPOINTS: Final = 500
_LEVELS: Final = 8  # of 8 bits each: sizes have 63
Progress = Callable[[str, int, int], None]


def verify(
    using: str = DEFAULT_DB_ALIAS, *, stream: str | None = None, progress: Progress | None = None
) -> Verified:
    """Verify one stream, or all. `progress(stream, done, size)` is called now and then."""
    result = Verified()
    for name in streams(using) if stream is None else [stream]:
        # Only what is needed: another column of an altered row may not even load.
        heads_ = Stream.objects.using(using).only("name", "size", "partial")
        head = heads_.filter(pk=name).first()
        try:
            if head is None:
                _Headless(name, using, result).run()
            else:
                _Verification(head, using, result, progress).run()
        except Enough:
            message = f"the verification stopped after {MAX_FINDINGS} findings"
            result.findings.append(Finding(name, "stopped", message))
    return result


def streams(using: str = DEFAULT_DB_ALIAS) -> list[str]:
    """Every stream that any table of the ledger names, whether it has a head or not."""
    names = set(Stream.objects.using(using).values_list("name", flat=True))
    tables: list[QuerySet[Any]] = [
        Record.objects.using(using),
        Checkpoint.objects.using(using),
        Tile.objects.using(using),
    ]
    for rows in tables:
        names.update(rows.order_by().values_list("stream", flat=True).distinct())
    return sorted(names)


class _Headless(Findings):
    """What there is of a stream that has no head row."""

    def run(self) -> None:
        self.result.streams[self.name] = 0
        for row in outside(self.name, self.using, None):
            self.find("extra", "its stream has no head", *name_of(row))
        if Checkpoint.objects.using(self.using).filter(stream=self.name).exists():
            self.find("head", "the head is gone, but there are checkpoints of the stream", 0)
        if Tile.objects.using(self.using).filter(stream=self.name).exists():
            self.find("head", "the head is gone, but there are tiles of the stream", 0)


def _leaf_of(row: Row) -> bytes:
    if isinstance(row, Unreadable):
        raise EncodingError(row.why)
    return merkle.leaf_hash(entry_bytes(row))


class _Signature(NamedTuple):
    """A checkpoint whose note holds and says what its columns say."""

    id: int
    size: int
    root: str


class _Verification(Findings):
    """One stream. `stored` grows by the tree's own leaf hashes, `shown` by those of the columns.

    So one altered row does not hide the next, and a signed root tells which of the two is right.
    """

    def __init__(
        self, head: Stream, using: str, result: Verified, progress: Progress | None
    ) -> None:
        super().__init__(head.name, using, result)
        self.head = head
        self.progress = progress
        self.size = 0
        self.frontier: Frontier | None = None  # what the head says, if it makes sense
        self.partial = b""  # the leaf hashes that are not in a full tile yet
        self.stored = CompactRange()
        self.shown = CompactRange()
        self.rebuilt = Frontier()  # the tiles that the stored leaf hashes give
        self.leaves: list[bytes] = []  # of the tile at work, not yet in `rebuilt`
        self.tile = b""  # its stored leaf hashes
        self.lost = False  # a leaf hash is gone for good: nothing above it can be recomputed
        self.forked = False  # a signed root did not come out; later ones cannot
        self.doubtful: list[Finding] = []  # rows other than their hashes since the last signature
        self.signatures: Iterator[_Signature] = iter(())
        self.next_signature: _Signature | None = None

    def run(self) -> None:
        self._read_head()
        self.result.streams[self.name] = self.size
        self.signatures = self._good_signatures()
        self.next_signature = next(self.signatures, None)
        try:
            self._check_rows()
        finally:
            self._settle()
        self._check_head()
        self._check_extra()
        self._check_signatures_beyond()

    def _read_head(self) -> None:
        try:
            self.frontier = heads.frontier_of(self.head)
        except EncodingError as error:
            self.find("head", f"the head row was altered: {error}")
            rows = Record.objects.using(self.using).filter(stream=self.name, sequence__gte=0)
            last = rows.order_by("-sequence").values_list("sequence", flat=True).first()
            self.size = last + 1 if type(last) is int else 0
            with suppress(EncodingError):  # the leaves come first, whatever follows
                self.partial = heads.hashes_of(self.head.partial)
            return
        self.size = self.frontier.size
        self.partial = self.frontier.partial_tile(0)
        self.result.roots[self.name] = self.frontier.root().hex()

    def _check_rows(self) -> None:
        for row in numbered(self.name, self.size, self.using):
            sequence = sequence_of(row)
            if type(sequence) is not int or sequence < self.stored.size:
                self.find("extra", "its number is no number, or another record's", *name_of(row))
                continue
            for missing in range(self.stored.size, sequence):
                self._missing(missing)
            self._check_row(row, sequence)
        for missing in range(self.stored.size, self.size):
            self._missing(missing)
        self._close_tile()

    def _missing(self, sequence: int) -> None:
        self.find("missing", "the record was deleted", sequence)
        leaf = self._stored_leaf(sequence)
        self.lost = self.lost or leaf is None
        self._append(leaf or _NO_HASH, leaf or _NO_HASH)

    def _check_row(self, row: Row, sequence: int) -> None:
        stored = self._stored_leaf(sequence)
        try:
            leaf = _leaf_of(row)
        except (EncodingError, ValueError, TypeError, OverflowError) as error:
            self.find("altered", f"its columns are not a record's: {error}", *name_of(row))
            self.lost = self.lost or stored is None
            self._append(stored or _NO_HASH, stored or _NO_HASH)
            return
        if stored is None and sequence >= self.size - self.size % TILE_WIDTH:
            message = "the head has no hash for it: it was not appended, or the head was altered"
            self.find("extra", message, *name_of(row))
        elif stored is not None and leaf != stored:
            message = "its columns do not give the leaf hash in the tree"
            self.doubtful.append(Finding(self.name, "altered", message, *name_of(row)))
            self.count()
        self._append(stored or leaf, leaf)

    def _append(self, stored: bytes, shown: bytes) -> None:
        self.stored.add(stored)
        self.shown.add(shown)
        self.leaves.append(stored)
        if len(self.leaves) == TILE_WIDTH:
            self._close_tile()
        while self.next_signature is not None and self.next_signature.size <= self.stored.size:
            self._check_root(self.next_signature)
            self.next_signature = next(self.signatures, None)

    def _close_tile(self) -> None:
        for tile in self.rebuilt.extend(self.leaves):
            if tile.level and not self.lost and (hashes := self._read_tile(tile.level, tile.index)):
                self._compare(tile, hashes)
        self.leaves.clear()
        if self.progress is not None:
            self.progress(self.name, self.stored.size, self.size)

    def _stored_leaf(self, sequence: int) -> bytes | None:
        index, offset = divmod(sequence, TILE_WIDTH)
        if offset == 0:
            self.tile = self._leaf_tile(index)
        leaf = self.tile[offset * HASH_BYTES : (offset + 1) * HASH_BYTES]
        return leaf if len(leaf) == HASH_BYTES else None

    def _leaf_tile(self, index: int) -> bytes:
        first = index * TILE_WIDTH
        if self.size - first >= TILE_WIDTH:
            return self._read_tile(0, index)
        return self.partial

    def _read_tile(self, level: int, index: int) -> bytes:
        """A full tile as it is stored; empty, and found, when it cannot be one."""
        first, end = (n * TILE_WIDTH ** (level + 1) for n in (index, index + 1))
        where = f"tile {level}/{index} (records {first} to {end - 1})"
        try:
            hashes = heads.tile(self.name, level, index, self.using)
        except EncodingError as error:
            self.find("tile", f"{where} was altered: {error}", first)
            return b""
        if hashes is None:
            self.find("tile", f"{where} is gone", first)
        elif len(hashes) != merkle.TILE_BYTES:
            self.find("tile", f"{where} was altered: it has {len(hashes)} bytes", first)
        else:
            return hashes
        return b""

    def _compare(self, rebuilt: merkle.Tile, stored: bytes) -> None:
        """A tile above the leaves, against what the leaves give."""
        width = TILE_WIDTH**rebuilt.level
        for start in range(0, len(rebuilt.hashes), HASH_BYTES):
            if rebuilt.hashes[start : start + HASH_BYTES] != stored[start : start + HASH_BYTES]:
                first = (rebuilt.index * TILE_WIDTH + start // HASH_BYTES) * width
                message = f"the tree's hash over records {first} to {first + width - 1} is another"
                self.find("tile", message, first)

    def _check_head(self) -> None:
        """The partial tiles above the leaves."""
        if self.frontier is None or self.lost:
            return
        for level in range(1, _LEVELS):
            if hashes := self.frontier.partial_tile(level):
                rebuilt = self.rebuilt.partial_tile(level)
                self._compare(merkle.Tile(level, self.size >> 8 * (level + 1), rebuilt), hashes)

    def _check_extra(self) -> None:
        """Rows that nobody appended. One statement, hence one moment: a relay may be appending."""
        now = Stream.objects.using(self.using).filter(pk=self.name).values("size")
        size = self.size if self.frontier is None else Subquery(now)
        for row in outside(self.name, self.using, size):
            self.find("extra", "it was never appended: the stream is shorter", *name_of(row))

    def _good_signatures(self) -> Iterator[_Signature]:
        """The checkpoints up to the stream's size, in the order in which they were signed."""
        last = 0
        while chunk := self._checkpoints(id__gt=last, size__lte=self.size):
            for row in chunk:
                signature = self._opened(row)
                if signature is not None:
                    yield signature
            last = chunk[-1]["id"]

    def _check_signatures_beyond(self) -> None:
        """Checkpoints for more records than there are. One statement, hence one moment."""
        now = Stream.objects.using(self.using).filter(pk=self.name).values("size")
        beyond = [self._opened(row) for row in self._checkpoints(size__gt=Subquery(now))]
        last = max((s for s in beyond if s is not None), key=lambda s: s.size, default=None)
        if last is not None and last.size > self.size:
            message = (
                f"checkpoint {last.id} signed {last.size} records, but the stream ends after "
                f"{self.size}: the others were removed"
            )
            self.find("missing", message, self.size)

    def _checkpoints(self, **where: Any) -> list[dict[str, Any]]:
        rows: Any = Checkpoint.objects.using(self.using).filter(stream=self.name, **where)
        return list(rows.order_by("id").values("id", "size", "root", "note")[:_CHECKPOINTS])

    def _opened(self, row: dict[str, Any]) -> _Signature | None:
        self.result.checkpoints += 1
        name = f"checkpoint {row['id']} at {row['size']}"
        try:
            said = checkpoints.opened(row["note"], self.name)
        except AuditLogError as error:
            self.find("checkpoint", f"{name} does not hold: {error}")
            return None
        if (said.size, said.root.hex()) != (row["size"], row["root"]):
            self.find("checkpoint", f"{name} was altered: its note says {said.size}")
            return None
        return _Signature(row["id"], said.size, said.root.hex())

    def _check_root(self, signature: _Signature) -> None:
        if signature.size < self.stored.size:
            self.find("checkpoint", f"checkpoint {signature.id} is out of its order")
        if signature.size != self.stored.size or self.lost or self.forked:
            return
        if self.stored.root().hex() == signature.root:
            self._settle()
        elif self.shown.root().hex() == signature.root:
            self._settle(as_signed=True)
        else:
            self.forked = True
            since = self.result.signed.get(self.name, 0)
            message = (
                f"checkpoint {signature.id} signed another root: of records {since} to "
                f"{signature.size - 1}, some were altered together with their hashes"
            )
            self.find("checkpoint", message, since)
            return
        self.result.signed[self.name] = signature.size

    def _settle(self, *, as_signed: bool = False) -> None:
        """Report the rows in doubt; `as_signed`: it is their hashes that were altered."""
        message = "its leaf hash was altered; the record is as it was signed"
        for finding in self.doubtful:
            tile = replace(finding, kind="tile", message=message)
            self.result.findings.append(tile if as_signed else finding)
        self.doubtful.clear()
