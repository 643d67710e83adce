"""Canonical JSON and the ledger entry: the exact bytes that a record's leaf hashes.

An auditor needs only the standard library to rebuild them:
`json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()`.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from operator import itemgetter
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
_EARLY_INTEGERS: Final = ("version", "emitter_seq", "status", "duration_ms", "affected")
_INTEGERS: Final = (*_EARLY_INTEGERS, "sequence")
_TEXTS: Final = (
    *("stream", "service", "emitter", "action", "outcome", "source"),
    *("actor_type", "actor_id", "actor_via", "session_token"),
    *("target_type", "target_id", "tenant"),
    *("request_id", "trace_id", "parent_id", "method", "route", "path"),
)
_SCALARS: Final = (*_TEXTS, *_EARLY_INTEGERS)
_LISTS: Final = ("changed_fields", "redactions")
_CONTENTS: Final = ("changes", "data")
_SEALED: Final = ("sealed_actor", "sealed_data")

# Everything a leaf proves. The salt and the blind indexes are not in it: erasure nulls them.
ENTRY_COLUMNS: Final = tuple(
    sorted((*_IDS, *_TIMES, *_INTEGERS, *_TEXTS, *_LISTS, *_CONTENTS, *_SEALED))
)
_REQUIRED: Final = ("version", "id", "stream", "occurred_at", "action")
_LATE: Final = ("recorded_at", "sequence")  # known only under the stream's lock

_KEY_TYPES: Final = {str}
_TEXT_TYPES: Final = {str, type(None)}
# A float, once every digit is 0, a bracket before it a comma, and what makes it a float a point.
# The seconds of a time come after a colon too, but not one that follows a name. Each pattern begins
# with plain bytes, which are searched for several times faster than a class of them.
_SHAPE: Final = bytes.maketrans(b"123456789[eE", b"0" * 9 + b",..")
_FLOATS: Final = (re.compile(rb'":-?0+\.'), re.compile(rb",-?0+\."))
_LONG_NUMBER: Final = b"0" * 16  # as long as 2**53
_SHALLOW: Final = 2 * MAX_DEPTH  # bytes: what is opened is closed

_encoder = msgspec.json.Encoder(order="sorted")
_recorded = lru_cache(maxsize=4)(format_time)  # a batch is recorded at one moment

# Members in the order of their names, without those that are null: encoded as they stand, an entry
# needs no dictionary and no sorting, which were half of its time.
_Entry = msgspec.defstruct(
    "_Entry", [(name, Any, None) for name in ENTRY_COLUMNS], omit_defaults=True, gc=False
)
_encode_entry = msgspec.json.Encoder().encode
_EARLY: Final = tuple(name for name in ENTRY_COLUMNS if name not in _LATE)
_pick_early = itemgetter(*_EARLY)
_PLACES: Final = {name: place for place, name in enumerate(ENTRY_COLUMNS)}
_pick_texts = itemgetter(*map(_PLACES.__getitem__, _TEXTS))
_pick_numbers = itemgetter(*map(_PLACES.__getitem__, _EARLY_INTEGERS))
_AT_ID, _AT_OCCURRED = _PLACES["id"], _PLACES["occurred_at"]
_AT_FIELDS, _AT_REDACTIONS = _PLACES["changed_fields"], _PLACES["redactions"]
_AT_CHANGES, _AT_DATA = _PLACES["changes"], _PLACES["data"]


def canonical(value: JSON) -> bytes:
    """Canonical JSON: keys sorted by code point, no spaces, UTF-8.

    Raises EncodingError for floats, integers of 2**53 and beyond, NUL, lone surrogates, keys that
    are not text, nesting deeper than 64, and everything JSON has no word for.
    """
    _check(value, MAX_DEPTH)
    encoded = _encode(value)
    # Also what only looks like one, a backslash before u0000: then each text is looked at.
    if b"\\u0000" in encoded:
        _refuse_nul(value)
    return encoded


def encode_decoded(*values: JSON | msgspec.Struct) -> list[bytes]:
    """Sorted JSON of dictionaries or structs of what was decoded from JSON; of empty ones nothing.

    Their types need no look: what else JSON can hold shows in the bytes, which are not canonical
    before `is_surely_canonical` says so. Raises EncodingError.
    """
    encoded = [_encode(value) if value else b"" for value in values]
    return [b"" if value == b"{}" else value for value in encoded]


def canonical_decoded(*values: JSON | msgspec.Struct) -> list[bytes]:
    """The same, canonical: where the bytes leave doubts, `canonical` decides."""
    encoded = encode_decoded(*values)
    if not is_surely_canonical(*encoded):
        for value in values:
            canonical(_members_of(value) if isinstance(value, msgspec.Struct) else value)
    return encoded


def _members_of(struct: msgspec.Struct) -> dict[str, JSON]:
    members = msgspec.structs.asdict(struct)
    return {name: value for name, value in members.items() if value is not None}


def is_surely_canonical(*encoded: bytes) -> bool:
    """Whether sorted JSON of decoded values holds nothing that `canonical` refuses.

    No is no answer: text may look like a float, a NUL or a number too long. Asked about many values
    together it takes a fifth of the time; only their depth is looked at one by one.
    """
    together = b"\n".join(encoded)
    if b"\\u0000" in together:
        return False
    digits = together.translate(_SHAPE)
    if _LONG_NUMBER in digits or any(float_.search(digits) for float_ in _FLOATS):
        return False
    return all(
        len(value) <= _SHALLOW or value.count(b"{") + value.count(b"[") <= MAX_DEPTH
        for value in encoded
    )


def _encode(value: JSON) -> bytes:
    try:
        return _encoder.encode(value)
    except (TypeError, UnicodeEncodeError, RecursionError) as error:
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


class Spelling(msgspec.Struct, frozen=True, gc=False):
    """How values of a record stand in JSON: said once, for its entry and for its row.

    Of who has just made them out of a decoded event and made them fit: they are not checked again.
    `changes` and `data` are canonical JSON; what is empty is null.
    """

    id: str
    occurred_at: str
    changed_fields: bytes
    redactions: bytes
    changes: bytes
    data: bytes


class EntryTemplate:
    """An entry but for `sequence` and `recorded_at`: built before the stream's lock is taken."""

    __slots__ = ("_head", "_middle", "_tail")

    def __init__(
        self,
        columns: Mapping[str, Any],
        kept: Mapping[str, str] | None = None,
        *,
        spelling: Spelling | None = None,
    ) -> None:
        try:
            members = list(_pick_early(columns))
        except KeyError:  # a column that is not there is null
            members = list(map(columns.get, _EARLY))
        members.insert(_PLACES["recorded_at"], "")
        members.insert(_PLACES["sequence"], 0)
        _refuse_unfit(columns)
        if spelling is None:
            _set_open_members(members, columns)
            found = _digests(columns, kept or {})
            for name in _CONTENTS:
                members[_PLACES[name]] = found.get(name)
        else:
            _set_spelled(members, columns["salt"], spelling)
        _set_sealed_digests(members, columns, kept or {})
        entry = _entry(members)
        if spelling is not None and b"\\u0000" in entry:  # or what looks like it
            _set_open_members([*members], columns)
        # Quotes within text are escaped, so these bytes occur once: where the keys stand.
        self._head, _, rest = entry.partition(b'"recorded_at":""')
        self._middle, _, self._tail = rest.partition(b'"sequence":0')

    def fill(self, sequence: int, recorded_at: datetime) -> bytes:
        """Return the entry, exactly as `entry_bytes` gives it for the whole record."""
        if type(sequence) is not int or not 0 <= sequence <= MAX_INTEGER:
            raise EncodingError(f"Not a sequence: {sequence!r}")
        moment = _time("recorded_at", recorded_at, _recorded).encode()
        late = b'"recorded_at":"%b"%b"sequence":%d' % (moment, self._middle, sequence)
        return self._head + late + self._tail


def _entry(members: list[Any]) -> bytes:
    try:
        return _encode_entry(_Entry(*members))
    except UnicodeEncodeError as error:
        raise EncodingError(f"Not canonical JSON: {error}") from error


def _refuse_unfit(columns: Mapping[str, Any]) -> None:
    missing = [name for name in _REQUIRED if columns.get(name) is None]
    if missing:
        raise EncodingError(f"A record needs {', '.join(missing)}.")
    if columns["version"] != ENTRY_VERSION:
        raise UnknownVersion(f"The record has version {columns['version']!r}, not {ENTRY_VERSION}.")


def _set_spelled(members: list[Any], salt: bytes, spelling: Spelling) -> None:
    """Put in what JSON writes otherwise than the columns hold it."""
    members[_AT_ID], members[_AT_OCCURRED] = spelling.id, spelling.occurred_at
    fields, marks = spelling.changed_fields, spelling.redactions
    members[_AT_FIELDS] = msgspec.Raw(fields) if fields else None
    members[_AT_REDACTIONS] = msgspec.Raw(marks) if marks else None
    changes, data = spelling.changes, spelling.data
    members[_AT_CHANGES] = sha256(salt + changes).hexdigest() if changes else None
    members[_AT_DATA] = sha256(salt + data).hexdigest() if data else None


def _set_open_members(members: list[Any], columns: Mapping[str, Any]) -> None:
    """Check those of the envelope, and put in those that JSON writes otherwise."""
    _check_texts(members)
    for name, number in zip(_EARLY_INTEGERS, _pick_numbers(members), strict=True):
        if number is not None:
            _integer(name, number)
    members[_AT_ID] = _id(columns["id"])
    members[_AT_OCCURRED] = _time("occurred_at", columns["occurred_at"])
    fields, marks = columns.get("changed_fields"), columns.get("redactions")
    members[_AT_FIELDS] = (
        sorted([_text("changed_fields", name) for name in _items("changed_fields", fields)])
        if fields
        else None
    )
    members[_AT_REDACTIONS] = (
        [_redaction(mark) for mark in _items("redactions", marks)] if marks else None
    )


def _check_texts(members: list[Any]) -> None:
    """All at once; what is not of its type is looked at one by one, and refused."""
    texts = _pick_texts(members)
    if not set(map(type, texts)) <= _TEXT_TYPES or "\0" in "".join(filter(None, texts)):
        for name, text in zip(_TEXTS, texts, strict=True):
            _text(name, "" if text is None else text)


def _digests(columns: Mapping[str, Any], kept: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in _CONTENTS:
        if contents := columns.get(name):
            salt = columns.get("salt")
            if not salt:
                raise EncodingError(f"The record has {name} but no salt.")
            found[name] = contents_digest(_bytes("salt", salt), contents)
        elif digest := kept.get(name):
            found[name] = _text(name, digest)
    return found


def _set_sealed_digests(
    members: list[Any], columns: Mapping[str, Any], kept: Mapping[str, str]
) -> None:
    for name in _SEALED:
        digest = kept.get(name)
        if sealed := columns.get(name):
            members[_PLACES[name]] = sha256(_bytes(name, sealed)).hexdigest()
        else:
            members[_PLACES[name]] = _text(name, digest) if digest else None


def _id(value: object) -> str:
    try:
        return str(value if isinstance(value, uuid.UUID) else uuid.UUID(str(value)))
    except ValueError as error:
        raise EncodingError(f"Not a record id: {value!r}") from error


def _time(name: str, value: object, formatted: Callable[[datetime], str] = format_time) -> str:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise EncodingError(f"{name} must be an aware datetime, not {value!r}.")
    if value.tzinfo is not UTC:  # in UTC, equal times are the same time
        value = value.astimezone(UTC)
    return formatted(value)


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
    return {name: _text(name, fields[name]) for name in ("path", "rule")}


def _check(value: object, depth: int) -> None:
    """Refuse what the encoder would accept and canonical JSON does not hold, NUL excepted.

    Exact types only: enumerations and subclasses of text encode as something else elsewhere.
    """
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return
    if kind is int:
        if not -MAX_INTEGER <= value <= MAX_INTEGER:  # type: ignore[operator]
            raise EncodingError("Canonical JSON holds no integer of 2**53 or beyond: use text.")
    elif isinstance(value, (dict, list, tuple)):
        _check_members(value, depth)
    else:
        raise EncodingError(f"Canonical JSON holds no {kind.__name__}.")


def _check_members(
    value: dict[object, object] | list[object] | tuple[object, ...], depth: int
) -> None:
    if depth == 0:
        raise EncodingError(f"Canonical JSON is nested {MAX_DEPTH} deep at most.")
    members: Iterable[object] = value
    if isinstance(value, dict):
        if not set(map(type, value)) <= _KEY_TYPES:
            raise EncodingError("Canonical JSON has text as keys.")
        members = value.values()
    for member in members:
        if type(member) is not str and member is not None:  # most are, and need no call
            _check(member, depth - 1)


def _refuse_nul(value: object) -> None:
    if isinstance(value, str):
        if "\0" in value:
            raise EncodingError("Canonical JSON holds no NUL.")
    elif isinstance(value, dict):
        _refuse_nul(list(value))
        _refuse_nul(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for member in value:
            _refuse_nul(member)
