"""AES-256-GCM, the key ring and the blind indexes."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import uuid
import zlib
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from audit_log.exceptions import TamperedValue, UnknownKey
from audit_log.privacy import encryption
from audit_log.privacy.encryption import (
    DEFLATED,
    HEADER_BYTES,
    KeyRing,
    blind_index,
    fingerprint,
    key_id_of,
    key_ring,
    open_sealed,
    place_of,
    seal,
)

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "sealed.json"
KEY_ID = bytes(range(16))
CIPHER = AESGCM(bytes(range(32)))
PLACE = place_of(uuid.UUID("01890a5d-ac96-774b-bcce-b302099a8057"), "sealed_data")
OLD = base64.b64encode(b"o" * 32).decode()
NEW = base64.b64encode(b"n" * 32).decode()


def _open(sealed: bytes, place: bytes = PLACE) -> bytes:
    return open_sealed(sealed, {KEY_ID: CIPHER}.__getitem__, place)


def _ring(**keys: bytes) -> KeyRing:
    return KeyRing([encryption._ring_key(name, secret) for name, secret in keys.items()])


@pytest.mark.parametrize("name", ["short", "deflated"])
def test_format_is_the_pinned_one(name: str, monkeypatch: pytest.MonkeyPatch):
    """Values sealed by any version must open for ever: change the format only with its version."""
    golden = json.loads(GOLDEN.read_text())[name]
    plaintext = golden["plaintext"].encode() * golden["times"]
    sealed = bytes.fromhex(golden["sealed"])
    assert _open(sealed) == plaintext
    assert sealed[0] == 1
    assert sealed[1] == golden["flags"]
    assert sealed[2:18] == KEY_ID
    assert sealed[18:30].hex() == golden["nonce"]
    monkeypatch.setattr(os, "urandom", lambda n: bytes.fromhex(golden["nonce"])[:n])
    # What deflate makes of a text differs between zlib's versions; what it inflates to does not.
    if not golden["flags"]:
        assert seal(KEY_ID, CIPHER, plaintext, PLACE) == sealed


@given(st.binary(max_size=2_000))
def test_what_is_sealed_opens(plaintext: bytes):
    assert _open(seal(KEY_ID, CIPHER, plaintext, PLACE)) == plaintext


def test_same_text_is_sealed_differently_each_time():
    assert len({seal(KEY_ID, CIPHER, b"text", PLACE) for _ in range(50)}) == 50


@pytest.mark.parametrize("plaintext", [b"short", b"long enough to be deflated " * 20])
def test_flipped_bit_anywhere_is_noticed(plaintext: bytes):
    sealed = seal(KEY_ID, CIPHER, plaintext, PLACE)

    def key_of(key_id: bytes) -> AESGCM:
        return CIPHER  # as if every key id led to a key: the header itself is authenticated

    for n in range(len(sealed) * 8):
        altered = bytearray(sealed)
        altered[n // 8] ^= 1 << n % 8
        with pytest.raises(TamperedValue):
            open_sealed(bytes(altered), key_of, PLACE)


def test_cut_value_is_noticed():
    sealed = seal(KEY_ID, CIPHER, b"a plaintext", PLACE)
    for length in range(len(sealed)):
        with pytest.raises(TamperedValue):
            _open(sealed[:length])


def test_value_moved_to_another_place_is_noticed():
    sealed = seal(KEY_ID, CIPHER, b"mine", PLACE)
    record = uuid.UUID(bytes=PLACE[:16])
    for place in (place_of(record, "sealed_actor"), place_of(uuid.uuid4(), "sealed_data"), b""):
        with pytest.raises(TamperedValue):
            _open(sealed, place)


def test_purposes_of_the_ring_do_not_mix():
    ring = _ring(a=b"a" * 32)
    sealed = ring.encrypt("outbox", b"text")
    assert ring.decrypt("outbox", sealed) == b"text"
    with pytest.raises(TamperedValue):
        ring.decrypt("data-key", sealed)
    with pytest.raises(TamperedValue):
        ring.decrypt("outbox", sealed, b"elsewhere")


def test_missing_key_is_named_with_the_ring():
    sealed = _ring(gone=b"g" * 32).encrypt("outbox", b"text")
    with pytest.raises(UnknownKey, match=r"which holds: 2026-11, 2026-10\. Put the old key back"):
        _ring(**{"2026-11": b"a" * 32, "2026-10": b"b" * 32}).decrypt("outbox", sealed)


def test_key_under_another_name_is_found_and_another_key_under_its_name_is_not():
    sealed = _ring(first=b"a" * 32).encrypt("outbox", b"text")
    assert _ring(renamed=b"a" * 32).decrypt("outbox", sealed) == b"text"
    with pytest.raises(UnknownKey):
        _ring(first=b"b" * 32).decrypt("outbox", sealed)


def test_rotated_ring_seals_under_the_first_and_opens_all(settings: Any):
    base = settings.AUDIT_LOG
    settings.AUDIT_LOG = {**base, "ENCRYPTION_KEYS": {"old": OLD}}
    before = key_ring().encrypt("outbox", b"before")
    old_id = key_id_of(before)
    settings.AUDIT_LOG = {**base, "ENCRYPTION_KEYS": {"new": NEW, "old": OLD}}
    assert key_ring().decrypt("outbox", before) == b"before"
    assert key_id_of(key_ring().encrypt("outbox", b"after")) != old_id


def test_secret_key_and_its_fallbacks_make_a_ring(settings: Any):
    settings.AUDIT_LOG = {}
    settings.SECRET_KEY = "the first secret"
    sealed = key_ring().encrypt("outbox", b"text")
    settings.SECRET_KEY = "the second secret"
    settings.SECRET_KEY_FALLBACKS = []
    with pytest.raises(UnknownKey, match=r"SECRET_KEY\[0\]"):
        key_ring().decrypt("outbox", sealed)
    settings.SECRET_KEY_FALLBACKS = ["the first secret"]
    assert key_ring().decrypt("outbox", sealed) == b"text"
    assert b"the first secret" not in key_ring().keys[1].secret


def test_first_keys_of_its_own_leave_readable_what_secret_key_sealed(settings: Any):
    settings.AUDIT_LOG = {}
    waiting = key_ring().encrypt("outbox", b"text")
    settings.AUDIT_LOG = {"ENCRYPTION_KEYS": {"new": NEW}}
    assert key_ring().decrypt("outbox", waiting) == b"text"
    assert key_id_of(key_ring().encrypt("outbox", b"text")) == key_ring().keys[0].id
    assert key_ring().keys[0].name == "new"


def test_deflated_bomb_is_refused_before_it_fills_the_memory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(encryption, "_MAX_INFLATED", 1_000_000)
    inflated: list[int] = []
    decompressobj = zlib.decompressobj

    class Watching:
        def __init__(self) -> None:
            self._inner = decompressobj()

        def decompress(self, data: bytes, limit: int) -> bytes:
            plaintext = self._inner.decompress(data, limit)
            inflated.append(len(plaintext))
            return plaintext

        @property
        def eof(self) -> bool:
            return self._inner.eof

    monkeypatch.setattr(zlib, "decompressobj", Watching)
    with pytest.raises(TamperedValue, match="inflates beyond"):
        _open(_sealed_by_hand(zlib.compress(bytes(50_000_000)), flags=DEFLATED))
    assert inflated == [1_000_000]


def _sealed_by_hand(content: bytes, flags: int) -> bytes:
    header = bytes((1, flags)) + KEY_ID + bytes(12)
    return header + CIPHER.encrypt(bytes(12), content, header + PLACE)


def test_cut_deflate_stream_is_no_value():
    deflated = zlib.compress(b"some text " * 100)
    assert _open(_sealed_by_hand(deflated, flags=DEFLATED)) == b"some text " * 100
    for content in (deflated[:-8], b"no deflate stream"):
        with pytest.raises(TamperedValue):
            _open(_sealed_by_hand(content, flags=DEFLATED))


@pytest.mark.parametrize("flags", [2, 3, 0x80])
def test_flags_of_a_later_version_are_refused(flags: int):
    with pytest.raises(TamperedValue, match="header"):
        _open(_sealed_by_hand(b"whatever", flags=flags))


def test_only_what_gets_shorter_is_deflated():
    assert seal(KEY_ID, CIPHER, b"short", PLACE)[1] == 0
    assert seal(KEY_ID, CIPHER, b"x" * 1_000, PLACE)[1] == DEFLATED
    noise = b"".join(uuid.uuid4().bytes for _ in range(100))
    assert seal(KEY_ID, CIPHER, noise, PLACE)[1] == 0
    assert len(seal(KEY_ID, CIPHER, b"", PLACE)) > HEADER_BYTES


def test_blind_index_ignores_case_and_tells_kinds_apart():
    assert blind_index("actor", "Alice@Example.org") == blind_index("actor", "alice@example.ORG")
    assert blind_index("actor", "10.0.0.1") != blind_index("ip", "10.0.0.1")
    assert blind_index("actor", "") is None
    assert blind_index("actor", None) is None
    assert blind_index("actor", "\udcff") is not None


def test_fingerprint_of_an_identity_is_long_enough_to_be_one():
    assert len(fingerprint("token", "a")) == 8
    assert len({fingerprint("token", str(n), 32) for n in range(100_000)}) == 100_000


def test_index_is_the_same_in_every_process_and_another_under_another_key(settings: Any):
    script = (
        "import django; django.setup()\n"
        "from audit_log.privacy.encryption import blind_index, fingerprint\n"
        "print(blind_index('actor', 'alice'), fingerprint('token', 'x'))"
    )
    said = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=GOLDEN.parent.parent.parent,
        timeout=300,
    ).stdout.split()
    assert said == [blind_index("actor", "alice"), fingerprint("token", "x")]
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "INDEX_KEY": NEW}
    assert blind_index("actor", "alice") != said[0]
