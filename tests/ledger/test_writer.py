"""Numbering, hashing and inserting, and what is refused."""

from __future__ import annotations

import datetime
import uuid

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from audit_log import testing
from audit_log.events import Actor, emitter, encode_batch, encode_event
from audit_log.ledger import heads, writer
from audit_log.ledger.merkle import EMPTY_ROOT, TILE_BYTES
from audit_log.ledger.records import Place, prepare
from audit_log.ledger.verification import verify
from audit_log.models import DataKey, Outbox, Record, Stream, Tile
from audit_log.privacy import data_keys
from audit_log.privacy.encryption import key_ring
from audit_log.recording import outbox
from tests.ledger.building import (
    a_full_event,
    a_long_stream,
    an_event,
    head,
    naive_root,
    overwrite,
    sql,
    write,
)

pytestmark = pytest.mark.django_db
NOW = datetime.datetime.now(datetime.UTC)


def numbers(stream: str = "default") -> list[int]:
    rows = Record.objects.filter(stream=stream).order_by("sequence")
    return list(rows.values_list("sequence", flat=True))


def test_sequences_are_gapless_from_zero_over_many_writes():
    for size in (1, 3, 0, 2, 5):
        write([an_event() for _ in range(size)])
    assert numbers() == list(range(11))
    assert head().size == 11


def test_order_within_a_write_is_the_order_of_the_events():
    events = [an_event(affected=n) for n in range(20)]
    write(events)
    ids = Record.objects.order_by("sequence").values_list("id", flat=True)
    assert list(ids) == [event.id for event in events]


def test_streams_are_numbered_apart_in_one_write():
    events = [an_event() for _ in range(5)]
    heads.ensure(["default", "security"], "default")
    places = [Place(name, 0, "default") for name in ("default", "security")]
    prepared = [prepare(event, places[n % 2]) for n, event in enumerate(events)]
    with transaction.atomic():
        result = writer.write(prepared, "default")
    assert result.stored == 5
    assert (numbers("default"), numbers("security")) == ([0, 1, 2], [0, 1])
    assert verify().ok


@pytest.mark.parametrize("size", [0, 1, 2, 5, 255, 256, 257, 520])
def test_root_is_the_root_over_the_stored_columns(size):
    heads.ensure(["default"], "default")
    a_long_stream(size)
    assert heads.frontier_of(head()).root() == naive_root()
    assert size or naive_root() == EMPTY_ROOT


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.integers(0, 130), min_size=1, max_size=6))
def test_root_does_not_depend_on_how_the_events_were_batched(sizes):
    with transaction.atomic():
        for size in sizes:
            write([an_event() for _ in range(size)])
        assert heads.frontier_of(head()).root() == naive_root()
        assert numbers() == list(range(sum(sizes)))
        transaction.set_rollback(True)


def test_only_full_tiles_are_stored():
    a_long_stream(255)
    assert Tile.objects.count() == 0
    write([an_event()])
    assert [(t.level, t.index) for t in Tile.objects.all()] == [(0, 0)]
    a_long_stream(600)
    tiles = list(Tile.objects.order_by("index"))
    assert [(t.level, t.index) for t in tiles] == [(0, 0), (0, 1), (0, 2)]
    assert {len(t.hashes) for t in tiles} == {TILE_BYTES}
    assert len(head().partial) == (856 % 256 + 3) * 32


def test_full_record_reads_back_as_it_was_hashed():
    """Whatever the database does to a value, the leaf is that of what it gives back."""
    write([a_full_event(n) for n in range(3)])
    assert heads.frontier_of(head()).root() == naive_root()
    assert verify().ok


def test_same_event_twice_is_stored_once():
    """K7."""
    event = a_full_event()
    assert (write([event]).stored, write([event]).stored) == (1, 0)
    result = write([event, a_full_event(1)])
    assert (result.stored, result.repeated, result.refused) == (1, 1, [])
    assert numbers() == [0, 1]
    assert verify().ok


def test_same_event_twice_in_one_claim_is_stored_once():
    """K7."""
    event = a_full_event()
    result = write([event, event, event])
    assert (result.stored, result.repeated, result.refused) == (1, 2, [])
    assert numbers() == [0]


def test_same_event_for_another_stream_is_a_repetition():
    """Routes may change between two deliveries; the id is the event's, wherever it went."""
    event = a_full_event()
    write([event], "default")
    assert write([event], "security").repeated == 1
    assert Record.objects.count() == 1


def test_same_batch_delivered_twice_by_the_outbox_is_stored_once():
    """K7."""
    events = [encode_event(a_full_event(n)) for n in range(3)]
    payload = encode_batch(events, "shop")
    for _ in range(2):
        Outbox.objects.create(
            created_at=NOW,
            event_count=3,
            payload=key_ring().encrypt(outbox.PURPOSE, payload),
        )
        testing.relay()
    assert numbers() == [0, 1, 2]
    assert Outbox.objects.count() == 0


@pytest.mark.parametrize(
    "other",
    [
        {"action": "delete"},
        {"outcome": "failure"},
        {"actor": Actor("user", "8", "alice", "alice@example.com", "key-3")},
        {"changes": {"price": ["1.10", "9.99"]}},
        {"changes": {"price": ["1.10", "2.20"], "stock": [0, 1], "name": ["old", "other"]}},
        {"actor": Actor("user", "7", "mallory", "alice@example.com", "key-3")},
        {"reason": "another"},
        {"request": None},
        {"tenant": None},
        {"emitter_seq": 99},
        {"labels": None},
        {"affected": 2},
    ],
    ids=repr,
)
@pytest.mark.parametrize("together", [True, False], ids=["in one claim", "in two"])
def test_same_id_with_other_contents_is_refused(other, together):
    event = a_full_event()
    forged = replace(event, **other)
    if together:
        result = write([event, forged])
        assert result.stored == 1
    else:
        write([event])
        result = write([forged])
        assert result.stored == 0
    ((refused, reason),) = result.refused
    assert refused is forged
    assert reason.startswith("conflict")
    assert (numbers(), Record.objects.get().action) == ([0], "update")


def test_repetition_of_an_erased_persons_event_is_dropped():
    """Its sealed part cannot be compared any more, and must not come back."""
    event = a_full_event()
    write([event])
    again = prepare(event, Place("default", 0, "default"))
    sql("UPDATE audit_log_datakey SET wrapped = NULL")
    data_keys.forget()
    assert DataKey.objects.filter(wrapped=None).exists()
    with transaction.atomic():
        assert writer.write([again], "default").repeated == 1


def test_repetition_of_a_record_that_was_altered_since_is_refused():
    event = a_full_event()
    write([event])
    sealed = bytearray(Record.objects.get().sealed_data or b"")
    sealed[-1] ^= 1
    overwrite("sealed_data", bytes(sealed), 0)
    assert [reason[:8] for _, reason in write([event]).refused] == ["conflict"]


@pytest.mark.parametrize(
    ("id_", "why"),
    [
        pytest.param(uuid.uuid4(), "random", id="uuid4"),
        pytest.param(uuid.uuid1(), "of another version", id="uuid1"),
        pytest.param(uuid.UUID(int=0), "nil", id="nil"),
        pytest.param(emitter().id_for(NOW - datetime.timedelta(hours=1)), "older", id="earlier"),
        pytest.param(emitter().id_for(NOW + datetime.timedelta(hours=1)), "newer", id="later"),
    ],
)
def test_forged_id_is_refused(id_, why):
    forged = an_event(id=id_, occurred_at=NOW)
    result = write([forged, an_event()])
    assert result.stored == 1, why
    assert [(event, reason[:6]) for event, reason in result.refused] == [(forged, "forged")]
    assert numbers() == [0]


def test_refused_event_is_parked_with_its_reason_and_the_rest_stored():
    events = [an_event(id=uuid.uuid4()), an_event(), an_event()]
    payload = encode_batch([encode_event(event) for event in events], "shop")
    Outbox.objects.create(
        created_at=NOW, event_count=3, payload=key_ring().encrypt(outbox.PURPOSE, payload)
    )
    moved = testing.relay()
    assert (moved.events, moved.parked) == (2, 1)
    parked = Outbox.objects.get()
    assert parked.parked_at is not None
    assert (parked.parked_reason or "").startswith("forged")
    assert numbers() == [0, 1]


def test_late_event_is_refused():
    write([an_event()])
    Stream.objects.update(purged_through=NOW)
    moment = NOW - datetime.timedelta(days=1)
    late = an_event(id=emitter().id_for(moment), occurred_at=moment)
    on_time = NOW + datetime.timedelta(seconds=1)
    result = write([late, an_event(id=emitter().id_for(on_time), occurred_at=on_time)])
    assert result.stored == 1
    ((refused, reason),) = result.refused
    assert refused is late
    assert reason.startswith("late")
    assert "'default'" in reason


def test_recorded_at_never_goes_back():
    """A clock set back must not make the log run backwards."""
    future = NOW + datetime.timedelta(days=1)
    write([an_event()])
    Stream.objects.update(recorded_at=future)
    write([an_event(), an_event()])
    moments = list(Record.objects.order_by("sequence").values_list("recorded_at", flat=True))
    assert moments[1:] == [future, future]
    assert moments == sorted(moments)
    assert head().recorded_at == future
    assert verify().ok


def test_failed_write_leaves_nothing():
    write([an_event()])
    before = (head().size, bytes(head().partial))
    with transaction.atomic():
        a_long_stream(300)
        transaction.set_rollback(True)
    assert (head().size, bytes(head().partial)) == before
    assert (numbers(), Tile.objects.count()) == ([0], 0)


def test_queries_do_not_grow_with_the_events(django_assert_max_num_queries):
    heads.ensure(["default"], "default")
    prepared = [prepare(an_event(), Place("default", 0, "default")) for _ in range(200)]
    fields = Record._meta.concrete_fields
    # SQLite takes so many values a statement; the rest: lock, ids, head, and two savepoints' two.
    inserts = -(-200 // (connection.ops.bulk_batch_size(fields, [None] * 200) or 200))
    with django_assert_max_num_queries(inserts + 7), transaction.atomic():
        writer.write(prepared, "default")
