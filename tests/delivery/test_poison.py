"""Batches and events that cannot be stored: kept, tried again, parked, and in nobody's way."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from django.db import DataError, connection, transaction

from audit_log import context, signals
from audit_log.delivery import parking
from audit_log.delivery.relay import relay
from audit_log.events import Event
from audit_log.ledger import scrubbing, writer
from audit_log.models import DataKey, Outbox, Record
from audit_log.privacy.encryption import key_ring
from audit_log.reading.contents import contents
from audit_log.recording import outbox
from tests.shop.models import Category, Person

OLD_KEY = "b2xkLWtleS1vZi10aGlydHktdHdvLWJ5dGVzLWhlcmU="
NEW_KEY = "bmV3LWtleS1vZi10aGlydHktdHdvLWJ5dGVzLWhlcmU="


def _put(payload: bytes, event_count: int = 1) -> Outbox:
    return Outbox.objects.create(
        created_at=datetime.now(UTC), event_count=event_count, payload=payload
    )


def _batch(*events: Event) -> bytes:
    (row,) = outbox.rows_of(events)
    return row.payload


def _probe(reason: str = "why", **values: Any) -> Event:
    return context.new_event("probe.fired", source="explicit", reason=reason, **values)


def _stored(action: str = "probe.fired") -> set[Any]:
    return {contents(row)["reason"] for row in Record.objects.filter(action=action)}


def _encrypted(value: Any) -> bytes:
    return key_ring().encrypt(outbox.PURPOSE, msgspec.json.encode(value))


UNREADABLE: dict[str, tuple[Callable[[], bytes], str]] = {
    "noise": (lambda: b"\x01" + bytes(200), "UnknownKey"),
    "empty": (lambda: b"", "TamperedValue"),
    "altered": (lambda: _batch(_probe())[:-1] + b"\0", "TamperedValue"),
    "no batch": (lambda: _encrypted(["no", "batch"]), "EncodingError"),
    "newer batch": (lambda: _encrypted({"version": 2, "events": []}), "UnknownVersion"),
    "wrong type": (
        lambda: _encrypted({"version": 1, "events": [{"version": 1, "id": 5}]}),
        "EncodingError",
    ),
}


@pytest.fixture
def parked() -> Iterator[list[int]]:
    """The batches that the signal `parked` told of."""
    ids: list[int] = []

    def note(outbox_id: int, **_: Any) -> None:
        ids.append(outbox_id)

    signals.parked.connect(note)
    yield ids
    signals.parked.disconnect(note)


@pytest.mark.parametrize("kind", UNREADABLE)
@pytest.mark.django_db(transaction=True)
def test_unreadable_batch_stops_nobody(kind: str):
    """K6."""
    make, reason = UNREADABLE[kind]
    poisoned = _put(make())
    _put(_batch(_probe("behind")))
    relay()
    assert _stored() == {"behind"}
    row = Outbox.objects.get()
    assert (row.pk, row.attempts, row.parked_at) == (poisoned.pk, 1, None)
    assert str(row.parked_reason).startswith(f"{reason}: ")
    assert row.next_attempt_at is not None
    assert row.next_attempt_at > datetime.now(UTC)
    relay()  # not yet due
    assert Outbox.objects.get().attempts == 1


@pytest.mark.django_db(transaction=True)
def test_batch_is_parked_after_ten_attempts(parked: list[int], try_again: Callable[[], None]):
    """K6: each wait is longer than the last, and the end is on record."""
    row = _put(b"nothing that can be read")
    relay()
    waits = []
    for _ in range(parking.MAX_ATTEMPTS - 2):
        before = datetime.now(UTC)
        try_again()
        after = datetime.now(UTC)
        row.refresh_from_db()
        assert row.next_attempt_at is not None
        waits.append((row.next_attempt_at - after, row.next_attempt_at - before))
    assert all(shortest < longest for (shortest, _), (_, longest) in itertools.pairwise(waits))
    assert parked == []
    try_again()
    row.refresh_from_db()
    assert parked == [row.pk]
    assert (row.attempts, row.parked_at is not None) == (parking.MAX_ATTEMPTS, True)
    relay()
    assert Outbox.objects.get() == row
    record = Record.objects.get(action="audit_log.parked")
    assert record.stream == "audit_log"
    assert contents(record)["reason"] == row.parked_reason
    assert contents(record)["data"] == {"batch": row.pk, "database": "default", "events": 1}


@pytest.mark.django_db(transaction=True)
def test_parked_batch_is_stored_once_its_key_is_back(settings: Any, try_again: Callable[[], None]):
    """K6."""
    base = settings.AUDIT_LOG
    settings.AUDIT_LOG = {**base, "ENCRYPTION_KEYS": {"old": OLD_KEY}}
    _put(_batch(_probe("under the old key")))
    settings.AUDIT_LOG = {**base, "ENCRYPTION_KEYS": {"new": NEW_KEY}}
    relay()
    for _ in range(parking.MAX_ATTEMPTS):
        try_again()
    row = Outbox.objects.get()
    assert row.parked_at is not None
    assert "which holds: new" in str(row.parked_reason)
    assert _stored() == set()
    settings.AUDIT_LOG = {**base, "ENCRYPTION_KEYS": {"new": NEW_KEY, "old": OLD_KEY}}
    relay()
    assert _stored() == set()  # until somebody retries it
    Outbox.objects.update(parked_at=None, next_attempt_at=None)
    relay()
    assert _stored() == {"under the old key"}
    assert not Outbox.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_event_that_cannot_be_prepared_is_set_apart_from_its_companions(
    monkeypatch: pytest.MonkeyPatch, try_again: Callable[[], None]
):
    """poison_row."""
    original: Any = vars(scrubbing)["scrub"]

    def raising(text: str, **options: Any) -> Any:
        if "POISON" in text and not healed:
            raise RuntimeError("this detector cannot take 4111 1111 1111 1111")
        return original(text, **options)

    healed: list[bool] = []
    monkeypatch.setattr(scrubbing, "scrub", raising)
    reasons = [f"event {n}" for n in range(499)]
    poison = "POISON token"  # what no detector could find anything in is not scrubbed at all
    events = [_probe(reason) for reason in [*reasons[:250], poison, *reasons[250:]]]
    _put(_batch(*events), event_count=500)
    moved = relay()
    assert (moved.events, moved.failed) == (499, 1)
    assert _stored() == set(reasons)
    row = Outbox.objects.get()
    assert (row.event_count, row.attempts) == (1, 1)
    assert "4111 1111" not in str(row.parked_reason)
    assert str(row.parked_reason).startswith("RuntimeError: this detector cannot take ")
    healed.append(True)
    try_again()
    assert _stored() == {*reasons, poison}
    assert not Outbox.objects.exists()
    # It is the same event still: same id, same place in its emitter's count.
    assert Record.objects.filter(emitter_seq__isnull=False).count() == 500
    assert (
        Record.objects.get(pk=events[250].id).emitter == Record.objects.get(pk=events[0].id).emitter
    )


@pytest.mark.django_db(transaction=True)
def test_event_of_an_erased_person_holds_back_nobody_else():
    person = Person.objects.create(nickname="erased", full_name="A Person")
    relay()
    (key,) = DataKey.objects.filter(scope=f"subject:shop.person:{person.pk}")
    with transaction.atomic():
        person.full_name = "Another Name"
        person.save()
        Category.objects.create(name="fine")
    DataKey.objects.filter(pk=key.pk).update(wrapped=None, destroyed_at=datetime.now(UTC))
    relay()
    assert Record.objects.filter(target_type="shop.category").count() == 1
    waited = Record.objects.get(target_type="shop.person", action="update")
    assert waited.sealed_data is None
    assert {"path": "sealed_data", "rule": "erased"} in (waited.redactions or [])
    assert Outbox.objects.count() == 0
    assert DataKey.objects.filter(scope=key.scope).count() == 1


@pytest.mark.parametrize("error", [DataError, OverflowError, ValueError])
@pytest.mark.django_db(transaction=True)
def test_event_that_the_database_refuses_is_found_and_waits_alone(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch, try_again: Callable[[], None]
):
    original = writer.write

    def refusing(prepared: Any, using: str) -> Any:
        if any(item.event.reason == "too much" for item in prepared):
            raise error("out of range")
        return original(prepared, using)

    monkeypatch.setattr(writer, "write", refusing)
    _put(_batch(_probe("before")))
    _put(_batch(_probe("beside"), _probe("too much"), _probe("beside too")), event_count=3)
    _put(_batch(_probe("behind")))
    relay()
    assert _stored() == {"before", "behind"}
    assert Outbox.objects.get().attempts == 1
    for _ in range(3):
        try_again()
    assert _stored() == {"before", "behind", "beside", "beside too"}
    row = Outbox.objects.get()
    assert (row.event_count, row.parked_at) == (1, None)
    monkeypatch.setattr(writer, "write", original)
    try_again()
    assert "too much" in _stored()
    assert not Outbox.objects.exists()


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.django_db(transaction=True)
def test_ledger_that_is_down_is_no_batchs_fault(count: int):
    """K5. A table that is missing stands for a database that is."""
    for n in range(count):
        _put(_batch(_probe(str(n))))
    table = Record._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO {table}_away")
    try:
        for _ in range(12):
            with pytest.raises(Exception, match=table):
                relay()
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {table}_away RENAME TO {table}")
    assert set(Outbox.objects.values_list("attempts", "parked_at")) == {(0, None)}
    relay()
    assert _stored() == set("01234"[:count])


@pytest.mark.django_db(transaction=True)
def test_other_event_under_a_stored_id_is_parked_at_once():
    event = _probe("the true one")
    _put(_batch(event))
    relay()
    _put(_batch(msgspec.structs.replace(event, action="probe.forged")))
    moved = relay()
    assert moved.parked == 1
    row = Outbox.objects.get()
    assert row.parked_at is not None
    assert str(row.parked_reason).startswith("conflict: ")
    assert _stored() == {"the true one"}
    assert not Record.objects.filter(action="probe.forged").exists()


@pytest.mark.django_db(transaction=True)
def test_id_that_does_not_agree_with_its_moment_is_parked():
    event = _probe()
    early = event.occurred_at - timedelta(days=1)
    _put(_batch(msgspec.structs.replace(event, occurred_at=early)))
    assert relay().parked == 1
    assert str(Outbox.objects.get().parked_reason).startswith("forged: ")
    assert _stored() == set()


@pytest.mark.django_db(transaction=True)
def test_parking_twice_is_recorded_twice_and_ends():
    for _ in range(2):
        event = _probe()
        _put(_batch(msgspec.structs.replace(event, occurred_at=datetime(2020, 1, 1, tzinfo=UTC))))
    relay()
    assert Record.objects.filter(action="audit_log.parked").count() == 2
    assert Outbox.objects.count() == 2


def test_reason_quotes_no_secret_and_has_an_end():
    error = ValueError("bad value: Bearer abcdefghijklmnopqrstuvwxyz0123456789\nDETAIL: more")
    reason = parking.reason_of(error)
    assert "abcdefghijklmnop" not in reason
    assert "DETAIL" not in reason
    assert len(parking.reason_of(ValueError("x" * 10_000))) <= 500
