"""Canonical JSON and the ledger entry: the exact bytes that a record's leaf hashes.

An auditor needs only the standard library to rebuild them:
`json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()`.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final

import msgspec

from audit_log.events import JSON, Redaction, format_time
from audit_log.exceptions import EncodingError, UnknownVersion

ENTRY_VERSION: Final = 1
MAX_INTEGER: Final = 2**53 - 1  # what every JSON reader keeps exactly
SALT_BYTES: Final = 16
MAX_DEPTH: Final = 64  # events stop at 20; this bounds the recursion

_IDS: Final = ("id",)
_TIMES: Final = ("occurred_at", "recorded_at")
_INTEGERS: Final = ("version", "sequence", "emitter_seq", "status", "duration_ms", "affected")
_TEXTS: Final = (
    *("stream", "service", "emitter", "action", "outcome", "source"),
    *("actor_type", "actor_id", "actor_via", "session_token"),
    *("target_type", "target_id", "tenant"),
    *("request_id", "trace_id", "parent_id", "method", "route", "path"),
)
_LISTS: Final = ("changed_fields", "redactions")
_CONTENTS: Final = ("changes", "data")
_SEALED: Final = ("sealed_actor", "sealed_data")

# Everything a leaf proves. The salt and the blind indexes are not in it: erasure nulls them.
ENTRY_COLUMNS: Final = tuple(
    sorted((*_IDS, *_TIMES, *_INTEGERS, *_TEXTS, *_LISTS, *_CONTENTS, *_SEALED))
)
_REQUIRED: Final = ("version", "id", "stream", "occurred_at", "action")
_LATE: Final = ("recorded_at", "sequence")  # known only under the stream's lock

_encoder = msgspec.json.Encoder(order="sorted")
_formatted = lru_cache(maxsize=4)(format_time)  # a batch is recorded at one moment


def canonical(value: JSON) -> bytes:
    """Canonical JSON: keys sorted by code point, no spaces, UTF-8.

    Raises EncodingError for floats, integers of 2**53 and beyond, NUL, lone surrogates, keys that
    are not text, nesting deeper than 64, and everything JSON has no word for.
    """
    _check(value, MAX_DEPTH)
    return _encode(value)


def _encode(value: JSON) -> bytes:
    try:
        return _encoder.encode(value)
    except (TypeError, UnicodeEncodeError) as error:
        raise EncodingError(f"Not canonical JSON: {error}") from error


def contents_digest(salt: bytes, value: JSON) -> str:
    """SHA-256(salt || canonical JSON) in hex: what stands in the entry for `changes` and `data`.

    Raises EncodingError unless the salt has 16 bytes: else bytes could move between the two.
    """
    if len(salt) != SALT_BYTES:
        raise EncodingError(f"A salt has {SALT_BYTES} bytes, not {len(salt)}.")
    return sha256(salt + canonical(value)).hexdigest()


def entry_bytes(columns: Mapping[str, Any], kept: Mapping[str, str] | None = None) -> bytes:
    """Return the entry of a complete record: columns by name, others than ENTRY_COLUMNS ignored.

    `kept` has the digests (hex, by column) of contents that an authorised redaction nulled.
    Raises EncodingError for a value of the wrong type, UnknownVersion for a newer record.
    """
    missing = [name for name in _LATE if columns.get(name) is None]
    if missing:
        raise EncodingError(f"A record needs {', '.join(missing)}.")
    template = EntryTemplate(columns, kept)
    return template.fill(columns["sequence"], columns["recorded_at"])


class EntryTemplate:
    """An entry but for `sequence` and `recorded_at`: built before the stream's lock is taken."""

    __slots__ = ("_head", "_middle", "_tail")

    def __init__(self, columns: Mapping[str, Any], kept: Mapping[str, str] | None = None) -> None:
        entry = _encode(_members(columns, kept or {}) | {"recorded_at": "", "sequence": 0})
        # Quotes within text are escaped, so these bytes occur once: where the keys stand.
        self._head, _, rest = entry.partition(b'"recorded_at":""')
        self._middle, _, self._tail = rest.partition(b'"sequence":0')

    def fill(self, sequence: int, recorded_at: datetime) -> bytes:
        """Return the entry, exactly as `entry_bytes` gives it for the whole record."""
        if type(sequence) is not int or not 0 <= sequence <= MAX_INTEGER:
            raise EncodingError(f"Not a sequence: {sequence!r}")
        moment = _time("recorded_at", recorded_at).encode()
        late = b'"recorded_at":"%b"%b"sequence":%d' % (moment, self._middle, sequence)
        return self._head + late + self._tail


def _members(columns: Mapping[str, Any], kept: Mapping[str, str]) -> dict[str, JSON]:
    """Return the entry's members as JSON, without the late two, nulls and empty collections."""
    missing = [name for name in _REQUIRED if columns.get(name) is None]
    if missing:
        raise EncodingError(f"A record needs {', '.join(missing)}.")
    if columns["version"] != ENTRY_VERSION:
        raise UnknownVersion(f"The record has version {columns['version']!r}, not {ENTRY_VERSION}.")
    members: dict[str, JSON] = {
        "id": _id(columns["id"]),
        "occurred_at": _time("occurred_at", columns["occurred_at"]),
    }
    for name in _TEXTS:
        if (value := columns.get(name)) is not None:
            members[name] = _text(name, value)
    for name in _INTEGERS:
        if name not in _LATE and (value := columns.get(name)) is not None:
            members[name] = _integer(name, value)
    members |= _lists(columns)
    members |= _digests(columns, kept)
    return members


def _lists(columns: Mapping[str, Any]) -> dict[str, JSON]:
    members: dict[str, JSON] = {}
    if fields := columns.get("changed_fields"):
        names = _items("changed_fields", fields)
        members["changed_fields"] = sorted(_text("changed_fields", name) for name in names)
    if redactions := columns.get("redactions"):
        members["redactions"] = [
            _redaction(redaction) for redaction in _items("redactions", redactions)
        ]
    return members


def _digests(columns: Mapping[str, Any], kept: Mapping[str, str]) -> dict[str, JSON]:
    members: dict[str, JSON] = {}
    for name in _CONTENTS:
        if contents := columns.get(name):
            salt = columns.get("salt")
            if not salt:
                raise EncodingError(f"The record has {name} but no salt.")
            members[name] = contents_digest(_bytes("salt", salt), contents)
        elif digest := kept.get(name):
            members[name] = _text(name, digest)
    for name in _SEALED:
        if sealed := columns.get(name):
            members[name] = sha256(_bytes(name, sealed)).hexdigest()
        elif digest := kept.get(name):
            members[name] = _text(name, digest)
    return members


def _id(value: object) -> str:
    try:
        return str(value if isinstance(value, uuid.UUID) else uuid.UUID(str(value)))
    except ValueError as error:
        raise EncodingError(f"Not a record id: {value!r}") from error


def _time(name: str, value: object) -> str:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise EncodingError(f"{name} must be an aware datetime, not {value!r}.")
    return _formatted(value.astimezone(UTC))  # in UTC, equal times are the same time


# No coercion: a column that read back as another type would make another leaf.
def _text(name: str, value: object) -> str:
    if type(value) is not str:
        raise EncodingError(f"{name} must be text, not {type(value).__name__}.")
    if "\0" in value:
        raise EncodingError(f"{name} holds a NUL.")
    return value


def _integer(name: str, value: object) -> int:
    if type(value) is not int:
        raise EncodingError(f"{name} must be an integer, not {type(value).__name__}.")
    if not -MAX_INTEGER <= value <= MAX_INTEGER:
        raise EncodingError(f"{name} is 2**53 or beyond.")
    return value


def _bytes(name: str, value: object) -> bytes:
    if not isinstance(value, (bytes, bytearray, memoryview)):  # drivers differ
        raise EncodingError(f"{name} must be bytes, not {type(value).__name__}.")
    return bytes(value)


def _items(name: str, value: object) -> Collection[object]:
    if not isinstance(value, (list, tuple, set, frozenset)):
        raise EncodingError(f"{name} must be a list, not {type(value).__name__}.")
    return value


def _redaction(value: object) -> JSON:
    fields = msgspec.structs.asdict(value) if isinstance(value, Redaction) else value
    if not isinstance(fields, Mapping) or fields.keys() != {"path", "rule"}:
        raise EncodingError("A redaction has a path and a rule.")
    return {name: _text(name, text) for name, text in fields.items()}


def _check(value: object, depth: int) -> None:
    """Refuse what the encoder would accept and canonical JSON does not hold.

    Exact types only: enumerations and subclasses of text encode as something else elsewhere.
    """
    if type(value) is str:
        if "\0" in value:
            raise EncodingError("Canonical JSON holds no NUL.")
    elif type(value) is int:
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            raise EncodingError("Canonical JSON holds no integer of 2**53 or beyond: use text.")
    elif isinstance(value, (dict, list, tuple)):
        _check_members(value, depth)
    elif value is not None and type(value) is not bool:
        raise EncodingError(f"Canonical JSON holds no {type(value).__name__}.")


def _check_members(
    value: dict[object, object] | list[object] | tuple[object, ...], depth: int
) -> None:
    if depth == 0:
        raise EncodingError(f"Canonical JSON is nested {MAX_DEPTH} deep at most.")
    if isinstance(value, dict):
        for key in value:
            if type(key) is not str:
                raise EncodingError("Canonical JSON has text as keys.")
            _check(key, 0)
        members: Iterable[object] = value.values()
    else:
        members = value
    for member in members:
        _check(member, depth - 1)
