"""That a record is in the ledger, as a text that anybody can verify offline (C2SP tlog-proof)."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

from audit_log.exceptions import InvalidProof
from audit_log.ledger import checkpoints, heads, redactions
from audit_log.ledger.entries import ENTRY_COLUMNS
from audit_log.ledger.merkle import inclusion_proof, leaf_hash, verify_inclusion
from audit_log.ledger.notes import Checkpoint, VerifierKey, open_note
from audit_log.models import Record, Stream

_HEADER: Final = "c2sp.org/tlog-proof@v1"
_INDEX: Final = re.compile(r"index (0|[1-9][0-9]{0,18})")


@dataclass(frozen=True, slots=True)
class Proof:
    """Leaf number `index` is under the signed `note`, by the hashes of its `path`."""

    index: int
    path: tuple[bytes, ...]
    note: str

    def encode(self) -> str:
        """The text that the specification describes."""
        hashes = [base64.b64encode(value).decode() for value in self.path]
        return "\n".join((_HEADER, f"index {self.index}", *hashes, "", self.note))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a proof, not yet verified. Raises InvalidProof."""
        head, separator, note = text.partition("\n\n")
        lines = head.split("\n")
        if not separator or lines[0] != _HEADER:
            raise InvalidProof(f"Not a proof: it does not begin with {_HEADER}, and hold a note.")
        rest = [line for line in lines[1:] if not line.startswith("extra ")]
        index = _INDEX.fullmatch(rest[0]) if rest else None
        if index is None:
            raise InvalidProof("Not a proof: its index is missing, or no number.")
        return cls(int(index[1]), tuple(map(_decoded, rest[1:])), note)

    def verify(self, entry: bytes, keys: Iterable[VerifierKey]) -> Checkpoint:
        """Check that `entry` is that leaf, under a note one of the keys signed.

        Returns what was signed. Raises InvalidProof.
        """
        signed = open_note(self.note, keys)
        verify_inclusion(self.index, signed.size, leaf_hash(entry), signed.root, self.path)
        return signed


def _decoded(line: str) -> bytes:
    try:
        return base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidProof(f"Not a proof: {line[:60]!r} is not base64.") from error


def prove(record: Record, using: str) -> tuple[bytes, Proof]:
    """The entry of a stored record, and its proof under the newest checkpoint.

    Raises InvalidProof where no checkpoint covers it yet, EncodingError for an altered row.
    """
    columns = Record.objects.using(using).values(*ENTRY_COLUMNS, "salt").get(pk=record.pk)
    newest = checkpoints.last(record.stream, using)
    if newest is None or newest.size <= record.sequence:
        raise InvalidProof(
            f"No checkpoint covers record {record.sequence} of {record.stream!r} yet: run "
            "`manage.py audit_log checkpoint`."
        )
    head = Stream.objects.using(using).get(pk=record.stream)
    path = inclusion_proof(record.sequence, newest.size, heads.reader_of(head, using))
    return redactions.entry_of(columns, using), Proof(record.sequence, tuple(path), newest.note)
