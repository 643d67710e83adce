"""Recompute everything: leaves from columns, roots from leaves, signatures from keys.

Rows stream by in the order of their numbers, in constant memory, without a lock or a long
transaction: what is appended meanwhile is left for the next time. A finding names the record.
Blind indexes are not proved (erasure nulls them), nor is the order within `changed_fields`.
Of what was purged, the tree above the leaves is left: the roots show that it is the signed one, and
the log itself must account for the purge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from django.db.models import QuerySet, Subquery

from audit_log.exceptions import EncodingError, InvalidProof
from audit_log.ledger import heads, merkle, redactions
from audit_log.ledger.findings import MAX_FINDINGS, Enough, Finding, Findings, Verified
from audit_log.ledger.headless import Headless
from audit_log.ledger.merkle import HASH_BYTES, TILE_WIDTH, CompactRange, Frontier
from audit_log.ledger.purges import account_for, is_sound, purged_now, where_records_begin
from audit_log.ledger.rows import Row, Unreadable, name_of, numbered, outside, sequence_of
from audit_log.ledger.signatures import Signature, check_beyond, up_to
from audit_log.models import Checkpoint, Record, Stream, Tile
from audit_log.router import ledger_alias

_NO_HASH: Final = b"\0" * HASH_BYTES

_LEVELS: Final = 8  # of 8 bits each: sizes have 63
Progress = Callable[[str, int, int], None]


def verify(
    using: str | None = None, *, stream: str | None = None, progress: Progress | None = None
) -> Verified:
    """Verify one stream, or all. `progress(stream, done, size)` is called now and then."""
    using = using or ledger_alias()
    result = Verified()
    for name in streams(using) if stream is None else [stream]:
        # Only what is needed: another column of an altered row may not even load.
        heads_ = Stream.objects.using(using).only("name", "size", "partial", "purged")
        head = heads_.filter(pk=name).first()
        try:
            if head is None:
                Headless(name, using, result).run()
            else:
                _Verification(head, using, result, progress).run()
        except Enough:
            message = f"the verification stopped after {MAX_FINDINGS} findings"
            result.findings.append(Finding(name, "stopped", message))
    return result


def streams(using: str | None = None) -> list[str]:
    """Every stream that any table of the ledger names, whether it has a head or not."""
    using = using or ledger_alias()
    names = set(Stream.objects.using(using).values_list("name", flat=True))
    tables: list[QuerySet[Any]] = [
        Record.objects.using(using),
        Checkpoint.objects.using(using),
        Tile.objects.using(using),
    ]
    for rows in tables:
        names.update(rows.order_by().values_list("stream", flat=True).distinct())
    return sorted(names)


def _columns(row: Row) -> dict[str, Any]:
    if isinstance(row, Unreadable):
        raise EncodingError(row.why)
    return row


class _Overtaken(Exception):
    """What was being looked at has been purged meanwhile; the verification has moved on."""


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
        self.purged = 0  # where the records begin, as far as is known
        self.stored = CompactRange()
        self.shown = CompactRange()
        self.rebuilt = Frontier()  # the tiles that the stored leaf hashes give
        self.leaves: list[bytes] = []  # of the tile at work, not yet in `rebuilt`
        self.tile = b""  # its stored leaf hashes
        self.tile_index = -1
        self.lost = False  # a leaf hash is gone for good: nothing above it can be recomputed
        self.forked = False  # a signed root did not come out; later ones cannot
        self.doubtful: list[Finding] = []  # rows other than their hashes since the last signature
        self.signatures: Iterator[Signature] = iter(())
        self.next_signature: Signature | None = None

    def run(self) -> None:
        self._read_head()
        self.result.streams[self.name] = self.size
        self.signatures = up_to(self.size, self)
        self.next_signature = next(self.signatures, None)
        try:
            self._begin(where_records_begin(self.head, self.size, self))
            self._check_rows()
        finally:
            self._settle()
        self._check_head()
        self._check_extra()
        check_beyond(self.size, self)

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

    def _begin(self, purged: int) -> None:
        """Go on from `purged`: so far the tree is what the tiles say; signatures will judge it."""
        self._settle()
        self.leaves.clear()
        self.purged = purged
        self.rebuilt = self._frontier_at_purged()
        self.result.purged[self.name] = self.purged
        peaks = self.rebuilt.peaks
        self.stored = CompactRange(self.rebuilt.size, peaks)
        self.shown = CompactRange(self.rebuilt.size, peaks)
        self._check_signed()

    def _frontier_at_purged(self) -> Frontier:
        while True:
            try:
                reader = heads.reader_of(self.head, self.using)
                return merkle.frontier_at(self.purged, reader)
            except (EncodingError, InvalidProof) as error:
                now = purged_now(self.name, self.using)
                if self.purged < now <= self.size:
                    self.purged = now  # more was purged meanwhile
                    continue
                self.lost = True
                self.find("tile", f"the tree below record {self.purged} is lost: {error}")
                return merkle.frontier_at(self.purged, lambda _l, _i, width: _NO_HASH * width)

    def _check_rows(self) -> None:
        for row in numbered(self.name, self.purged, self.size, self.using):
            while True:
                with suppress(_Overtaken):
                    self._check_numbered(row)
                    break
        while self.stored.size < self.size:
            with suppress(_Overtaken):
                self._check_gap(self.size)
        self._close_tile()

    def _check_numbered(self, row: Row) -> None:
        sequence = sequence_of(row)
        if type(sequence) is int and sequence < self.purged:
            return  # purged since it was read
        if type(sequence) is not int or sequence < self.stored.size:
            self.find("extra", "its number is no number, or another record's", *name_of(row))
            return
        self._check_gap(sequence)
        self._check_row(row, sequence)

    def _check_gap(self, end: int) -> None:
        """Records that are not there: purged since the verification began, or deleted."""
        if self.stored.size < end:
            self._follow_purge()
        for missing in range(self.stored.size, end):
            self._missing(missing)

    def _follow_purge(self) -> None:
        """Move on if a purge has come past this place; raises _Overtaken when it has."""
        now = purged_now(self.name, self.using)
        if self.stored.size < now <= self.size and now > self.purged:
            account_for(now, self)
            self._begin(now)
            raise _Overtaken

    def _missing(self, sequence: int) -> None:
        leaf = self._stored_leaf(sequence)
        self.find("missing", "the record was deleted", sequence)
        self.lost = self.lost or leaf is None
        self._append(leaf or _NO_HASH, leaf or _NO_HASH)

    def _check_row(self, row: Row, sequence: int) -> None:
        stored = self._stored_leaf(sequence)
        redacted = None
        try:
            redacted = redactions.of(_columns(row), self.using)
            leaf = merkle.leaf_hash(redactions.entry(_columns(row), redacted))
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
            if redacted is None and redactions.is_redacted(_columns(row)):
                message = "its contents were removed, and no redaction is on record"
            self.doubtful.append(Finding(self.name, "altered", message, *name_of(row)))
            self.count()
        elif redacted is not None:
            message = f"redacted, authorised by record {redacted.by}"
            self.result.redacted.append(Finding(self.name, "redacted", message, *name_of(row)))
        self._append(stored or leaf, leaf)

    def _append(self, stored: bytes, shown: bytes) -> None:
        self.stored.add(stored)
        self.shown.add(shown)
        self.leaves.append(stored)
        if self.stored.size % TILE_WIDTH == 0:
            self._close_tile()
        self._check_signed()

    def _check_signed(self) -> None:
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
        if index != self.tile_index:
            self.tile = self._leaf_tile(index)
            self.tile_index = index
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
            if level == 0:
                self._follow_purge()
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
        now = Stream.objects.using(self.using).filter(pk=self.name)
        size = self.size if self.frontier is None else Subquery(now.values("size"))
        sound = is_sound(self.head.purged, self.size)
        purged = Subquery(now.values("purged")) if sound else self.purged
        for row in outside(self.name, self.using, purged, size):
            below = type(sequence := sequence_of(row)) is int and 0 <= sequence < self.purged
            message = (
                "it stands among records that are purged"
                if below
                else "it was never appended: the stream is shorter"
            )
            self.find("extra", message, *name_of(row))

    def _check_root(self, signature: Signature) -> None:
        if signature.size < self.purged:
            self._check_purged_root(signature)
            return
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

    def _check_purged_root(self, signature: Signature) -> None:
        """A checkpoint of what is purged, where the tree that is left still gives its root."""
        tile, rest = divmod(signature.size, TILE_WIDTH)
        if rest and tile < self.purged // TILE_WIDTH:
            return  # its last leaves are gone
        with suppress(EncodingError, InvalidProof):
            root = merkle.root_at(signature.size, heads.reader_of(self.head, self.using))
            if root.hex() != signature.root:
                message = (
                    f"checkpoint {signature.id} signed another root for the first "
                    f"{signature.size} records, which are purged"
                )
                self.find("checkpoint", message, signature.size)

    def _settle(self, *, as_signed: bool = False) -> None:
        """Report the rows in doubt; `as_signed`: it is their hashes that were altered."""
        message = "its leaf hash was altered; the record is as it was signed"
        for finding in self.doubtful:
            tile = replace(finding, kind="tile", message=message)
            self.result.findings.append(tile if as_signed else finding)
        self.doubtful.clear()
