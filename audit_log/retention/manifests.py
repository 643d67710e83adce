"""The manifest of a part: its checksum, and what joins it to the root of a signed checkpoint.

A file of canonical JSON, nulls left out, beside the part. No Django here, as in `parts`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final, Self

import msgspec

from audit_log.events import format_time
from audit_log.exceptions import PartDamaged, UnknownVersion
from audit_log.ledger.merkle import Flanks

VERSION: Final = 1
_HASH: Final = re.compile(r"[0-9a-f]{64}")

_encoder = msgspec.json.Encoder(order="sorted")


class _Versioned(msgspec.Struct):
    version: int


@dataclass(frozen=True, slots=True)
class PartFacts:
    """What a part holds: numbers, `size` in bytes, SHA-256 (hex), the span of `occurred_at`."""

    first: int
    last: int
    count: int
    sha256: str
    size: int
    min_time: datetime
    max_time: datetime


class Manifest(
    msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, kw_only=True
):
    """What stands beside a part: what it holds, and what joins it to a checkpoint's root.

    `size` is the part's in bytes (`bytes` in the file); the times are those of `occurred_at`;
    `checkpoint` is the signed note; `left` and `right` are hex, as `Flanks` gives them;
    `prev_manifest_sha256` is the hash of the manifest before this one in its stream.
    """

    version: int
    stream: str
    first: int
    last: int
    count: int
    sha256: str
    size: int = msgspec.field(name="bytes")
    min_time: str
    max_time: str
    version_id: str | None = None
    checkpoint: str
    left: tuple[str, ...]
    right: tuple[str, ...]
    prev_manifest_sha256: str | None = None

    @classmethod
    def of(
        cls,
        facts: PartFacts,
        stream: str,
        *,
        checkpoint: str,
        flanks: Flanks,
        version_id: str = "",
        prev_manifest_sha256: str = "",
    ) -> Self:
        """The manifest of a part: `checkpoint` is a signed note, `flanks` those in its tree."""
        return cls(
            version=VERSION,
            stream=stream,
            first=facts.first,
            last=facts.last,
            count=facts.count,
            sha256=facts.sha256,
            size=facts.size,
            min_time=format_time(facts.min_time),
            max_time=format_time(facts.max_time),
            version_id=version_id or None,
            checkpoint=checkpoint,
            left=tuple(value.hex() for value in flanks.left),
            right=tuple(value.hex() for value in flanks.right),
            prev_manifest_sha256=prev_manifest_sha256 or None,
        )

    @staticmethod
    def parse(data: bytes) -> Manifest:
        """Read a manifest. Raises UnknownVersion for a newer one, PartDamaged for what is none."""
        try:
            version = msgspec.json.decode(data, type=_Versioned).version
            if version > VERSION:
                raise UnknownVersion(
                    f"The manifest has version {version}; this reader knows {VERSION}. Upgrade it."
                )
            found = msgspec.json.decode(data, type=Manifest)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise PartDamaged(f"Not a manifest: {error}") from error
        return _checked(found)

    def encode(self) -> bytes:
        """The manifest as canonical JSON, nulls left out: what stands in the file."""
        return _encoder.encode(self)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the file: what `audit_log.archived` records."""
        return sha256(self.encode()).hexdigest()

    @property
    def flanks(self) -> Flanks:
        """`left` and `right` as hashes."""
        left, right = ([bytes.fromhex(text) for text in side] for side in (self.left, self.right))
        return Flanks(tuple(left), tuple(right))


def _checked(found: Manifest) -> Manifest:
    if found.version != VERSION:
        raise PartDamaged(f"Not a manifest: {found.version} is no version.")
    if not 0 <= found.first <= found.last or found.count != found.last - found.first + 1:
        raise PartDamaged(
            f"The manifest is damaged: {found.count} records cannot be {found.first} to "
            f"{found.last}."
        )
    hashes = (found.sha256, *found.left, *found.right)
    if not all(_HASH.fullmatch(text) for text in hashes):
        raise PartDamaged("The manifest is damaged: a hash in it is not 64 hex digits.")
    return found
