"""Parts for tests, made without a database: rows, their tree, a signed checkpoint, a manifest."""

from __future__ import annotations

import gzip
import io
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import msgspec

from audit_log.ledger import notes
from audit_log.ledger.entries import ENTRY_COLUMNS, SALT_BYTES, entry_bytes
from audit_log.ledger.merkle import Flanks, Frontier, flanks, frontier_reader, leaf_hash
from audit_log.retention.parts import Manifest, write_part

KEY = notes.SigningKey.from_seed("bank", b"\x01" * 32)
START = datetime(2026, 1, 31, 23, 50, tzinfo=UTC)


def a_row(n: int, stream: str = "default", **values: Any) -> dict[str, Any]:
    """A row as the database gives it, the same each time."""
    moment = START + timedelta(seconds=n, microseconds=n)
    milliseconds = int(moment.timestamp() * 1000)
    columns: dict[str, Any] = dict.fromkeys((*ENTRY_COLUMNS, "salt"))
    columns |= {
        "id": uuid.UUID(int=milliseconds << 80 | 7 << 76 | 2 << 62 | n),
        "version": 1,
        "stream": stream,
        "sequence": n,
        "occurred_at": moment,
        "recorded_at": moment + timedelta(seconds=1),
        "action": "update",
        "outcome": "success",
        "source": "orm",
        "target_type": "bank.payment",
        "target_id": str(n),
        "changed_fields": ["amount", "note"],
        "changes": {"amount": ["1.00", f"{n}.00"], "fee": [None, n]},
        "data": {"gateway": 'quote " backslash \\ newline \n é \u2028 🏦'},
        "redactions": [{"path": "changes.card", "rule": "name"}],
        "salt": sha256(b"salt %d" % n).digest()[:SALT_BYTES],
        "sealed_actor": sha256(b"actor %d" % n).digest(),
        "sealed_data": sha256(b"data %d" % n).digest() * (n % 4) or None,
    }
    return columns | values


@dataclass(frozen=True)
class Ledger:
    """A stream's rows and its signed tree."""

    rows: list[dict[str, Any]]
    note: str
    frontier: Frontier

    def flanks(self, first: int, last: int) -> Flanks:
        full: dict[tuple[int, int], bytes] = {}
        tree = Frontier()
        for tile in tree.extend([leaf_hash(entry_bytes(row)) for row in self.rows]):
            full[tile.level, tile.index] = tile.hashes
        reader = frontier_reader(tree, lambda level, index: full[level, index])
        return flanks(first, last + 1, tree.size, reader)

    def part(self, first: int, last: int) -> tuple[bytes, Manifest]:
        file = io.BytesIO()
        facts = write_part(self.rows[first : last + 1], file)
        manifest = Manifest.of(
            facts,
            self.rows[0]["stream"],
            checkpoint=self.note,
            flanks=self.flanks(first, last),
        )
        return file.getvalue(), manifest


def a_ledger(size: int, stream: str = "default", key: notes.SigningKey = KEY) -> Ledger:
    rows = [a_row(n, stream) for n in range(size)]
    tree = Frontier()
    tree.extend([leaf_hash(entry_bytes(row)) for row in rows])
    note = notes.sign(notes.Checkpoint(f"bank/{stream}", size, tree.root()), [key])
    return Ledger(rows, note, tree)


def lines_of(part: bytes) -> list[bytes]:
    return gzip.decompress(part).splitlines(keepends=True)


def packed(lines: list[bytes]) -> bytes:
    return gzip.compress(b"".join(lines), mtime=0)


def fitted(manifest: Manifest, part: bytes) -> Manifest:
    """The manifest with the checksum and size of another part, as a forger would have it."""
    return msgspec.structs.replace(manifest, sha256=sha256(part).hexdigest(), size=len(part))
