"""Checkpoints as signed notes: c2sp.org/signed-note and c2sp.org/tlog-checkpoint, Ed25519 only."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, NamedTuple, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from audit_log.exceptions import ConfigurationError, EncodingError, InvalidProof

SEED_BYTES: Final = 32
MAX_SIGNATURES: Final = 100  # the specification asks for 16 at least
_ED25519: Final = b"\x01"  # the signature type byte of the specification
_HASH_BYTES: Final = 32
_BODY_LINES: Final = 3
_KEY_ID_BYTES: Final = 4
_SIGNATURE_BYTES: Final = 64
_MAX_SIZE: Final = (1 << 63) - 1
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_KEY_ID: Final = re.compile(r"[0-9a-f]{8}")
_CONTROL: Final = re.compile(r"[\x00-\x1f]")
_LINE_START: Final = "\u2014 "  # an em dash and a space


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key and its name. Raises ConfigurationError for a name the format cannot hold."""

    name: str
    public: bytes
    id: bytes = field(init=False)

    def __post_init__(self) -> None:
        _check_name(self.name)
        if len(self.public) != _HASH_BYTES:
            raise ConfigurationError(f"The public key of {self.name!r} does not have 32 bytes.")
        digest = sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()
        object.__setattr__(self, "id", digest[:_KEY_ID_BYTES])

    @classmethod
    def parse(cls, vkey: str) -> Self:
        """Read `name+id+base64(0x01 || public key)`. Raises ConfigurationError."""
        name, _, rest = vkey.partition("+")
        key_id, _, encoded = rest.partition("+")
        material = _decode(encoded)
        if not _KEY_ID.fullmatch(key_id) or material is None:
            raise ConfigurationError(f"Not a verifier key (name+id+base64): {vkey!r}")
        if material[:1] != _ED25519:
            raise ConfigurationError(f"The verifier key {name!r} is not an Ed25519 key.")
        key = cls(name, material[1:])
        if key.id.hex() != key_id:
            raise ConfigurationError(f"The verifier key {name!r} does not have the id {key_id}.")
        return key

    @property
    def vkey(self) -> str:
        """The key as text, to be handed to auditors."""
        return f"{self.name}+{self.id.hex()}+{_encode(_ED25519 + self.public)}"

    def verify(self, signature: bytes, text: bytes) -> bool:
        """Whether `signature` is this key's over `text`."""
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text)
        except InvalidSignature:
            return False
        return True


class SigningKey:
    """A private key and its name."""

    __slots__ = ("_private", "verifier")

    def __init__(self, name: str, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.verifier = VerifierKey(name, private.public_key().public_bytes_raw())

    @classmethod
    def from_seed(cls, name: str, seed: bytes) -> Self:
        """Return the key of a 32-byte seed (RFC 8032). Raises ConfigurationError."""
        if len(seed) != SEED_BYTES:
            raise ConfigurationError(f"The seed of the signing key {name!r} must have 32 bytes.")
        return cls(name, Ed25519PrivateKey.from_private_bytes(seed))

    def __repr__(self) -> str:
        return f"<SigningKey {self.vkey}>"

    @property
    def name(self) -> str:
        """The key's name, usually the checkpoint's origin."""
        return self.verifier.name

    @property
    def vkey(self) -> str:
        """The public half as text, to be handed to auditors."""
        return self.verifier.vkey

    def sign(self, text: bytes) -> bytes:
        """Return the 64-byte Ed25519 signature over `text`."""
        return self._private.sign(text)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head: the log's `origin`, its `size` in leaves, its `root` of 32 bytes.

    Raises EncodingError for what a note cannot hold.
    """

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        if not self.origin or not _is_text(self.origin):
            raise EncodingError(f"Not an origin: {self.origin!r}")
        if not 0 <= self.size <= _MAX_SIZE:
            raise EncodingError(f"Not a tree size: {self.size}")
        if len(self.root) != _HASH_BYTES:
            raise EncodingError("A root has 32 bytes.")

    def body(self) -> str:
        """Return the note text: origin, size and root, a line each. This is what is signed."""
        return f"{self.origin}\n{self.size}\n{_encode(self.root)}\n"

    @classmethod
    def parse(cls, body: str) -> Self:
        """Read a note text, not yet verified. Raises InvalidProof.

        Extension lines are refused: this log signs none, and monitors cannot audit them.
        """
        if body.count("\n") != _BODY_LINES or not body.endswith("\n"):
            raise InvalidProof("Malformed checkpoint: it needs origin, size and root, a line each.")
        origin, size, encoded, _ = body.split("\n")
        if not origin or not _is_text(origin):
            raise InvalidProof("Malformed checkpoint: the origin is empty or not plain text.")
        if not _SIZE.fullmatch(size) or int(size) > _MAX_SIZE:
            raise InvalidProof(f"Malformed checkpoint: {size!r} is not a tree size.")
        root = _decode(encoded)
        if root is None or len(root) != _HASH_BYTES:
            raise InvalidProof("Malformed checkpoint: the root is not 32 bytes of base64.")
        return cls(origin, int(size), root)


def sign(checkpoint: Checkpoint, keys: Sequence[SigningKey]) -> str:
    """Return the checkpoint as a signed note, one signature line a key.

    Several keys are for rotation: readers ignore those they do not know. Raises
    ConfigurationError without a key.
    """
    if not keys:
        raise ConfigurationError("A checkpoint needs a signing key.")
    body = checkpoint.body()
    return f"{body}\n{''.join(_signature_line(key, body.encode()) for key in keys)}"


def open_note(text: str, keys: Iterable[VerifierKey]) -> Checkpoint:
    """Return the checkpoint in a signed note, once a known key's signature has been verified.

    Signatures of unknown keys are ignored, as the specification demands; one bad signature of a
    known key refuses the note. Raises InvalidProof with the reason.
    """
    known = _by_name_and_id(keys)
    body, signatures = _parse(text)
    verified = False
    for name, key_id, signature in signatures:
        key = known.get((name, key_id))
        if key is None:
            continue
        if len(signature) != _SIGNATURE_BYTES or not key.verify(signature, body.encode()):
            raise InvalidProof(f"Bad signature: that of {name}+{key_id.hex()} does not hold.")
        verified = True
    if not verified:
        raise InvalidProof("No known signature: none of the note's keys is trusted.")
    return Checkpoint.parse(body)


class _Signature(NamedTuple):
    name: str
    key_id: bytes
    signature: bytes


def _signature_line(key: SigningKey, text: bytes) -> str:
    return f"{_LINE_START}{key.name} {_encode(key.verifier.id + key.sign(text))}\n"


def _parse(text: str) -> tuple[str, list[_Signature]]:
    """Return the note text and its signatures, none of them verified."""
    if not _is_text(text.replace("\n", "")):
        raise InvalidProof("Malformed note: it has control characters or is not Unicode text.")
    # The last empty line parts them: the text itself may hold others.
    body, blank, lines = text.rpartition("\n\n")
    if not blank or not lines.endswith("\n"):
        raise InvalidProof("Malformed note: no blank line and signature lines at its end.")
    signatures = lines[:-1].split("\n")
    if len(signatures) > MAX_SIGNATURES:
        raise InvalidProof(f"Malformed note: more than {MAX_SIGNATURES} signatures.")
    return body + "\n", [_parse_signature(line) for line in signatures]


def _parse_signature(line: str) -> _Signature:
    name, _, encoded = line.removeprefix(_LINE_START).partition(" ")
    value = _decode(encoded)
    if not line.startswith(_LINE_START) or not _is_name(name) or value is None:
        raise InvalidProof(f"Malformed note: not a signature line: {line!r}")
    if len(value) <= _KEY_ID_BYTES:
        raise InvalidProof(f"Malformed note: the signature of {name} is empty.")
    return _Signature(name, value[:_KEY_ID_BYTES], value[_KEY_ID_BYTES:])


def _by_name_and_id(keys: Iterable[VerifierKey]) -> dict[tuple[str, bytes], VerifierKey]:
    known: dict[tuple[str, bytes], VerifierKey] = {}
    for key in keys:
        if known.setdefault((key.name, key.id), key) != key:
            raise ConfigurationError(f"Two keys are called {key.name}+{key.id.hex()}.")
    return known


def _check_name(name: str) -> None:
    if not _is_name(name):
        raise ConfigurationError(
            f"Not a key name: {name!r}. It must not be empty or hold spaces, '+' or controls."
        )


def _is_name(name: str) -> bool:
    return bool(name) and _is_text(name) and "+" not in name and not any(map(str.isspace, name))


def _is_text(value: str) -> bool:
    """Whether `value` is one line the format can hold: no ASCII controls, no lone surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return _CONTROL.search(value) is None


def _encode(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _decode(encoded: str) -> bytes | None:
    """Base64 in its one canonical spelling, else None."""
    try:
        value = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None
    return value if _encode(value) == encoded else None
