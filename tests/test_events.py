"""Ids, times and the encoding of batches."""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_log import events
from audit_log.events import Actor, Event, Redaction, Request, Target
from audit_log.exceptions import EncodingError, UnknownVersion

GOLDEN = Path(__file__).parent / "golden" / "batch.json"
MOMENT = datetime(2026, 11, 24, 4, 5, 6, 789012, tzinfo=UTC)
FULL = Event(
    version=1,
    id=uuid.UUID("01a20bd3-8504-719a-9707-321ef8cc4a75"),
    occurred_at=MOMENT,
    action="update",
    outcome="success",
    actor=Actor(type="user", id="7", label="ada", email="ada@example.com", via="key:9"),
    target=Target(type="bank.payment", id="42", label="Payment 42"),
    tenant="acme",
    changes={"amount": ["1.10", "2.20"], "note": [None, "hello \u2028 \U0001f600"]},
    labels={"status": ["Pending", None]},
    affected=1,
    request=Request(
        id="r-1",
        method="POST",
        route="pay",
        path="/accounts/1/pay/",
        query="a=1",
        status=302,
        duration_ms=12,
        ip="203.0.113.9",
        user_agent="Mozilla/5.0",
        session="0" * 32,
        body={"amount": "2.20", "nested": [1, True, None]},
    ),
    trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
    parent_id="p-1",
    source="orm",
    reason="ticket 42",
    data={"gateway": "x", "n": 3},
    redactions=(Redaction("changes.password", "name:secret"),),
    sealed=("changes.note", "data.gateway"),
    subject="bank.customer:5",
)


def test_a_full_batch_is_encoded_as_the_golden_file_says(monkeypatch: pytest.MonkeyPatch) -> None:
    emitter = events.Emitter()
    emitter.name = "0123456789abcdef"
    emitter.numbers(17)
    monkeypatch.setattr(events, "_emitter", emitter)
    smallest = Event(version=1, id=FULL.id, occurred_at=MOMENT, action="request", source="request")
    encoded = events.encode_batch([events.encode_event(e) for e in (FULL, smallest)], "bank")
    assert encoded == GOLDEN.read_bytes().rstrip(b"\n")


def test_the_golden_batch_is_decoded_with_its_emitter_and_numbers() -> None:
    full, smallest = events.decode_batch(GOLDEN.read_bytes())
    assert (full.emitter, full.emitter_seq, full.service) == ("0123456789abcdef", 17, "bank")
    assert smallest.emitter_seq == 18
    assert msgspec.structs.replace(full, emitter=None, emitter_seq=None, service=None) == FULL


def test_a_decoded_event_is_encoded_again_under_its_first_number() -> None:
    _, second = events.decode_batch(GOLDEN.read_bytes())
    assert events.decode_batch(events.encode_again(second)) == [second]


def test_numbers_are_taken_only_by_events_that_can_be_encoded() -> None:
    before = events.emitter().numbers(0)
    bad = msgspec.structs.replace(FULL, data={"x": object()})
    with pytest.raises(EncodingError, match=str(FULL.id)):
        events.encode_event(bad)
    assert events.emitter().numbers(0) == before


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b'{"version":"x"}', b"\xff\xfe", b"null"])
def test_bytes_that_are_no_batch_are_refused(payload: bytes) -> None:
    with pytest.raises(EncodingError):
        events.decode_batch(payload)


def test_a_newer_batch_and_a_newer_event_are_refused_by_version() -> None:
    batch = json.loads(GOLDEN.read_bytes())
    with pytest.raises(UnknownVersion, match="version 2"):
        events.decode_batch(json.dumps({**batch, "version": 2, "events": "new"}).encode())
    batch["events"][0]["version"] = 9
    with pytest.raises(UnknownVersion, match="version 9"):
        events.decode_batch(json.dumps(batch).encode())


def test_ids_increase_within_the_process_and_are_of_version_7() -> None:
    stamps = [events.emitter().stamp() for _ in range(5_000)]
    ids = [id_ for id_, _ in stamps]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
    assert {id_.version for id_ in ids} == {7}
    assert {id_.variant for id_ in ids} == {uuid.RFC_4122}
    assert all(events.id_agrees(id_, moment) for id_, moment in stamps)


def test_ids_of_many_threads_are_all_different() -> None:
    found: list[uuid.UUID] = []

    def take() -> None:
        found.extend([events.emitter().stamp()[0] for _ in range(2_000)])

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 16_000


def test_a_clock_set_back_makes_ids_that_agree_with_it_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1_800_000_000_000_000_000
    emitter = events.Emitter()
    monkeypatch.setattr(time, "time_ns", lambda: now)
    first, _ = emitter.stamp()
    monkeypatch.setattr(time, "time_ns", lambda: now - 500_000_000)
    slightly_back, moment = emitter.stamp()
    assert slightly_back > first
    assert events.id_agrees(slightly_back, moment)
    monkeypatch.setattr(time, "time_ns", lambda: now - 3_600_000_000_000)
    far_back, moment = emitter.stamp()
    assert far_back < first
    assert events.id_agrees(far_back, moment)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_has_another_emitter_and_other_ids() -> None:
    parent = events.emitter()
    parent.stamp()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - another process
        os.write(writing, f"{events.emitter().name} {events.emitter().stamp()[0]}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    name, id_ = os.read(reading, 200).decode().split()
    os.close(reading)
    os.close(writing)
    assert name != parent.name
    own = {parent.stamp()[0] for _ in range(100)}
    assert uuid.UUID(id_) not in own


@given(st.datetimes(timezones=st.just(UTC)).filter(lambda moment: 1 < moment.year < 9999))
def test_a_time_is_written_with_microseconds_in_utc_and_read_back(moment: datetime) -> None:
    text = events.format_time(moment)
    assert datetime.fromisoformat(text) == moment
    assert len(text) == 27
    elsewhere = moment.astimezone(timezone(timedelta(hours=5, minutes=45)))
    assert events.format_time(elsewhere) == text


def test_a_naive_time_is_refused() -> None:
    with pytest.raises(ValueError, match="naive"):
        events.format_time(datetime(2026, 1, 1))  # noqa: DTZ001


def test_an_id_of_another_moment_or_version_does_not_agree() -> None:
    id_, moment = events.emitter().stamp()
    assert not events.id_agrees(id_, moment + timedelta(seconds=10))
    assert not events.id_agrees(uuid.uuid4(), moment)
    assert events.id_agrees(events.emitter().id_for(MOMENT), MOMENT)
