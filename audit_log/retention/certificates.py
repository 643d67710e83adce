"""Certificates of erasure: what was destroyed, and the proof that the log says so.

A certificate verifies offline, with the log's public key. It is also what puts an erasure back into
force where an old backup was restored, so they are kept beside the archive.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final, Self

import msgspec

from audit_log.events import format_time
from audit_log.exceptions import AuditLogError, InvalidProof
from audit_log.ledger.entries import contents_digest
from audit_log.ledger.heads import BOOKKEEPING
from audit_log.ledger.notes import VerifierKey
from audit_log.ledger.proofs import Proof, prove
from audit_log.models import Record

ACTION: Final = "audit_log.erased"
VERSION: Final = 1
_SUBJECT: Final = "data.subject"
_encoder = msgspec.json.Encoder(order="sorted")


class Facts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `audit_log.erased` says: the `data` of the record."""

    subject: str
    erased_at: str
    keys: tuple[str, ...]
    reapplied: bool = False

    @classmethod
    def of(
        cls, subject: str, moment: datetime, keys: Iterable[uuid.UUID], *, reapplied: bool = False
    ) -> Self:
        """The facts from what they are made of."""
        return cls(
            subject=subject,
            erased_at=format_time(moment),
            keys=tuple(map(str, keys)),
            reapplied=reapplied,
        )

    @property
    def moment(self) -> datetime:
        """When the keys were destroyed."""
        return datetime.fromisoformat(self.erased_at)

    def data(self) -> dict[str, Any]:
        """As a record holds it."""
        return {**msgspec.to_builtins(self), "keys": list(self.keys)}


class Certificate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`entry` is the ledger entry of the record, the bytes its leaf hashes; `salt` is base64.

    `facts` are what the entry has the digest of, and `proof` shows that the entry is in the log.
    """

    version: int = VERSION
    record: str
    stream: str
    sequence: int
    facts: Facts
    salt: str
    entry: str
    proof: str

    @property
    def name(self) -> str:
        """What its file is called."""
        return f"{self.record}.json"

    @property
    def subject(self) -> str:
        """Who was erased.

        What looks like an e-mail address or a card number was masked in the data of the record, as
        everywhere; the entry's target, which is part of the proof, says it as it is.
        """
        columns = self._columns()
        marks = columns.get("redactions") or ()
        masked = any(mark.get("path") == _SUBJECT for mark in marks)
        return str(columns["target_id"]) if masked else self.facts.subject

    def _columns(self) -> dict[str, Any]:
        return msgspec.json.decode(self.entry, type=dict[str, Any])

    def encode(self) -> bytes:
        """The certificate as JSON."""
        return msgspec.json.format(_encoder.encode(self), indent=2) + b"\n"

    @staticmethod
    def parse(data: bytes) -> Certificate:
        """Read a certificate, not yet verified. Raises InvalidProof."""
        try:
            found = msgspec.json.decode(data, type=Certificate)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidProof(f"Not a certificate of erasure: {error}") from error
        if found.version != VERSION:
            raise InvalidProof(
                f"The certificate has version {found.version}; this reader knows {VERSION}."
            )
        return found

    def verify(self, keys: Iterable[VerifierKey]) -> None:
        """Check that the log recorded these very facts. Raises InvalidProof."""
        signed = Proof.parse(self.proof).verify(self.entry.encode(), keys)
        if self.stream != BOOKKEEPING or not signed.origin.endswith(f"/{self.stream}"):
            raise InvalidProof(f"The proof is one of {signed.origin}, not of {BOOKKEEPING}.")
        try:
            columns = self._columns()
            digest = contents_digest(base64.b64decode(self.salt), self.facts.data())
        except (AuditLogError, ValueError, msgspec.DecodeError) as error:
            raise InvalidProof(f"The certificate is damaged: {error}") from error
        said = (self.record, self.stream, self.sequence, ACTION, digest)
        if said != tuple(map(columns.get, ("id", "stream", "sequence", "action", "data"))):
            raise InvalidProof("The certificate says something else than the record it proves.")


def certify(record_id: uuid.UUID, using: str) -> Certificate:
    """The certificate of a stored `audit_log.erased`. Raises InvalidProof until it is signed."""
    rows = Record.objects.using(using).filter(stream=BOOKKEEPING, action=ACTION)
    record = rows.get(pk=record_id)
    entry, proof = prove(record, using)
    return Certificate(
        record=str(record.pk),
        stream=record.stream,
        sequence=record.sequence,
        facts=msgspec.convert(record.data, Facts),
        salt=base64.b64encode(bytes(record.salt or b"")).decode(),
        entry=entry.decode(),
        proof=proof.encode(),
    )
