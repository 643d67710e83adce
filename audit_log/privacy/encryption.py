"""AES-256-GCM, the key ring, and blind indexes.

A sealed value is `0x01 || flags || key_id(16) || nonce(12) || ciphertext`. The header is part of
the additional data, so nothing of it can be altered, and the place it stands in is too, so that it
cannot be moved. Plaintexts are deflated when that makes them shorter.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import os
import time
import uuid
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from audit_log import conf
from audit_log.exceptions import ConfigurationError, KeysUnavailable, TamperedValue, UnknownKey

FORMAT: Final = 1
DATA_KEY: Final = "data-key"  # the purpose of a ring key that wraps data keys
DEFLATED: Final = 1
KEY_ID_BYTES: Final = 16
KEY_ID_AT: Final = 3  # behind format and flags, counted from 1 as SQL does
_NONCE_BYTES: Final = 12
HEADER_BYTES: Final = 2 + KEY_ID_BYTES + _NONCE_BYTES
_WORTH_DEFLATING: Final = 200
_LITTLE_BITS: Final = 12
_LITTLE: Final = 1 << _LITTLE_BITS  # all of it in the window, so nothing is lost
_LITTLE_MEMORY: Final = 5
_UNWRAPPED_SECONDS: Final = 300  # how long a key that was taken away there is still known here
_UNAVAILABLE_SECONDS: Final = 5  # for so long a key service that did not answer is left alone
_MAX_INFLATED: Final = 64 * 1024 * 1024


def seal(
    key_id: bytes,
    cipher: AESGCM,
    plaintext: bytes,
    place: bytes,
    *,
    deflated_from: int = _WORTH_DEFLATING,
) -> bytes:
    """Encrypt. `place` is what the value is bound to: record id and column, say.

    Plaintexts of `deflated_from` bytes and more are deflated, where that makes them shorter.
    """
    flags = 0
    if len(plaintext) >= deflated_from:
        deflated = _deflate(plaintext)
        if len(deflated) < len(plaintext):
            plaintext, flags = deflated, DEFLATED
    nonce = os.urandom(_NONCE_BYTES)
    header = bytes((FORMAT, flags)) + key_id + nonce
    return header + cipher.encrypt(nonce, plaintext, header + place)


def _deflate(plaintext: bytes) -> bytes:
    """As zlib: fast, and for what is short with little memory.

    zlib's own 256 KB are more than malloc keeps: asking for them, and for their pages, takes many
    times as long as to deflate a few hundred bytes. Every inflater takes either.
    """
    if len(plaintext) > _LITTLE:
        return zlib.compress(plaintext, 1)
    deflater = zlib.compressobj(1, zlib.DEFLATED, _LITTLE_BITS, _LITTLE_MEMORY)
    return deflater.compress(plaintext) + deflater.flush()


def place_of(record_id: uuid.UUID, column: str) -> bytes:
    """What the sealed columns of a record are bound to."""
    return record_id.bytes + column.encode()


def key_id_of(sealed: bytes) -> bytes:
    """The id of the key that a sealed value needs. Raises TamperedValue."""
    if len(sealed) <= HEADER_BYTES or sealed[0] != FORMAT or sealed[1] & ~DEFLATED:
        raise TamperedValue("Not a sealed value: its header is not one this version writes.")
    return sealed[2 : 2 + KEY_ID_BYTES]


def open_sealed(sealed: bytes, key_of: Callable[[bytes], AESGCM], place: bytes) -> bytes:
    """Decrypt. Raises UnknownKey or TamperedValue."""
    sealed = bytes(sealed)
    cipher = key_of(key_id_of(sealed))
    header, body = sealed[:HEADER_BYTES], sealed[HEADER_BYTES:]
    try:
        plaintext = cipher.decrypt(header[-_NONCE_BYTES:], body, header + place)
    except InvalidTag as error:
        raise TamperedValue("A sealed value, its place or its key was altered.") from error
    return _inflate(plaintext) if header[1] & DEFLATED else plaintext


def _inflate(deflated: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        plaintext = inflater.decompress(deflated, _MAX_INFLATED)
    except zlib.error as error:
        raise TamperedValue("A sealed value does not inflate.") from error
    if not inflater.eof:
        raise TamperedValue(f"A sealed value is cut, or inflates beyond {_MAX_INFLATED} bytes.")
    return plaintext


def derive(secret: bytes, purpose: str) -> bytes:
    """32 bytes for one purpose (HKDF-SHA256, RFC 5869)."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose.encode()).derive(secret)


@dataclass(frozen=True, slots=True)
class RingKey:
    """A key of `ENCRYPTION_KEYS`. Its id is a fingerprint, so a renamed key is still found.

    One that a key service wrapped is `wrapped`, and has its secret only there.
    """

    name: str
    id: bytes
    secret: bytes = b""
    wrapped: bytes = b""

    def cipher(self, purpose: str) -> AESGCM:
        """The cipher for one purpose; no key is used for two. Raises KeysUnavailable."""
        return AESGCM(derive(self.secret or self._unwrapped(), f"audit_log/{purpose}/v1"))

    def _unwrapped(self) -> bytes:
        return key_service().unwrap(self.wrapped)  # type: ignore[no-any-return]


def key_service() -> Any:
    """The module that speaks with AWS KMS. Raises ConfigurationError without its client."""
    try:
        return import_module("audit_log.privacy.kms")  # only where a key is wrapped
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in {"boto3", "botocore"}:
            raise
        raise ConfigurationError(
            'AUDIT_LOG["ENCRYPTION_KEYS"] has a key that AWS KMS wrapped, which needs a package '
            "that is not installed: pip install 'django-audit-ledger[kms]'"
        ) from error


def _ring_key(name: str, secret: bytes) -> RingKey:
    kind = b"wrapped-key" if isinstance(secret, conf.WrappedKey) else b"key"
    id_ = hashlib.sha256(b"audit_log/%b-id/v1\0" % kind + secret).digest()[:KEY_ID_BYTES]
    if isinstance(secret, conf.WrappedKey):
        return RingKey(name, id_, wrapped=bytes(secret))
    return RingKey(name, id_, secret=secret)


class KeyRing:
    """`ENCRYPTION_KEYS`, newest first, then keys made from SECRET_KEY and its fallbacks."""

    def __init__(self, keys: list[RingKey]) -> None:
        self.keys = keys
        self._by_id = {key.id: key for key in keys}
        self._ciphers: dict[tuple[bytes, str], tuple[AESGCM, float]] = {}
        self._unavailable: dict[bytes, tuple[str, float]] = {}

    def first(self, purpose: str) -> RingKey:
        """The key that seals for a purpose.

        A key service is asked for what wraps data keys only, which is the worker's: where it is
        down, no request that writes into an outbox notices.
        """
        if purpose == DATA_KEY:
            return self.keys[0]
        return next(key for key in self.keys if key.secret)  # SECRET_KEY always gives one

    def name_of(self, id_: bytes) -> str | None:
        """What the settings call the key with this id; None where they do not have it."""
        key = self._by_id.get(id_)
        return None if key is None else key.name

    def _cipher(self, id_: bytes, purpose: str) -> AESGCM:
        cached, until = self._ciphers.get((id_, purpose), (None, 0.0))
        if cached is not None and time.monotonic() < until:
            return cached
        key = self._by_id.get(id_)
        if key is None:
            raise UnknownKey(
                f"No key with fingerprint {id_.hex()} in the ring, which holds: "
                f"{', '.join(key.name for key in self.keys)}. Put the old key back, "
                'behind the first, into AUDIT_LOG["ENCRYPTION_KEYS"].'
            )
        cipher = self._asked_for(key, purpose)
        lasts = math.inf if key.secret else time.monotonic() + _UNWRAPPED_SECONDS
        self._ciphers[id_, purpose] = (cipher, lasts)
        return cipher

    def _asked_for(self, key: RingKey, purpose: str) -> AESGCM:
        """A page needs the keys of fifty people: it must not wait fifty times for a service."""
        why, until = self._unavailable.get(key.id, ("", 0.0))
        if time.monotonic() < until:
            raise KeysUnavailable(why)
        try:
            return key.cipher(purpose)
        except KeysUnavailable as error:
            self._unavailable[key.id] = (str(error), time.monotonic() + _UNAVAILABLE_SECONDS)
            raise

    def encrypt(
        self,
        purpose: str,
        plaintext: bytes,
        place: bytes = b"",
        *,
        deflated_from: int = _WORTH_DEFLATING,
    ) -> bytes:
        """Under the first key. See `seal`. Raises KeysUnavailable."""
        first = self.first(purpose).id
        cipher, place = self._cipher(first, purpose), purpose.encode() + place
        return seal(first, cipher, plaintext, place, deflated_from=deflated_from)

    def decrypt(self, purpose: str, sealed: bytes, place: bytes = b"") -> bytes:
        """By whichever key it needs. Raises UnknownKey, TamperedValue or KeysUnavailable."""
        return open_sealed(sealed, lambda id_: self._cipher(id_, purpose), purpose.encode() + place)


@lru_cache(maxsize=1)
def key_ring() -> KeyRing:
    """The ring of the settings in force.

    The keys made from SECRET_KEY and its fallbacks stay in it once there are ENCRYPTION_KEYS: what
    was sealed before, or waits in an outbox as the new settings arrive, is read with them.
    """
    settings = conf.get_settings()
    made = {
        f"SECRET_KEY[{n}]": derive(secret.encode(), "audit_log/ring/v1")
        for n, secret in enumerate(settings.secret_keys)
    }
    return KeyRing([_ring_key(*item) for item in {**settings.encryption_keys, **made}.items()])


@lru_cache(maxsize=1)
def index_keys() -> tuple[bytes, ...]:
    """The keys of the blind indexes: the first makes tokens, all are looked for.

    Once there is an INDEX_KEY, those made from SECRET_KEY are not: to look for several tokens where
    one is enough would cost every search the order of its index. `rekey --index` makes new tokens.
    """
    settings = conf.get_settings()
    made = [derive(secret.encode(), "audit_log/index/v1") for secret in settings.secret_keys]
    return settings.index_key or tuple(made)


@lru_cache(maxsize=1)
def signing_seeds() -> tuple[bytes, ...]:
    """The Ed25519 seeds of checkpoints: the first signs, all are known.

    Those made from SECRET_KEY and its fallbacks stay known once there is a SIGNING_KEY.
    """
    settings = conf.get_settings()
    made = [derive(secret.encode(), "audit_log/sign/v1") for secret in settings.secret_keys]
    return (*settings.signing_key, *made)


@conf.on_change
def _forget() -> None:
    key_ring.cache_clear()
    index_keys.cache_clear()
    signing_seeds.cache_clear()
    blind_index.cache_clear()


@lru_cache(maxsize=4096)
def blind_index(kind: str, value: str | None) -> str | None:
    """A keyed token (32 hex) of a lower-cased value: finds it exactly, tells nothing else."""
    if not value:
        return None
    return _token(index_keys()[0], kind, value)


def blind_indexes(kind: str, value: str | None) -> list[str]:
    """The tokens that a value has under every known key: what to look for, during a rotation."""
    return [_token(key, kind, value) for key in index_keys()] if value else []


def _token(key: bytes, kind: str, value: str) -> str:
    text = f"{kind}\0{value.lower()}".encode("utf-8", "replace")
    return hmac.digest(key, text, "sha256").hex()[:32]


def fingerprint(kind: str, value: str, digits: int = 8) -> str:
    """8 hex of a keyed hash: equal values can be correlated, none can be guessed back.

    Where it stands for an identity, ask for 32 digits: of 100,000 values, two share 8 of them.
    """
    text = f"{kind}\0{value}".encode("utf-8", "replace")
    return hmac.digest(index_keys()[0], text, "sha256").hex()[:digits]
