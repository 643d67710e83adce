"""From an event to the columns of its record."""

from __future__ import annotations

import base64
import datetime
import json
import os
import uuid
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.db import models
from django.test import override_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from audit_log.events import Actor, Event, Redaction, Request, Target
from audit_log.exceptions import EncodingError, ImmutableRecord
from audit_log.ledger.merkle import leaf_hash
from audit_log.ledger.records import Place, prepare
from audit_log.ledger.verification import verify
from audit_log.models import Record, Tile
from audit_log.privacy import data_keys
from audit_log.privacy.encryption import blind_index, open_sealed, place_of
from audit_log.reading.contents import contents
from tests.ledger.building import a_full_event, a_long_stream, an_event, sql, write

pytestmark = pytest.mark.django_db

GOLDEN = Path(__file__).parents[1] / "golden" / "record.json"
HERE = Place("default", 0, "default")
BYTES = ("salt", "sealed_actor", "sealed_data")
KEY = base64.b64encode(bytes(range(32))).decode()
WIDTHS = {
    field.name: field.max_length or 0
    for field in Record._meta.concrete_fields
    if isinstance(field, models.CharField)
}
LONG = {
    "service": ("service", "service"),
    "emitter": ("emitter", "emitter"),
    "action": ("action", "action"),
    "outcome": ("outcome", "outcome"),
    "source": ("source", "source"),
    "tenant": ("tenant", "tenant"),
    "trace_id": ("trace_id", "trace_id"),
    "parent_id": ("parent_id", "parent_id"),
    "actor_type": ("actor", "actor.type"),
    "actor_id": ("actor", "actor.id"),
    "actor_via": ("actor", "actor.via"),
    "target_type": ("target", "target.type"),
    "target_id": ("target", "target.id"),
    "request_id": ("request", "request.id"),
    "session_token": ("request", "request.session"),
    "method": ("request", "request.method"),
    "route": ("request", "request.route"),
    "path": ("request", "request.path"),
}
KEYS = {
    *("emitter", "tenant", "trace_id", "parent_id", "actor_id", "actor_via"),
    *("target_id", "request_id", "session_token"),
}


def an_event_with(column: str, text: str) -> Event:
    """An event whose `text` ends in `column`."""
    part, path = LONG[column]
    name = path.rpartition(".")[2]
    if part == "actor":
        return an_event(actor=Actor(**{"type": "user", name: text}))
    if part == "target":
        return an_event(target=Target(**{"type": "shop.product", name: text}))
    if part == "request":
        return an_event(request=replace(Request(), **{name: text}))
    return an_event(**{part: text})


def marks(record: Record) -> list[tuple[str, str]]:
    return [(mark["path"], mark["rule"]) for mark in record.redactions or []]


def prepared_record(event: Event) -> Record:
    """As it would be stored, but for its number and its moment."""
    return Record(**prepare(event, HERE).columns)


@pytest.fixture
def fixed_randomness(monkeypatch):
    """Salt, nonces and the data key, so that every byte of the record can be pinned."""
    monkeypatch.setattr(os, "urandom", lambda size: bytes(range(size)))
    key = data_keys.OpenKey(bytes(range(16)), AESGCM(bytes(range(32))), 0, float("inf"))
    monkeypatch.setattr(data_keys, "key_for", lambda *_: key)


@override_settings(AUDIT_LOG={"SERVICE": "shop", "INDEX_KEY": KEY, "ENCRYPTION_KEYS": {"k": KEY}})
def test_every_column_of_a_full_event_is_as_pinned(fixed_randomness):
    """Which field lands in which column, sealed under which place, hashed to which leaf."""
    moment = datetime.datetime(2026, 11, 24, 2, 15, 30, tzinfo=datetime.UTC)
    id_ = uuid.UUID("019ab3c4-5d50-7f80-9a1b-2c3d4e5f6071")
    item = prepare(a_full_event(3, id=id_, occurred_at=moment), HERE)
    late: dict[str, Any] = {
        "sequence": 41,
        "recorded_at": moment + datetime.timedelta(milliseconds=1),
    }
    entry = item.entry.fill(41, late["recorded_at"])
    columns = {
        field.name: _as_json((item.columns | late)[field.name])
        for field in Record._meta.concrete_fields
    }
    opened = {
        name: json.loads(
            open_sealed(
                item.columns[name],
                lambda _: AESGCM(bytes(range(32))),
                place_of(id_, name),
            )
        )
        for name in BYTES[1:]
    }
    pinned = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert columns == pinned["columns"]
    assert opened == pinned["opened"]
    assert entry.decode() == pinned["entry"]
    assert leaf_hash(entry).hex() == pinned["leaf"]


def _as_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    return str(value) if isinstance(value, uuid.UUID) else value


def test_no_column_of_a_full_record_is_empty():
    record = prepared_record(a_full_event())
    late = {"sequence", "recorded_at"}
    empty = [f.name for f in Record._meta.concrete_fields if not getattr(record, f.name, None)]
    assert set(empty) <= late | {"emitter_seq"}  # which is 0


def test_least_event_seals_nothing_and_needs_no_key(django_assert_num_queries):
    with django_assert_num_queries(0):
        record = prepared_record(an_event())
    assert (record.sealed_actor, record.sealed_data, record.redactions) == (None, None, None)


def test_sealed_and_open_values_part_ways():
    write([a_full_event()])
    row = Record.objects.get()
    assert row.changes == {"price": ["1.10", "2.20"], "stock": [0, 1]}
    assert row.data == {"batch": 4}
    assert row.changed_fields == ["name", "price", "stock"]
    assert b"repricing" not in bytes(row.sealed_actor or b"")
    opened = contents(row)
    assert opened["changes"]["name"] == ["old", "new"]
    assert opened["data"] == {"batch": 4, "gateway": "x"}
    assert opened["reason"] == "repricing"
    assert opened["actor"] == {
        "label": "alice",
        "email": "alice@example.com",
        "ip": "203.0.113.9",
        "user_agent": "Mozilla/5.0",
    }
    assert opened["request"] == {"query": "page=2", "body": {"price": "2.20"}}
    assert opened["target_label"] == "Product 0"
    assert opened["labels"] == {"price": ["1.10 EUR", "2.20 EUR"]}


def test_blind_indexes_find_the_exact_values():
    record = prepared_record(a_full_event())
    assert record.actor_token == blind_index("actor", "ALICE")
    assert record.ip_token == blind_index("ip", "203.0.113.9")
    assert record.net_token == blind_index("net", "203.0.113.0/24")
    assert record.agent_token == blind_index("agent", "mozilla/5.0")


def test_every_text_column_is_covered_here():
    tokens = {"actor_token", "ip_token", "net_token", "agent_token"}
    assert set(LONG) == set(WIDTHS) - tokens - {"stream"}


@pytest.mark.parametrize("column", sorted(LONG))
def test_text_too_long_for_its_column_is_cut_and_marked(column):
    """Value rule "over-long CharField": cut by us + flag, on every database."""
    width = WIDTHS[column]
    exact, longer = "é" * width, "é" * (width + 1)
    write([an_event_with(column, exact), an_event_with(column, longer)])
    whole, cut = Record.objects.order_by("sequence")
    assert (getattr(whole, column), marks(whole)) == (exact, [])
    assert marks(cut) == [(LONG[column][1], "cut")]
    assert len(getattr(cut, column)) <= width
    assert verify().ok


@pytest.mark.parametrize("column", sorted(KEYS))
def test_long_identities_are_cut_but_stay_different(column):
    shared = "k" * 3000
    first, second = (
        getattr(prepared_record(an_event_with(column, shared + end)), column) for end in "ab"
    )
    assert first != second
    assert getattr(prepared_record(an_event_with(column, shared + "a")), column) == first


@pytest.mark.parametrize("column", sorted(LONG))
def test_nul_in_a_text_column_is_replaced_and_marked(column):
    """Value rule "NUL in text": replaced by U+FFFD, flag sanitised."""
    record = prepared_record(an_event_with(column, "a\0b"))
    assert getattr(record, column) == "a\ufffdb"
    assert marks(record) == [(LONG[column][1], "sanitised")]


@pytest.mark.parametrize(
    ("column", "event"),
    [
        ("status", {"request": Request(status=2**15)}),
        ("status", {"request": Request(status=-(2**15) - 1)}),
        ("duration_ms", {"request": Request(duration_ms=2**31)}),
        ("affected", {"affected": 2**63}),
        ("emitter_seq", {"emitter_seq": 2**53}),
    ],
)
def test_number_its_column_cannot_hold_is_left_out_and_marked(column, event):
    write([an_event(**event)])
    row = Record.objects.get()
    assert getattr(row, column) is None
    assert [rule for _, rule in marks(row)] == ["range"]
    assert verify().ok


def test_numbers_at_the_edges_are_kept():
    write([an_event(request=Request(status=2**15 - 1, duration_ms=2**31 - 1), affected=2**53 - 1)])
    row = Record.objects.get()
    assert (row.status, row.duration_ms, row.affected) == (2**15 - 1, 2**31 - 1, 2**53 - 1)
    assert marks(row) == []


def test_marks_there_is_no_room_for_are_counted():
    redactions = tuple(Redaction(f"changes.f{n:03d}", "name") for n in range(100))
    record = prepared_record(an_event(redactions=redactions))
    assert len(record.redactions or ()) == 64
    assert marks(record)[-1] == ("redactions", "cut:37")


def test_marks_are_sorted_and_not_repeated():
    twice = (Redaction("b", "name"), Redaction("a", "name"), Redaction("b", "name"))
    assert marks(prepared_record(an_event(redactions=twice))) == [("a", "name"), ("b", "name")]


def test_value_no_json_holds_is_refused_here_and_parked_by_the_relay():
    with pytest.raises(EncodingError):
        prepare(an_event(changes={"f": [None, "a\0b"]}), HERE)
    with pytest.raises(EncodingError):
        prepare(an_event(changes={"f": [None, 1.5]}), HERE)


hostile = st.text(st.characters(exclude_categories=["Cs"]), max_size=400)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(st.sampled_from(sorted(LONG)), hostile, min_size=1), hostile)
def test_any_text_is_stored_and_verifies(texts, name):
    sql("DELETE FROM audit_log_record")
    sql("DELETE FROM audit_log_stream")
    events = [an_event_with(column, text or "x") for column, text in texts.items()]
    clean = name.replace("\0", "")
    write([*events, an_event(data={clean: clean}, changes={clean: [clean, None]})])
    result = verify()
    assert result.ok, result.findings


@pytest.mark.parametrize("model", [Record, Tile])
def test_what_is_stored_is_append_only(model):
    """J6."""
    a_long_stream(256)
    row = model.objects.first()
    refused = [
        row.save,
        row.delete,
        lambda: model.objects.update(stream="x"),
        model.objects.all().delete,
        lambda: model.objects.bulk_update([row], ["stream"]),
        lambda: model.objects.update_or_create(pk=row.pk, defaults={"stream": "x"}),
    ]
    for attempt in refused:
        with pytest.raises(ImmutableRecord):
            attempt()
    assert model.objects.filter(stream="default").count() == (256 if model is Record else 1)
    assert verify().ok


SECRET = "sk_live_0123456789abcdefABCD"
PLACES: dict[str, dict[str, Any]] = {
    "open change": {"changes": {"f": [None, SECRET]}},
    "sealed change": {"changes": {"f": [None, SECRET]}, "sealed": ("changes.f",)},
    "inside a change": {"changes": {"f": [None, {"deep": [f'"{SECRET}"\n']}]}},
    "key": {"data": {"f": {f"a {SECRET}": 1}}},
    "open data": {"data": {"f": SECRET}},
    "sealed data": {"data": {"f": f"\\{SECRET}"}, "sealed": ("data.f",)},
    "label": {"labels": {"f": [None, SECRET]}},
    "reason": {"reason": f"é\t{SECRET}"},
    "target": {"target": Target("shop.product", "1", SECRET)},
    "actor": {"actor": Actor("user", "1", SECRET)},
    "actor id": {"actor": Actor("service", SECRET)},
    "path": {"request": Request(path=f"/a/{SECRET}/")},
    "query": {"request": Request(query=f"a={SECRET}")},
    "agent": {"request": Request(user_agent=SECRET)},
    "body": {"request": Request(body={"a": [SECRET]})},
}


@pytest.mark.parametrize("place", PLACES)
def test_secret_is_masked_wherever_it_stands(place):
    write([an_event(**PLACES[place]), an_event(reason="nothing to find")])
    masked, clean = Record.objects.order_by("sequence")
    everything = f"{contents(masked)} {vars(masked)}"
    assert SECRET not in everything
    assert "sk_live_[MASKED fp=" in everything
    assert [rule for _, rule in marks(masked)] == ["detector:vendor_token"]
    assert marks(clean) == []


def test_personal_data_is_masked_in_what_is_open_and_kept_in_what_is_sealed():
    mail = "alice@example.com"
    write([an_event(data={"open": mail, "hidden": mail}, sealed=("data.hidden",))])
    row = Record.objects.get()
    assert row.data == {"open": "a***@example.com"}
    assert contents(row)["data"]["hidden"] == mail


@pytest.mark.parametrize(
    "text", ["\\", "\\N", "\\.", "a\tb", "a\nb", "a\r\nb", "\x85\u2028", "'", '"', "%s", "\\u0041"]
)
def test_text_that_means_something_to_a_database_is_stored_as_it_is(text):
    write([an_event(tenant=text, changes={text: [None, {text: text}]}, reason=text)])
    row = Record.objects.get()
    assert (row.tenant, row.changes) == (text, {text: [None, {text: text}]})
    assert contents(row)["reason"] == text
    assert row.changed_fields == [text]
    assert verify().ok
