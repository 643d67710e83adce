"""What happened, as immutable values, and their one encoding.

No Django here: the logging service and the auditor's tools read events without a project.
The encoding is JSON with a version.
"""

from __future__ import annotations

import os
import re
import secrets
import threading
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final

import msgspec

from audit_log import forks
from audit_log.exceptions import EncodingError, UnknownVersion

VERSION: Final = 1
ACTION: Final = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*")
OUTCOMES: Final = frozenset({"success", "failure", "denied", "unknown"})
ACTOR_TYPES: Final = frozenset({"user", "admin", "service", "system", "anonymous"})
SOURCES: Final = frozenset(
    {"orm", "request", "auth", "task", "command", "explicit", "trigger", "import"}
)

# `gc=False`: they are values without cycles, and a relay holds thousands of them at once, which the
# collector would visit again and again.
JSON = Any  # str, bool, None, int with |n| < 2**53, and lists and dicts of these


class Actor(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Who did it. `type` is user, admin, service, system or anonymous."""

    type: str = "system"
    id: str | None = None
    label: str | None = None
    email: str | None = None
    via: str | None = None


class Target(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What it was done to. `type` is the model's `label_lower`, `id` its primary key as text."""

    type: str
    id: str | None = None
    label: str | None = None


class Request(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The HTTP request an event belongs to, already redacted."""

    id: str | None = None
    method: str | None = None
    route: str | None = None
    path: str | None = None
    query: str | None = None
    status: int | None = None
    duration_ms: int | None = None
    ip: str | None = None
    user_agent: str | None = None
    session: str | None = None
    body: JSON = None


class Redaction(msgspec.Struct, frozen=True, order=True, gc=False):
    """That something was masked, cut or never loaded: where (a dotted path), and by which rule."""

    path: str
    rule: str


class Event(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, gc=False):
    """One thing that happened.

    `changes` is {field: [old, new]}, `labels` the same as people read it. `sealed` lists the paths
    (`changes.note`, `data.gateway`) that are to be stored encrypted; everything else in `changes`
    and `data` is stored open. `subject` names the person whose data the sealed part is.
    `emitter` is the process, `emitter_seq` counts its events from 0: a gap shows a loss.
    """

    version: int
    id: uuid.UUID
    occurred_at: datetime
    action: str
    outcome: str = "success"
    actor: Actor | None = None
    target: Target | None = None
    tenant: str | None = None
    changes: dict[str, list[JSON]] | None = None
    labels: dict[str, list[str | None]] | None = None
    affected: int | None = None
    request: Request | None = None
    trace_id: str | None = None
    parent_id: str | None = None
    source: str = "explicit"
    reason: str | None = None
    data: dict[str, JSON] | None = None
    redactions: tuple[Redaction, ...] = ()
    sealed: tuple[str, ...] = ()
    subject: str | None = None
    service: str | None = None  # these three travel once per batch
    emitter: str | None = None
    emitter_seq: int | None = None


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """The events of one transaction or request, in the order they happened.

    What all of them share stands here once: `service`, `emitter`, and the number of the first.
    """

    version: int
    service: str | None = None
    emitter: str | None = None
    emitter_seq: int = 0
    events: tuple[Event, ...]


class _Encoded(msgspec.Struct, frozen=True, kw_only=True):
    """A Batch whose events are bytes already."""

    version: int = VERSION
    service: str | None = None
    emitter: str
    emitter_seq: int
    events: list[msgspec.Raw]


class _Versioned(msgspec.Struct):
    version: int


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Batch)
_version = msgspec.json.Decoder(_Versioned)


def encode_event(event: Event) -> bytes:
    """One event as JSON bytes. Raises EncodingError for values no JSON can hold."""
    try:
        return _encoder.encode(event)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise EncodingError(f"Event {event.id} cannot be encoded: {error}") from error


def encode_batch(encoded: Sequence[bytes], service: str | None = None) -> bytes:
    """Events that `encode_event` made, as one batch numbered by this process's emitter."""
    return _encoder.encode(
        _Encoded(
            service=service,
            emitter=_emitter.name,
            emitter_seq=_emitter.numbers(len(encoded)),
            events=[msgspec.Raw(event) for event in encoded],
        )
    )


def encode_again(event: Event) -> bytes:
    """A decoded event as a batch of its own, under its first emitter and number."""
    return _encoder.encode(
        Batch(
            version=VERSION,
            service=event.service,
            emitter=event.emitter,
            emitter_seq=event.emitter_seq or 0,
            events=(msgspec.structs.replace(event, service=None, emitter=None, emitter_seq=None),),
        )
    )


def decode_batch(payload: bytes) -> list[Event]:
    """The events of a batch, each with its service, emitter and number.

    Raises EncodingError, or UnknownVersion for a newer format.
    """
    try:
        batch = _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        _refuse_newer(payload)
        raise EncodingError(f"Not a batch of events: {error}") from error
    if batch.version > VERSION:
        _refuse_newer(payload)
    for event in batch.events:
        if event.version > VERSION:
            raise UnknownVersion(f"Event {event.id} has version {event.version}.")
    return [
        msgspec.structs.replace(
            event, service=batch.service, emitter=batch.emitter, emitter_seq=batch.emitter_seq + n
        )
        for n, event in enumerate(batch.events)
    ]


def _refuse_newer(payload: bytes) -> None:
    """Raise UnknownVersion for a batch that says it is of a newer format, whatever is in it."""
    try:
        version = _version.decode(payload).version
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    if version > VERSION:
        raise UnknownVersion(
            f"The batch has version {version}; this reader knows {VERSION}. Upgrade the relay."
        )


def format_time(moment: datetime) -> str:
    """`YYYY-MM-DDTHH:MM:SS.ffffffZ`, always UTC. Raises ValueError for a naive time."""
    if moment.tzinfo is None:
        raise ValueError("A naive datetime has no place in the log.")
    if moment.tzinfo is UTC:  # what Django loads, and what an event happens at
        return moment.isoformat(timespec="microseconds")[:-6] + "Z"
    # A third of the time that strftime takes, and it pads the year.
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


_UUID_VERSION: Final = 7
_RANDOM_BITS: Final = 74
_NUMBER_BITS: Final = 40
_STEP_BYTES: Final = 4  # random steps: neighbours cannot be guessed, 2**41 fit in a millisecond
_FRESH_BYTES: Final = 10
_POOL_BYTES: Final = 2048
_CLOCK_SLACK_MS: Final = 1000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UNKNOWN_SAFETY: Final = uuid.SafeUUID.unknown
_new_object = object.__new__
_set_attribute = object.__setattr__


class _Ids:
    """UUIDv7 (RFC 9562), increasing within the process, never the same in two forked ones."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._milliseconds = 0
        self._random = 0
        self._pool = b""  # asking the system each time would cost more than all the rest
        self._at = 0

    def make(self, now_ns: int) -> uuid.UUID:
        milliseconds = now_ns // 1_000_000
        with self._lock:
            # A clock set back by more than a second wins: ids must agree with `occurred_at`.
            if (
                milliseconds > self._milliseconds
                or milliseconds < self._milliseconds - _CLOCK_SLACK_MS
            ):
                self._milliseconds = milliseconds
                self._random = self._fresh()
            else:
                self._random += 1 + self._take(_STEP_BYTES)
                if self._random >> _RANDOM_BITS:
                    self._milliseconds += 1
                    self._random = self._fresh()
            number = _layout(self._milliseconds, self._random)
        # `uuid.UUID(int=number)` without looking for the five other ways to say it.
        made = _new_object(uuid.UUID)
        _set_attribute(made, "int", number)
        _set_attribute(made, "is_safe", _UNKNOWN_SAFETY)
        return made

    def _fresh(self) -> int:
        """Bits to count up from: the highest is left for that."""
        return self._take(_FRESH_BYTES) >> (8 * _FRESH_BYTES - _RANDOM_BITS + 1)

    def _take(self, count: int) -> int:
        if self._at + count > len(self._pool):
            self._pool, self._at = os.urandom(_POOL_BYTES), 0
        taken = self._pool[self._at : self._at + count]
        self._at += count
        return int.from_bytes(taken)


def _layout(milliseconds: int, bits: int) -> int:
    high, low = bits >> 62, bits & ((1 << 62) - 1)
    return (milliseconds << 80) | (_UUID_VERSION << 76) | (high << 64) | (0b10 << 62) | low


def id_from(moment: datetime, seed: int, number: int = 0) -> uuid.UUID:
    """An id of that moment made from 63 bits of `seed`: the same each time.

    Ids of one moment and seed increase with `number`, and those of one millisecond with its
    microseconds.
    """
    milliseconds, microseconds = divmod(round(moment.timestamp() * 1_000_000), 1000)
    bits = (microseconds << 64) | ((seed + (number << _NUMBER_BITS)) % (1 << 64))
    return uuid.UUID(int=_layout(milliseconds, bits))


class Emitter:
    """A process: its random name, its ids and its event counter. Renewed after a fork."""

    def __init__(self) -> None:
        self.name = secrets.token_hex(8)
        self._ids = _Ids()
        self._lock = threading.Lock()
        self._next = 0

    def stamp(self) -> tuple[uuid.UUID, datetime]:
        """A new id and the moment it stands for, taken from one reading of the clock."""
        now = time.time_ns()
        return self._ids.make(now), _EPOCH + timedelta(microseconds=now // 1000)

    def id_for(self, moment: datetime, key: bytes | None = None) -> uuid.UUID:
        """An id for a moment in the past (imports, back-dating).

        Its lower bits are random, or made from `key`: then the same moment and key give the same.
        """
        milliseconds = int(moment.timestamp() * 1000)
        if key is None:
            bits = secrets.randbits(_RANDOM_BITS)
        else:
            bits = int.from_bytes(sha256(key).digest()) >> (256 - _RANDOM_BITS)
        return uuid.UUID(int=_layout(milliseconds, bits))

    def numbers(self, count: int) -> int:
        """The first of `count` consecutive numbers for events about to leave the process."""
        with self._lock:
            first = self._next
            self._next += count
        return first


_emitter = Emitter()


def emitter() -> Emitter:
    """The emitter of this process."""
    forks.notice()
    return _emitter


def _renew_after_fork() -> None:
    global _emitter  # noqa: PLW0603 - a child must not share its parent's ids, counter or held lock
    _emitter = Emitter()


forks.on_fork(_renew_after_fork)


def id_agrees(id_: uuid.UUID, occurred_at: datetime, slack_ms: int = 2 * _CLOCK_SLACK_MS) -> bool:
    """Whether `id_` is a UUIDv7 of about the moment `occurred_at`: anything else was forged."""
    if id_.version != _UUID_VERSION:
        return False
    return abs((id_.int >> 80) - int(occurred_at.timestamp() * 1000)) <= slack_ms
