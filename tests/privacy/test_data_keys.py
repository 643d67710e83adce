"""Data-encryption keys: made apart, shared by relays, destroyed for good."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext

from audit_log.exceptions import UnknownKey
from audit_log.models import DataKey
from audit_log.privacy import data_keys
from audit_log.privacy.encryption import key_ring
from tests.faults.workers import wait_until

OLD = "b2xkLWtleS1vZi10aGlydHktdHdvLWJ5dGVzLWhlcmU="
NEW = "bmV3LWtleS1vZi10aGlydHktdHdvLWJ5dGVzLWhlcmU="
SCOPE = "subject:auth.user:7"


@pytest.fixture(autouse=True)
def cold_cache() -> None:
    data_keys.forget()


def _sessions() -> int:
    table, mine = {
        "postgresql": ("pg_stat_activity", "datname = current_database()"),
        "mysql": ("information_schema.processlist", "db = DATABASE()"),
    }[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table} WHERE {mine}")
        return int(cursor.fetchone()[0])


def _expect_no_more_than(sessions: int) -> None:
    """A server ends a session a moment after its client."""
    wait_until(lambda: _sessions() <= sessions, "a session is left")


def _destroy(scope: str = SCOPE) -> None:
    assert DataKey.objects.filter(scope=scope).update(wrapped=None, destroyed_at=datetime.now(UTC))


def test_scopes_tell_people_streams_and_months_apart():
    november = datetime(2026, 11, 30, 23, 59, tzinfo=UTC)
    december = datetime(2026, 12, 1, tzinfo=UTC)
    assert data_keys.stream_scope("default", november) == "stream:default:2026-11"
    assert data_keys.stream_scope("default", november) != data_keys.stream_scope(
        "default", december
    )
    assert data_keys.subject_scope("auth.user:7") == SCOPE
    longest = data_keys.subject_scope("x" * 1_000)
    assert len(longest) <= 255
    assert DataKey._meta.get_field("scope").max_length == 255


def test_long_subjects_do_not_share_a_key():
    one, other = ("x" * 300 + end for end in "ab")
    assert data_keys.subject_scope(one) != data_keys.subject_scope(other)


@pytest.mark.django_db(transaction=True)
def test_key_is_made_once_and_found_by_scope_and_id():
    first = data_keys.key_for(SCOPE, "default", 0)
    data_keys.forget()
    again = data_keys.key_for(SCOPE, "default", 0)
    assert first.id == again.id
    sealed = first.cipher.encrypt(bytes(12), b"text", b"")
    assert data_keys.cipher_for(first.id, "default").decrypt(bytes(12), sealed, b"") == b"text"
    row = DataKey.objects.get()
    assert row.pk.version == 7
    assert row.created_at.tzinfo is not None


@pytest.mark.django_db(transaction=True)
def test_key_survives_the_rollback_of_the_relay_that_made_it():
    if connection.vendor == "sqlite":
        pytest.skip("On SQLite the relay seals before it begins its transaction.")
    before = _sessions()
    with transaction.atomic():
        made = data_keys.key_for(SCOPE, "default", 0)
        transaction.set_rollback(True)
    _expect_no_more_than(before)
    data_keys.forget()
    assert data_keys.key_for(SCOPE, "default", 0).id == made.id
    assert DataKey.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_key_made_apart_leaves_no_session_even_when_it_fails(monkeypatch: pytest.MonkeyPatch):
    """L3."""
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has no sessions.")
    before = _sessions()
    with connections["default"].cursor() as cursor:
        cursor.execute("ALTER TABLE audit_log_datakey RENAME COLUMN since TO gone")
    try:
        with pytest.raises(Exception, match="since"), transaction.atomic():
            data_keys._create(SCOPE, 0, 0, "default")
    finally:
        with connections["default"].cursor() as cursor:
            cursor.execute("ALTER TABLE audit_log_datakey RENAME COLUMN gone TO since")
    _expect_no_more_than(before)


@pytest.mark.django_db
def test_key_made_in_a_test_case_vanishes_with_it():
    sessions = 0 if connection.vendor == "sqlite" else _sessions()
    with transaction.atomic():
        key = data_keys.key_for(SCOPE, "default", 0)
        transaction.set_rollback(True)
    assert not DataKey.objects.exists()
    assert data_keys.key_for(SCOPE, "default", 0).id != key.id
    if connection.vendor != "sqlite":
        _expect_no_more_than(sessions)


@pytest.mark.django_db(transaction=True)
def test_relays_that_need_the_same_new_key_share_it():
    barrier = threading.Barrier(4)

    def work() -> list[bytes]:
        try:
            return [_make(n) for n in range(10)]
        finally:
            connection.close()

    def _make(n: int) -> bytes:
        barrier.wait(300)
        # As if each were a process of its own: past the cache.
        with nullcontext() if connection.vendor == "sqlite" else transaction.atomic():
            return data_keys._create(f"scope {n}", 0, 0, "default").pk.bytes

    with ThreadPoolExecutor(4) as pool:
        found = [future.result(300) for future in [pool.submit(work) for _ in range(4)]]
    assert found[0] == found[1] == found[2] == found[3]
    assert DataKey.objects.count() == 10


@pytest.mark.django_db(transaction=True)
def test_destroyed_key_opens_nothing_and_is_not_made_again():
    key = data_keys.key_for(SCOPE, "default", 0)
    _destroy()
    data_keys.forget()
    with pytest.raises(UnknownKey, match="Erased on"):
        data_keys.cipher_for(key.id, "default")
    with pytest.raises(UnknownKey, match="Erased on"):
        data_keys.key_for(SCOPE, "default", 0)
    with pytest.raises(UnknownKey, match="Erased on"):
        data_keys.key_for(SCOPE, "default", data_keys.RENEW_AFTER + 1)
    assert DataKey.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_claim_forgets_keys_that_are_destroyed_or_gone():
    data_keys.key_for(SCOPE, "default", 0)
    gone = data_keys.key_for("gone", "default", 0)
    kept = data_keys.key_for("kept", "default", 0)
    _destroy()
    DataKey.objects.filter(scope="gone").delete()
    with CaptureQueriesContext(connection) as queries:
        data_keys.refresh([SCOPE, "gone", "kept", "never made"], "default")
    assert len(queries) == 1
    with pytest.raises(UnknownKey):
        data_keys.key_for(SCOPE, "default", 0)
    assert data_keys.key_for("gone", "default", 0).id != gone.id
    with CaptureQueriesContext(connection) as queries:
        assert data_keys.key_for("kept", "default", 0).id == kept.id
    assert len(queries) == 0


@pytest.mark.django_db(transaction=True)
def test_claim_reads_all_its_keys_with_one_query():
    scopes = [f"scope {n}" for n in range(20)]
    for scope in scopes:
        data_keys.key_for(scope, "default", 0)
    data_keys.forget()
    with CaptureQueriesContext(connection) as queries:
        data_keys.refresh(scopes, "default")
        for scope in scopes:
            data_keys.key_for(scope, "default", 0)
    assert len(queries) == 1


@pytest.mark.django_db(transaction=True)
def test_page_of_records_opens_its_keys_with_one_query():
    keys = [data_keys.key_for(f"scope {n}", "default", 0) for n in range(20)]
    _destroy("scope 0")
    data_keys.forget()
    with CaptureQueriesContext(connection) as queries:
        data_keys.preload([key.id for key in keys], "default")
        for key in keys[1:]:
            data_keys.cipher_for(key.id, "default")
        data_keys.preload([key.id for key in keys[1:]], "default")
    assert len(queries) == 1


@pytest.mark.django_db(transaction=True)
def test_key_that_cannot_be_unwrapped_spoils_no_page(settings: Any):
    base = settings.AUDIT_LOG
    settings.AUDIT_LOG = {**base, "ENCRYPTION_KEYS": {"old": OLD}}
    lost = data_keys.key_for("lost", "default", 0)
    settings.AUDIT_LOG = {**base, "ENCRYPTION_KEYS": {"new": NEW}}
    fine = data_keys.key_for("fine", "default", 0)
    data_keys.forget()
    with CaptureQueriesContext(connection) as queries:
        data_keys.preload([lost.id, fine.id], "default")
        data_keys.cipher_for(fine.id, "default")
    assert len(queries) == 1
    with pytest.raises(UnknownKey, match="which holds: new"):
        data_keys.cipher_for(lost.id, "default")


@pytest.mark.django_db(transaction=True)
def test_rotated_ring_still_opens_old_data_keys(settings: Any):
    base = settings.AUDIT_LOG
    settings.AUDIT_LOG = {**base, "ENCRYPTION_KEYS": {"old": OLD}}
    key = data_keys.key_for(SCOPE, "default", 0)
    sealed = key.cipher.encrypt(bytes(12), b"text", b"")
    settings.AUDIT_LOG = {**base, "ENCRYPTION_KEYS": {"new": NEW, "old": OLD}}
    assert data_keys.key_for(SCOPE, "default", 0).id == key.id
    assert data_keys.cipher_for(key.id, "default").decrypt(bytes(12), sealed, b"") == b"text"


@pytest.mark.django_db(transaction=True)
def test_wrapped_key_is_bound_to_its_row():
    data_keys.key_for("one", "default", 0)
    data_keys.key_for("other", "default", 0)
    one, other = DataKey.objects.order_by("scope")
    DataKey.objects.filter(pk=one.pk).update(wrapped=other.wrapped)
    data_keys.forget()
    with pytest.raises(Exception, match="altered"):
        data_keys.cipher_for(one.pk.bytes, "default")


@pytest.mark.django_db(transaction=True)
def test_cached_key_is_read_again_after_minutes(monkeypatch: pytest.MonkeyPatch):
    now = [1_000.0]
    monkeypatch.setattr("audit_log.privacy.data_keys.time.monotonic", lambda: now[0])
    key = data_keys.key_for(SCOPE, "default", 0)
    _destroy()
    now[0] += data_keys._CACHE_SECONDS - 1
    assert data_keys.key_for(SCOPE, "default", 0).id == key.id
    assert data_keys.cipher_for(key.id, "default") is key.cipher
    now[0] += 2
    with pytest.raises(UnknownKey):
        data_keys.key_for(SCOPE, "default", 0)
    with pytest.raises(UnknownKey):
        data_keys.cipher_for(key.id, "default")


@pytest.mark.django_db(transaction=True)
def test_key_is_renewed_before_its_nonces_run_out():
    first = data_keys.key_for(SCOPE, "default", 10)
    almost = data_keys.key_for(SCOPE, "default", 9 + data_keys.RENEW_AFTER)
    second = data_keys.key_for(SCOPE, "default", 10 + data_keys.RENEW_AFTER)
    assert first.id == almost.id != second.id
    assert list(DataKey.objects.order_by("generation").values_list("generation", "since")) == [
        (0, 10),
        (1, 10 + data_keys.RENEW_AFTER),
    ]
    assert data_keys.cipher_for(first.id, "default") is not None
    data_keys.forget()
    assert data_keys.key_for(SCOPE, "default", 11 + data_keys.RENEW_AFTER).id == second.id


@pytest.mark.django_db(transaction=True)
def test_opening_an_old_record_does_not_bring_its_old_key_back_into_use():
    first = data_keys.key_for(SCOPE, "default", 0)
    second = data_keys.key_for(SCOPE, "default", data_keys.RENEW_AFTER)
    data_keys.forget()
    data_keys.cipher_for(first.id, "default")
    assert data_keys.key_for(SCOPE, "default", data_keys.RENEW_AFTER - 1).id == second.id


@pytest.mark.django_db(transaction=True)
def test_cache_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(data_keys, "_CACHE_ENTRIES", 5)
    for n in range(20):
        data_keys.key_for(f"scope {n}", "default", 0)
    assert len(data_keys._by_id) <= 5
    assert len(data_keys._by_scope) <= 5


@pytest.mark.django_db(transaction=True)
def test_key_is_in_no_table_in_clear(monkeypatch: pytest.MonkeyPatch):
    secret, urandom = bytes(range(32)), os.urandom
    monkeypatch.setattr(os, "urandom", lambda n: secret if n == len(secret) else urandom(n))
    row = data_keys._create(SCOPE, 0, 0, "default")
    wrapped = bytes(row.wrapped or b"")
    assert secret not in wrapped
    assert key_ring().decrypt("data-key", wrapped, row.pk.bytes) == secret
