"""Recompute everything: leaves from columns, roots from leaves, signatures from keys.

Rows stream by in the order of their numbers, in constant memory. A finding names the record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from django.db import DEFAULT_DB_ALIAS

from audit_log.exceptions import AuditLogError, EncodingError, InvalidProof
from audit_log.ledger import checkpoints, heads, notes
from audit_log.ledger.entries import ENTRY_COLUMNS, entry_bytes
from audit_log.ledger.merkle import HASH_BYTES, TILE_WIDTH, CompactRange, leaf_hash
from audit_log.models import Checkpoint, Record, Stream, Tile

_CHUNK: Final = 2_000
MAX_FINDINGS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it was written. `sequence` and `record` name the row."""

    stream: str
    kind: str  # altered missing extra tile head checkpoint signature
    message: str
    sequence: int | None = None
    record: str | None = None


@dataclass(slots=True)
class Verified:
    """What one verification looked at, and what it found."""

    streams: dict[str, int] = field(default_factory=dict)
    roots: dict[str, str] = field(default_factory=dict)
    checkpoints: int = 0
    signed: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


def verify(
    using: str = DEFAULT_DB_ALIAS,
    *,
    stream: str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Verified:
    """Verify one stream, or all. `progress(stream, done, size)` is called now and then."""
    result = Verified()
    rows = Stream.objects.using(using).order_by("name")
    for head in rows.filter(name=stream) if stream else rows:
        _Verification(head, using, result, progress).run()
    if stream is None:
        _find_homeless(using, result)
    return result


def _find_homeless(using: str, result: Verified) -> None:
    """Records of a stream that has no head row."""
    names = list(result.streams)
    rows = Record.objects.using(using).exclude(stream__in=names).order_by("stream", "sequence")
    for row in rows[:MAX_FINDINGS]:
        result.findings.append(
            Finding(row.stream, "extra", "its stream has no head", row.sequence, str(row.pk))
        )


class _Verification:
    """One stream."""

    def __init__(
        self,
        head: Stream,
        using: str,
        result: Verified,
        progress: Callable[[str, int, int], None] | None,
    ) -> None:
        self.head = head
        self.using = using
        self.result = result
        self.progress = progress
        self.tree = CompactRange()
        self.tile: tuple[int, bytes] = (-1, b"")
        self.broken = False  # a leaf is missing: roots beyond it cannot be recomputed

    def run(self) -> None:
        """Findings go into the result."""
        self.result.streams[self.head.name] = self.head.size
        pending = self._checkpoints()
        for row in self._rows():
            if not self._fill_gap(row):
                continue
            self._check_row(row)
            pending = self._check_roots(pending)
        self._missing(self.tree.size, self.head.size)
        self._check_roots(pending)
        self._check_head(pending)

    def _rows(self) -> Iterator[Record]:
        """The stream's rows by number, a chunk at a time (keyset, so no cursor stays open)."""
        after = -1
        rows = Record.objects.using(self.using).filter(stream=self.head.name).order_by("sequence")
        while chunk := list(rows.filter(sequence__gt=after)[:_CHUNK]):
            yield from chunk
            after = chunk[-1].sequence
            if self.progress is not None:
                self.progress(self.head.name, min(after + 1, self.head.size), self.head.size)

    def _fill_gap(self, row: Record) -> bool:
        """Whether the row has its place; what is missing before it is reported."""
        if row.sequence >= self.head.size:
            self._find("extra", "it was never appended: the stream is shorter", row)
            return False
        self._missing(self.tree.size, row.sequence)
        return True

    def _missing(self, start: int, end: int) -> None:
        for sequence in range(start, end):
            self._find("missing", "the record was deleted", sequence=sequence)
            leaf = self._stored_leaf(sequence)
            if leaf is None:
                self.broken = True
                leaf = b"\0" * HASH_BYTES
            self.tree.add(leaf)

    def _check_row(self, row: Record) -> None:
        columns = {name: getattr(row, name) for name in ENTRY_COLUMNS}
        try:
            leaf = leaf_hash(entry_bytes(columns | {"salt": row.salt}))
        except (EncodingError, ValueError) as error:
            leaf = b"\0" * HASH_BYTES
            self._find("altered", f"its columns are not what a record holds: {error}", row)
        stored = self._stored_leaf(row.sequence)
        if stored is None:
            self._find("tile", "its leaf hash is gone", row)
            self.tree.add(leaf)
            return
        if leaf != stored and leaf != b"\0" * HASH_BYTES:
            self._find("altered", "its columns do not give the leaf hash in the tree", row)
        # Go on with the tree's own hash: one altered row must not hide the next.
        self.tree.add(stored)

    def _stored_leaf(self, sequence: int) -> bytes | None:
        index, offset = divmod(sequence, TILE_WIDTH)
        if self.tile[0] != index:
            self.tile = (index, self._read_tile(index))
        leaf = self.tile[1][offset * HASH_BYTES : (offset + 1) * HASH_BYTES]
        return leaf if len(leaf) == HASH_BYTES else None

    def _read_tile(self, index: int) -> bytes:
        rows = Tile.objects.using(self.using).filter(stream=self.head.name, level=0, index=index)
        hashes = rows.values_list("hashes", flat=True).first()
        if hashes is not None:
            return bytes(hashes)
        if index == self.head.size // TILE_WIDTH:
            width = (self.head.size % TILE_WIDTH) * HASH_BYTES
            return bytes(self.head.partial)[:width]
        return b""

    def _checkpoints(self) -> list[Checkpoint]:
        """Those of the stream, smallest first, with a good signature."""
        rows = Checkpoint.objects.using(self.using).filter(stream=self.head.name)
        verifier = checkpoints.signing_key().verifier
        good = []
        for row in rows.order_by("size", "id"):
            self.result.checkpoints += 1
            try:
                said = notes.open_note(row.note, [verifier])
            except AuditLogError as error:
                self._find("signature", f"checkpoint {row.pk} at {row.size}: {error}")
                continue
            if (said.size, said.root.hex()) != (row.size, row.root):
                self._find("signature", f"checkpoint {row.pk} says other than its columns")
            elif said.origin != checkpoints.origin_of(self.head.name):
                self._find("signature", f"checkpoint {row.pk} is of {said.origin!r}")
            else:
                good.append(row)
        return good

    def _check_roots(self, pending: list[Checkpoint]) -> list[Checkpoint]:
        """Compare the root so far with the checkpoints of this size. Returns those to come."""
        while pending and pending[0].size <= self.tree.size:
            row, pending = pending[0], pending[1:]
            if row.size == self.tree.size and self.tree.root().hex() == row.root:
                self.result.signed[self.head.name] = row.size
            elif row.size == self.tree.size and not self.broken:
                since = self.result.signed.get(self.head.name, 0)
                self._find(
                    "checkpoint",
                    f"the root of the first {row.size} records is not the signed one: records or "
                    f"tiles between {since} and {row.size} were altered together",
                    sequence=since,
                )
        return pending

    def _check_head(self, pending: list[Checkpoint]) -> None:
        for row in pending:
            self._find(
                "head", f"checkpoint {row.pk} signed {row.size} records; the stream has fewer"
            )
        try:
            root = heads.frontier_of(self.head).root()
            if not self.broken and root != self.tree.root():
                self._find("head", "the head's hashes are not those of the records")
            self.result.roots[self.head.name] = root.hex()
        except (EncodingError, InvalidProof) as error:
            self._find("head", f"the head row was altered: {error}")

    def _find(
        self, kind: str, message: str, row: Record | None = None, sequence: int | None = None
    ) -> None:
        if len(self.result.findings) < MAX_FINDINGS:
            self.result.findings.append(
                Finding(
                    self.head.name,
                    kind,
                    message,
                    sequence if row is None else row.sequence,
                    None if row is None else str(row.pk),
                )
            )
