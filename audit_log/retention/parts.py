"""Parts: a range of a stream as a file that proves itself, offline and without Django.

A part is gzip (no time, no name: the same records give the same bytes with the same zlib) over
NDJSON, one canonical JSON object a line, nulls left out:

    {"changes","data","entry","salt","sealed_actor","sealed_data","sequence"}

`entry` is the ledger entry, the very bytes that the leaf hashes. They are UTF-8 JSON, so they stand
as a JSON string and come back by decoding it. `salt` and the sealed values are base64. `changes`
and `data` are the open contents that the entry has digests of.

Beside it stands its manifest.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime
from hashlib import sha256
from typing import Any, BinaryIO, Final

import msgspec

from audit_log.events import format_time
from audit_log.exceptions import AuditLogError, EncodingError, InvalidProof, PartDamaged
from audit_log.ledger.entries import contents_digest, entry_bytes
from audit_log.ledger.merkle import CompactRange, leaf_hash
from audit_log.ledger.notes import VerifierKey, open_note
from audit_log.retention.manifests import Manifest, PartFacts

__all__ = [
    "Line",
    "Manifest",
    "PartFacts",
    "checkpoint_key",
    "manifest_key",
    "part_facts",
    "part_key",
    "read_part",
    "verify_part",
    "write_part",
]

KEPT: Final = "kept"
PART_SUFFIX: Final = ".ndjson.gz"
MANIFEST_SUFFIX: Final = ".manifest.json"
MAX_LINE: Final = 16 << 20  # a record is far smaller; this bounds what a forged part may take
_COMPRESSION: Final = 6
_CHUNK: Final = 1 << 20
_NOT_GZIP: Final = (gzip.BadGzipFile, EOFError, zlib.error)

_encoder = msgspec.json.Encoder(order="sorted")
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def part_key(prefix: str, stream: str, day: date, first: int, last: int) -> str:
    """`<prefix>/<stream>/date=YYYY-MM-DD/<first>-<last>.ndjson.gz`, numbers of 20 digits."""
    return _joined(
        prefix, stream, f"date={day.isoformat()}", f"{first:020d}-{last:020d}{PART_SUFFIX}"
    )


def manifest_key(key: str) -> str:
    """The manifest's name beside the part that is called `key`."""
    return key.removesuffix(PART_SUFFIX) + MANIFEST_SUFFIX


def checkpoint_key(prefix: str, stream: str, size: int) -> str:
    """`<prefix>/<stream>/checkpoints/<size>`, of 20 digits."""
    return _joined(prefix, stream, "checkpoints", f"{size:020d}")


def _joined(*segments: str) -> str:
    return "/".join(segment for segment in segments if segment)


class Line(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One record of a part, as it stands in the file."""

    sequence: int
    entry: str
    changes: dict[str, Any] | None = None
    data: dict[str, Any] | None = None
    salt: bytes | None = None
    sealed_actor: bytes | None = None
    sealed_data: bytes | None = None

    @property
    def leaf(self) -> bytes:
        """The record's leaf hash, 32 bytes."""
        return leaf_hash(self.entry.encode())

    def columns(self) -> dict[str, Any]:
        """The open columns by name, as JSON has them; what is null is left out."""
        return _decode(self.entry)


def write_part(rows: Iterable[Mapping[str, Any]], target: BinaryIO) -> PartFacts:
    """Write rows (ENTRY_COLUMNS and `salt` by name, in order of `sequence`) as one part.

    `kept` has the digests of contents that were removed on record, where they were.

    In constant memory. Raises PartDamaged, naming the record, for a gap, rows of several streams,
    a row that is not a record, or no rows at all.
    """
    hashing, span = _Hashing(target), _Span()
    with gzip.GzipFile("", "wb", _COMPRESSION, fileobj=hashing, mtime=0) as packed:
        for row in rows:
            line = _line(row)
            span.add(line, row["stream"], row["occurred_at"])
            packed.write(_encoder.encode(line) + b"\n")
    return span.facts(hashing)


def _line(row: Mapping[str, Any]) -> Line:
    try:
        return Line(
            row["sequence"],
            entry_bytes(row, row.get(KEPT)).decode(),
            row["changes"] or None,
            row["data"] or None,
            _bytes(row["salt"]),
            _bytes(row["sealed_actor"]),
            _bytes(row["sealed_data"]),
        )
    except (EncodingError, TypeError, ValueError) as error:
        raise PartDamaged(f"Record {row['sequence']} cannot be archived: {error}") from error


def _bytes(value: bytes | memoryview | None) -> bytes | None:
    return bytes(value) if value else None  # drivers differ


def read_part(source: BinaryIO) -> Iterator[Line]:
    """Give the lines of a part, each checked: in order, gapless, contents as the entry says.

    In constant memory. Raises PartDamaged naming the record. This shows that a part is whole and
    consistent; that nobody replaced all of it, only `verify_part` shows.
    """
    span = _Span()
    for line in _lines(source):
        stream, moment = _checked(line)
        span.add(line, stream, moment)
        yield line


def part_facts(source: BinaryIO) -> PartFacts:
    """Read a whole part and say what it holds. Raises PartDamaged."""
    hashing, span = _Hashing(source), _Span()
    for line in _lines(hashing):
        span.add(line, *_checked(line))
    return span.facts(hashing)


class _Span:
    """The range so far: each line must follow the one before."""

    def __init__(self) -> None:
        self.first: int | None = None
        self.next = 0
        self.stream = ""
        self.min_time = self.max_time = datetime.min  # noqa: DTZ901 - replaced by the first

    def add(self, line: Line, stream: str, moment: datetime) -> None:
        if self.first is None:
            self.first = self.next = line.sequence
            self.stream = stream
            self.min_time = self.max_time = moment
        if line.sequence != self.next:
            raise PartDamaged(f"Record {self.next} is missing: {line.sequence} stands there.")
        if stream != self.stream:
            raise PartDamaged(
                f"Record {line.sequence} is of the stream {stream!r}, those before it of "
                f"{self.stream!r}."
            )
        self.next += 1
        self.min_time = min(self.min_time, moment)
        self.max_time = max(self.max_time, moment)

    def facts(self, file: _Hashing) -> PartFacts:
        if self.first is None:
            raise PartDamaged("The part holds no records.")
        count, last = self.next - self.first, self.next - 1
        return PartFacts(
            *(self.first, last, count, file.digest.hexdigest(), file.size),
            *(self.min_time, self.max_time),
        )


class _Hashing:
    """A file whose bytes are counted and hashed as they pass."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = sha256()
        self.size = 0

    def read(self, size: int = -1, /) -> bytes:
        return self._pass(self._file.read(size))

    def write(self, data: bytes | memoryview, /) -> int:
        self._file.write(self._pass(bytes(data)))
        return len(data)

    def flush(self) -> None:
        self._file.flush()

    def _pass(self, data: bytes) -> bytes:
        self.digest.update(data)
        self.size += len(data)
        return data


def _lines(source: BinaryIO | _Hashing) -> Iterator[Line]:
    """The lines, decoded only. Reads `source` to its end."""
    number = 0
    try:
        with gzip.GzipFile(fileobj=source, mode="rb") as unpacked:
            while text := unpacked.readline(MAX_LINE):
                number += 1
                yield _decoded(text, number)
    except _NOT_GZIP as error:
        raise PartDamaged(f"The part is damaged behind its line {number}: {error}") from error


_line_decoder = msgspec.json.Decoder(Line)


def _decoded(text: bytes, number: int) -> Line:
    if not text.endswith(b"\n"):
        raise PartDamaged(f"Line {number} of the part is cut off, or longer than a record can be.")
    try:
        return _line_decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PartDamaged(f"Line {number} of the part is not a record: {error}") from error


def _checked(line: Line) -> tuple[str, datetime]:
    """Stream and time of a record whose contents are those its entry has the digests of."""
    try:
        columns = line.columns()
        stream, moment = columns["stream"], datetime.fromisoformat(columns["occurred_at"])
        if columns["sequence"] != line.sequence:
            raise PartDamaged(f"it says it is record {columns['sequence']}")
        if moment.tzinfo is None or not isinstance(stream, str):
            raise PartDamaged("it has no stream or no time")
        for name, digest in _digests(line):
            removed = digest is None and line.salt is None  # by a redaction
            if columns.get(name) != digest and not removed:
                raise PartDamaged(f"{name} is not what its entry has the digest of")
    except (AuditLogError, msgspec.DecodeError, LookupError, TypeError, ValueError) as error:
        raise PartDamaged(f"Record {line.sequence} of the part is damaged: {error}.") from error
    return stream, moment


def _digests(line: Line) -> Iterator[tuple[str, str | None]]:
    """What the entry must say of each content: None where there is none."""
    for name, contents in (("changes", line.changes), ("data", line.data)):
        yield name, contents_digest(line.salt or b"", contents) if contents else None
    for name, sealed in (("sealed_actor", line.sealed_actor), ("sealed_data", line.sealed_data)):
        yield name, sha256(sealed).hexdigest() if sealed else None


def verify_part(manifest: Manifest, source: BinaryIO, verifiers: Iterable[VerifierKey]) -> None:
    """Prove that `source` is the part of `manifest`, under a checkpoint one of the keys signed.

    Offline and in constant memory: checksum, numbers, contents, and every leaf up to the signed
    root. Raises PartDamaged for the part, InvalidProof for the checkpoint.
    """
    signed = open_note(manifest.checkpoint, verifiers)
    if not signed.origin.endswith(f"/{manifest.stream}"):
        raise InvalidProof(f"The checkpoint was signed for {signed.origin}, not {manifest.stream}.")
    left, right = manifest.flanks
    tree = CompactRange(manifest.first, left)
    hashing, span = _Hashing(source), _Span()
    for line in _lines(hashing):
        span.add(line, *_checked(line))
        if not manifest.first <= line.sequence <= manifest.last:
            raise PartDamaged(
                f"The part has record {line.sequence}, but its manifest is that of "
                f"{manifest.first} to {manifest.last}."
            )
        tree.add(line.leaf)
    _compare(manifest, span.facts(hashing), span.stream)
    if tree.root_in(signed.size, right) != signed.root:
        raise PartDamaged(
            f"Records {manifest.first} to {manifest.last} are not those that the checkpoint at "
            f"{signed.size} signed: some were altered, together with checksum and digests."
        )


def _compare(manifest: Manifest, facts: PartFacts, stream: str) -> None:
    """The part against what its manifest says of it."""
    if stream != manifest.stream:
        raise PartDamaged(f"The part is of the stream {stream!r}, not {manifest.stream!r}.")
    if (facts.first, facts.last) != (manifest.first, manifest.last):
        raise PartDamaged(
            f"The part has records {facts.first} to {facts.last}, not {manifest.first} to "
            f"{manifest.last}."
        )
    if (facts.sha256, facts.size) != (manifest.sha256, manifest.size):
        raise PartDamaged(
            f"The part has {facts.size} bytes (SHA-256 {facts.sha256}), not {manifest.size} "
            f"({manifest.sha256})."
        )
    times = (format_time(facts.min_time), format_time(facts.max_time))
    if times != (manifest.min_time, manifest.max_time):
        raise PartDamaged(
            f"The part spans {' to '.join(times)}, not {manifest.min_time} to {manifest.max_time}."
        )
