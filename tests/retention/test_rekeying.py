"""Keys rotate: nothing is lost, nothing that was erased comes back, and what fails is named."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any
from uuid import UUID

import boto3
import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import connections
from django.db.models import QuerySet

import audit_log
from audit_log import context, testing
from audit_log.conf import WrappedKey, get_settings
from audit_log.delivery import relay
from audit_log.events import Actor
from audit_log.exceptions import KeysUnavailable, UnknownKey
from audit_log.ledger.records import TOKENS
from audit_log.ledger.verification import verify
from audit_log.models import Cursor, DataKey, Outbox, Record
from audit_log.privacy import data_keys, encryption
from audit_log.privacy.encryption import blind_index, key_id_of, key_ring
from audit_log.privacy.key_checks import check_missing_keys
from audit_log.reading.contents import contents, labels
from audit_log.reading.search import search
from audit_log.retention import erasure, rekeying
from tests.ledger.building import a_full_event, write
from tests.shop.models import Category

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

Set = Callable[..., None]


def _random(seed: str) -> str:
    return base64.b64encode(sha256(seed.encode()).digest()).decode()


@pytest.fixture
def keys(settings: Any) -> Set:
    """Set keys of AUDIT_LOG, as a new release of the project would."""
    base = settings.AUDIT_LOG

    def set_(**values: Any) -> None:
        settings.AUDIT_LOG = {**base, **values}

    set_(ENCRYPTION_KEYS={"2025": _random("2025")})
    return set_


def _ring(*names: str) -> dict[str, str]:
    return {name: _random(name) for name in names}


def _some(count: int = 3, first: int = 0) -> list[Record]:
    for n in range(first, first + count):
        with audit_log.acting(get_user_model().objects.create(username=f"user {n}")):
            Category.objects.create(name=f"category {n}")
    testing.relay()
    return list(Record.objects.filter(target_type="shop.category").order_by("sequence"))


def _names(records: list[Record]) -> list[str]:
    return sorted(str(contents(record)["target_label"]) for record in records)


def test_rotation_in_full(keys: Set):
    records = _some()
    names = _names(records)
    keys(ENCRYPTION_KEYS=_ring("2026", "2025"))
    more = _some(1, first=3)
    before = {usage.name: usage.data_keys for usage in rekeying.usage()}
    assert before["2025"] >= 3
    assert before["2026"] >= 1
    done = rekeying.rekey()
    assert (done.data_keys, done.failures) == (before["2025"], {})
    assert {usage.name: usage.data_keys for usage in rekeying.usage()}["2025"] == 0
    again = rekeying.rekey()
    assert again.data_keys == 0  # nothing is done twice
    testing.relay()
    said = Record.objects.get(action="audit_log.key_rotated")
    assert said.data == {"key": "2026", "data_keys": done.data_keys, "batches": 0}
    # The old key may go.
    keys(ENCRYPTION_KEYS=_ring("2026"))
    assert _names(records) == names
    assert contents(more[-1])["target_label"]
    assert verify().ok


def test_stopped_rotation_goes_on(keys: Set, monkeypatch: pytest.MonkeyPatch):
    _some()
    keys(ENCRYPTION_KEYS=_ring("2026", "2025"))
    total = rekeying.usage()[1].data_keys
    monkeypatch.setattr(rekeying, "_PAGE", 1)

    class Killed(BaseException):
        pass

    def progress(_what: str, done: int) -> None:
        if done == 2:
            raise Killed

    with pytest.raises(Killed):
        rekeying.rekey(progress=progress)
    assert rekeying.usage()[1].data_keys == total - 2
    assert rekeying.rekey().data_keys == total - 2


def test_batches_that_wait_are_encrypted_anew(keys: Set):
    """A parked one may wait for years, and must not keep the old key in the settings."""
    Category.objects.create(name="waits")
    assert Outbox.objects.count() == 1
    keys(ENCRYPTION_KEYS=_ring("2026", "2025"))
    assert [usage.batches for usage in rekeying.usage()][:2] == [0, 1]
    assert rekeying.rekey().batches == 1
    keys(ENCRYPTION_KEYS=_ring("2026"))
    assert testing.relay().events >= 1
    assert Record.objects.filter(target_type="shop.category").exists()


def test_erased_person_stays_erased(keys: Set):
    records = _some()
    user = get_user_model().objects.get(username="user 0")
    erasure.erase(f"user:{user.pk}", "request")
    keys(ENCRYPTION_KEYS=_ring("2026", "2025"))
    rekeying.rekey()
    rekeying.reindex()
    assert labels(records)[records[0].pk][0].startswith("erased on")  # type: ignore[union-attr]
    assert DataKey.objects.filter(wrapped=None).count() == 1
    assert Record.objects.get(pk=records[0].pk).actor_token is None


def test_rotation_does_not_undo_an_erasure_in_between(keys: Set, monkeypatch: pytest.MonkeyPatch):
    """The key is read, its person is erased, and then it would be written again."""
    _some()
    keys(ENCRYPTION_KEYS=_ring("2026", "2025"))
    user = get_user_model().objects.get(username="user 0")
    ring = key_ring()
    original = ring.decrypt

    def decrypt(purpose: str, sealed: bytes, place: bytes = b"") -> bytes:
        secret = original(purpose, sealed, place)
        if purpose == "data-key":
            DataKey.objects.filter(scope__endswith=f":{user.pk}").update(wrapped=None)
        return secret

    monkeypatch.setattr(ring, "decrypt", decrypt)
    rekeying.rekey()
    assert DataKey.objects.filter(scope__endswith=f":{user.pk}", wrapped=None).count() == 1


def test_what_cannot_be_rotated_is_named_and_stops_nothing(keys: Set):
    _some()
    lost = DataKey.objects.order_by("pk")[1]
    row = DataKey.objects.filter(pk=lost.pk)
    row.update(wrapped=bytes(lost.wrapped or b"")[:-1] + b"\0")
    keys(ENCRYPTION_KEYS=_ring("2026", "2025"))
    total = rekeying.usage()[1].data_keys
    done = rekeying.rekey()
    assert done.data_keys == total - 1
    assert list(done.failures) == [f"data key {lost.pk}"]
    with pytest.raises(CommandError, match="1 could not be done"):
        call_command("audit_log", "rekey")


def test_missing_wrong_and_swapped_keys_have_their_own_errors_and_harm_nothing_else(keys: Set):
    first, second, third = _some()
    # The ring key is missing.
    keys(ENCRYPTION_KEYS=_ring("2026"))
    parts = [line.partition(":")[0] for line in contents(first)["closed"]]
    assert parts == ["sealed_actor", "sealed_data"]
    assert "Put the old key back" in contents(first)["closed"][0]
    keys(ENCRYPTION_KEYS=_ring("2025"))
    assert contents(first)["closed"] == []
    # A byte of a sealed value is flipped; a column is put into another record.
    raw: QuerySet[Record] = QuerySet(Record)
    flipped = bytearray(bytes(second.sealed_data or b""))
    flipped[-1] ^= 1
    raw.filter(pk=second.pk).update(sealed_data=bytes(flipped), sealed_actor=third.sealed_actor)
    second.refresh_from_db()
    assert [line.partition(":")[0] for line in contents(second)["closed"]] == [
        "sealed_actor",
        "sealed_data",
    ]
    assert "altered" in contents(second)["closed"][0]
    # The data key is nowhere.
    DataKey.objects.filter(pk=UUID(bytes=key_id_of(bytes(first.sealed_data or b"")))).delete()
    data_keys.forget()
    assert "There is no data key" in contents(first)["closed"][-1]
    assert contents(third)["actor"]["label"] == "user 2"


def _write_some(name: str) -> None:
    try:
        for n in range(25):
            with audit_log.acting(Actor(type="user", id=f"{name}{n}", label=f"{name} {n}")):
                Category.objects.create(name=f"{name} {n}")
    finally:
        connections.close_all()


def _relay_until(stop: threading.Event) -> None:
    try:
        while not stop.is_set():
            relay.relay("default")
    finally:
        connections.close_all()


def test_rotation_while_writers_and_relays_are_at_work(keys: Set):
    """Every key and every batch is under the new key in the end, and everything opens."""
    stop = threading.Event()
    keys(ENCRYPTION_KEYS=_ring("2025"))
    _some()
    keys(ENCRYPTION_KEYS=_ring("2026", "2025"))
    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(_write_some, name) for name in ("a", "b")]
        relaying = pool.submit(_relay_until, stop)
        rounds = [rekeying.rekey() for _ in range(3)]
        for writer in writers:
            writer.result(300)
        stop.set()
        relaying.result(300)
    testing.relay()
    assert sum(done.data_keys for done in rounds) >= 3
    assert [done.failures for done in rounds] == [{}, {}, {}]
    keys(ENCRYPTION_KEYS=_ring("2026"))
    records = Record.objects.filter(target_type="shop.category")
    assert records.count() == 53
    assert [contents(record)["closed"] for record in records] == [[]] * 53
    assert verify().ok


def test_check_names_the_key_that_is_missing(keys: Set):
    _some()
    keys(ENCRYPTION_KEYS=_ring("2026", "2025"))
    assert check_missing_keys(databases=["default"]) == []
    keys(ENCRYPTION_KEYS=_ring("2026"))
    (message,) = check_missing_keys(databases=["default"])
    assert message.id == "audit_log.E011"
    assert f"{DataKey.objects.count()} data keys" in message.msg
    assert check_missing_keys(databases=["other"]) == check_missing_keys() == []


# The index key.


def _found(text: str) -> int:
    return search(text).count()


def test_index_key_rotates(keys: Set, monkeypatch: pytest.MonkeyPatch):
    old, new = _random("index 1"), _random("index 2")
    keys(INDEX_KEY=old)
    records = _some()
    assert _found('actor:"user 1"') == 1
    keys(INDEX_KEY=[new, old])
    with audit_log.acting(get_user_model().objects.get(username="user 1")):
        Category.objects.create(name="later")
    testing.relay()
    assert _found('actor:"user 1"') == 2  # under either key
    monkeypatch.setattr(rekeying, "_PAGE", 2)
    done = rekeying.reindex()
    assert done.failures == {}
    assert done.records >= 4
    keys(INDEX_KEY=new)
    assert _found('actor:"user 1"') == 2
    records[1].refresh_from_db()
    assert records[1].actor_token == blind_index("actor", "user 1")
    assert verify().ok
    assert rekeying.reindex().records == 0
    assert Cursor.objects.filter(reader__startswith="reindex:").exists()


def test_every_token_is_made_anew(keys: Set):
    keys(INDEX_KEY=_random("index 1"))
    write([a_full_event()])
    before = Record.objects.values(*TOKENS).get()
    assert all(before.values())
    keys(INDEX_KEY=[_random("index 2"), _random("index 1")])
    rekeying.reindex()
    after = Record.objects.filter(stream="default").values(*TOKENS).get()
    assert not {*before.values()} & {*after.values()}
    keys(INDEX_KEY=[_random("index 1"), _random("index 2")])
    rekeying.reindex()
    assert Record.objects.filter(stream="default").values(*TOKENS).get() == before


def test_record_that_failed_gets_its_tokens_by_the_next_run(
    keys: Set, monkeypatch: pytest.MonkeyPatch
):
    """A ring key was missing: nothing may be left behind silently."""
    old, new = _random("index 1"), _random("index 2")
    keys(INDEX_KEY=old, ENCRYPTION_KEYS=_ring("2025"))
    _some()
    keys(INDEX_KEY=[new, old], ENCRYPTION_KEYS=_ring("2026"))
    monkeypatch.setattr(rekeying, "_PAGE", 2)
    for _ in range(2):
        done = rekeying.reindex()
        assert len(done.failures) == 3
        assert "Put the old key back" in next(iter(done.failures.values()))
    keys(INDEX_KEY=[new, old], ENCRYPTION_KEYS=_ring("2026", "2025"))
    assert rekeying.reindex().failures == {}
    keys(INDEX_KEY=new, ENCRYPTION_KEYS=_ring("2026", "2025"))
    assert _found('actor:"user 1"') == 1
    assert rekeying.reindex().records == 0


def test_tokens_of_the_erased_are_not_made_anew(keys: Set):
    keys(INDEX_KEY=_random("index 1"))
    records = _some(2)
    user = get_user_model().objects.get(username="user 0")
    erasure.erase(f"user:{user.pk}", "request")
    raw: QuerySet[Record] = QuerySet(Record)
    raw.filter(pk=records[0].pk).update(actor_token="late")  # by a relay that was at work
    raw.filter(pk=records[1].pk).update(sealed_actor=b"altered")
    keys(INDEX_KEY=[_random("index 2"), _random("index 1")])
    done = rekeying.reindex()
    assert list(done.failures) == [f"record {records[1].pk}"]
    records[0].refresh_from_db()
    assert records[0].actor_token is None


# The key service.


@pytest.fixture
def kms(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch, keys: Set) -> Any:
    """AWS KMS, played by a process of its own; a key there, and one of ours that it wrapped."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", s3_endpoint)
    client = boto3.client("kms", endpoint_url=s3_endpoint)
    key = client.create_key()["KeyMetadata"]["KeyId"]
    keys(KMS_KEY=key, ENCRYPTION_KEYS=_ring("2025"))
    yield client
    monkeypatch.undo()


def _new(capsys: pytest.CaptureFixture[str], kind: str) -> str:
    capsys.readouterr()
    call_command("audit_log", "rekey", "--new-key", kind, "--json")
    return str(json.loads(capsys.readouterr().out)["key"])


def test_ring_key_that_kms_wrapped(kms: Any, keys: Set, capsys: pytest.CaptureFixture[str]):
    wrapped = _new(capsys, "kms")
    assert wrapped.startswith("kms:")
    before = _some(1)
    keys(ENCRYPTION_KEYS={"kms": wrapped, **_ring("2025")})
    after = _some(1, first=1)[-1:]
    wrapping = {usage.name: usage.data_keys for usage in rekeying.usage()}
    assert wrapping["kms"] >= 1
    assert rekeying.rekey().failures == {}
    keys(ENCRYPTION_KEYS={"kms": wrapped})
    assert _names([*before, *after]) == ["category 0", "category 1"]
    assert verify().ok


def test_kms_that_is_down_blocks_no_capture_and_no_event_is_blamed(
    kms: Any, keys: Set, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    keys(ENCRYPTION_KEYS={"kms": _new(capsys, "kms")})
    records = _some(1)
    endpoint = kms.meta.endpoint_url
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", "http://127.0.0.1:9")  # nobody listens
    keys(ENCRYPTION_KEYS={"kms": _wrapped_in_force()})
    with context.changed(actor=Actor(type="user", id="new")):
        Category.objects.create(name="while it was down")  # encrypted in the outbox all the same
    with pytest.raises(KeysUnavailable, match="cannot be asked now"):
        relay.relay()
    row = Outbox.objects.get()
    assert (row.attempts, row.parked_at) == (0, None)
    assert "cannot be asked now" in contents(records[0])["closed"][0]
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", endpoint)
    keys(ENCRYPTION_KEYS={"kms": _wrapped_in_force()})
    testing.relay()
    assert Outbox.objects.count() == 0
    assert Record.objects.filter(actor_id="new").count() == 1
    assert contents(records[0])["closed"] == []


def test_kms_that_does_not_answer_is_asked_once_a_page(
    kms: Any, keys: Set, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Else a page of fifty people waits fifty times, and a rotation for days."""
    keys(ENCRYPTION_KEYS={"kms": _new(capsys, "kms"), **_ring("2025")})
    records = _some(3)
    keys(ENCRYPTION_KEYS={**_ring("2025"), "kms": _wrapped_in_force()})
    asked = []

    def refuse(_wrapped: bytes) -> bytes:
        asked.append(1)
        raise KeysUnavailable("cannot be asked now")

    with monkeypatch.context() as patch:
        patch.setattr("audit_log.privacy.kms.unwrap", refuse)
        assert set(labels(records).values()) == {(None, None)}
        for work in (rekeying.rekey, rekeying.reindex):
            with pytest.raises(KeysUnavailable):
                work()
        assert len(asked) == 1
    later = time.monotonic() + encryption._UNAVAILABLE_SECONDS + 1
    monkeypatch.setattr("audit_log.privacy.encryption.time.monotonic", lambda: later)
    assert rekeying.rekey().failures == {}
    assert rekeying.reindex().failures == {}


def _wrapped_in_force() -> str:
    keys = get_settings().encryption_keys.values()
    (wrapped,) = (key for key in keys if isinstance(key, WrappedKey))
    return "kms:" + base64.b64encode(wrapped).decode()


def test_unwrapped_key_is_known_for_minutes(
    kms: Any, keys: Set, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    keys(ENCRYPTION_KEYS={"kms": _new(capsys, "kms")})
    sealed = key_ring().encrypt("data-key", b"secret")
    asked = []

    def refuse(_wrapped: bytes) -> bytes:
        asked.append(1)
        raise KeysUnavailable("taken away")

    monkeypatch.setattr("audit_log.privacy.kms.unwrap", refuse)
    assert key_ring().decrypt("data-key", sealed) == b"secret"
    assert asked == []
    later = time.monotonic() + encryption._UNWRAPPED_SECONDS + 1
    monkeypatch.setattr("audit_log.privacy.encryption.time.monotonic", lambda: later)
    with pytest.raises(KeysUnavailable, match="taken away"):
        key_ring().decrypt("data-key", sealed)


def test_key_that_kms_does_not_know_is_not_tried_for_ever(kms: Any, keys: Set):
    keys(ENCRYPTION_KEYS={"kms": "kms:" + base64.b64encode(b"nonsense" * 20).decode()})
    with pytest.raises((UnknownKey, KeysUnavailable), match="AWS KMS"):
        key_ring().encrypt("data-key", b"x")


# The verb.


def test_verb_says_what_is_still_needed(keys: Set, capsys: pytest.CaptureFixture[str]):
    _some()
    keys(ENCRYPTION_KEYS=_ring("2026", "2025"))
    call_command("audit_log", "rekey", "--dry-run")
    said = capsys.readouterr().out
    assert "2026: 0 data keys, 0 batches (nothing needs it)" in said
    call_command("audit_log", "rekey")
    said = capsys.readouterr().out
    assert "are under 2026 now" in said
    assert "2025: 0 data keys, 0 batches (nothing needs it)" in said
    keys(ENCRYPTION_KEYS=_ring("2027"))
    call_command("audit_log", "rekey", "--dry-run")
    assert "not in the settings" in capsys.readouterr().out


def test_new_random_key(capsys: pytest.CaptureFixture[str], settings: Any):
    one, other = _new(capsys, "random"), _new(capsys, "random")
    assert one != other
    assert len(base64.b64decode(one)) == 32
    with pytest.raises(CommandError, match="KMS_KEY"):
        call_command("audit_log", "rekey", "--new-key", "kms")
