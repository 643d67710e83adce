"""Canonical JSON and entries, against the standard library and the golden files."""

from __future__ import annotations

import enum
import hashlib
import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_log.events import Redaction, decode_batch, encode_batch, encode_event, format_time
from audit_log.exceptions import EncodingError, UnknownVersion
from audit_log.ledger import entries
from audit_log.ledger.entries import (
    EntryTemplate,
    canonical,
    canonical_decoded,
    contents_digest,
    entry_bytes,
    is_surely_canonical,
)
from audit_log.ledger.merkle import leaf_hash
from tests.ledger.building import an_event

GOLDEN = Path(__file__).parents[1] / "golden"
SALT = bytes(range(16))
TIMES = ("occurred_at", "recorded_at")
BYTES = ("salt", "sealed_actor", "sealed_data")

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
integers = st.integers(-(2**53) + 1, 2**53 - 1)
values = st.recursive(
    st.none() | st.booleans() | integers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
moments = st.datetimes(
    min_value=datetime(2000, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45))]),
)


def by_the_standard_library(value: Any) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode()


def golden(name: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((GOLDEN / name).read_text(encoding="utf-8"))
    return cases


def columns_of(case: dict[str, Any]) -> dict[str, Any]:
    """The golden's JSON as the types a database row has."""
    columns = dict(case["columns"])
    columns["id"] = uuid.UUID(columns["id"])
    for name in TIMES:
        columns[name] = datetime.fromisoformat(columns[name])
    for name in BYTES:
        columns[name] = bytes.fromhex(columns[name]) if columns.get(name) else None
    return columns


def full() -> dict[str, Any]:
    return columns_of(golden("entries.json")[0])


@st.composite
def records(draw) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "version": 1,
        "id": draw(st.uuids()),
        "sequence": draw(st.integers(0, 2**53 - 1)),
        "salt": SALT,
        "changes": draw(st.none() | st.dictionaries(texts, st.lists(values, max_size=2))),
        "data": draw(st.none() | st.dictionaries(texts, values, max_size=3)),
        "changed_fields": draw(st.none() | st.lists(texts, max_size=4)),
        "redactions": draw(
            st.none() | st.lists(st.fixed_dictionaries({"path": texts, "rule": texts}), max_size=3)
        ),
        "sealed_actor": draw(st.none() | st.binary(max_size=40)),
        "sealed_data": draw(st.none() | st.binary(max_size=40)),
    }
    for name in TIMES:
        columns[name] = draw(moments)
    for name in ("stream", "action"):
        columns[name] = draw(texts)
    for name in ("outcome", "source", "actor_id", "target_id", "tenant", "route", "service"):
        columns[name] = draw(st.none() | texts)
    for name in ("emitter_seq", "status", "affected"):
        columns[name] = draw(st.none() | integers)
    return columns


def reference(columns: dict[str, Any]) -> bytes:
    """The definition in DESIGN's words, with nothing but the standard library."""
    entry: dict[str, Any] = {}
    for name in entries.ENTRY_COLUMNS:
        value = columns.get(name)
        if value is None or value in ([], {}, b""):
            continue
        if name in {"changes", "data"}:
            value = hashlib.sha256(columns["salt"] + by_the_standard_library(value)).hexdigest()
        elif name in {"sealed_actor", "sealed_data"}:
            value = hashlib.sha256(value).hexdigest()
        elif name in TIMES:
            value = format_time(value)
        elif name == "id":
            value = str(value)
        elif name == "changed_fields":
            value = sorted(value)
        entry[name] = value
    return by_the_standard_library(entry)


@pytest.mark.parametrize("case", golden("canonical.json"), ids=lambda case: case["canonical"][:30])
def test_golden_canonical_form(case):
    assert canonical(case["value"]) == case["canonical"].encode()


@settings(max_examples=300, deadline=None)
@given(values)
def test_canonical_form_is_that_of_the_standard_library(value):
    assert canonical(value) == by_the_standard_library(value)
    assert json.loads(canonical(value)) == value


def test_every_character_is_escaped_as_the_standard_library_does():
    every = [chr(point) for point in range(1, 0x110000) if not 0xD800 <= point <= 0xDFFF]
    text = "".join(every)
    assert canonical(text) == by_the_standard_library(text)

    keys = dict.fromkeys(every[:0x3000] + every[0xD000:0x12000] + every[-10:], 1)
    assert canonical(keys) == by_the_standard_library(keys)


class Colour(enum.StrEnum):
    RED = "red"


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    "value",
    [
        1.5,
        1.0,
        float("nan"),
        [{"a": 0.0}],
        2**53,
        -(2**53),
        {"n": 2**70},
        "a\0b",
        {"a\0": 1},
        "\ud800",
        {"\udc00": 1},
        {1: "a"},
        {None: "a"},
        pytest.param({"a", "b"}, id="a set"),
        b"bytes",
        Decimal("1.0"),
        uuid.UUID(int=1),
        datetime(2026, 1, 1, tzinfo=UTC),
        Colour.RED,
        Text("a"),
        {Text("a"): 1},
        pytest.param(object(), id="an object"),
    ],
    ids=repr,
)
def test_what_canonical_json_does_not_hold_is_refused(value):
    for wrapped in (value, [value], {"key": value}):
        with pytest.raises(EncodingError):
            canonical(wrapped)


def test_an_escaped_backslash_before_u0000_is_not_a_nul():
    assert canonical("\\u0000") == b'"\\\\u0000"'


def test_nesting_is_bounded():
    value: Any = 1
    for _ in range(entries.MAX_DEPTH):
        value = [value]

    assert canonical(value).startswith(b"[[")
    with pytest.raises(EncodingError, match="nested"):
        canonical([value])


def test_tuples_are_arrays():
    assert canonical({"a": (1, ("b",))}) == b'{"a":[1,["b"]]}'


def test_contents_digest_is_sha256_of_salt_and_canonical_json():
    digest = contents_digest(SALT, {"b": 1, "a": None})

    assert digest == hashlib.sha256(SALT + b'{"a":null,"b":1}').hexdigest()
    assert contents_digest(bytes(16), {"b": 1, "a": None}) != digest
    with pytest.raises(EncodingError, match="16 bytes"):
        contents_digest(SALT + b"{", {"b": 1, "a": None})


@pytest.mark.parametrize("case", golden("entries.json"), ids=lambda case: case["name"])
def test_golden_entry_and_leaf(case):
    entry = entry_bytes(columns_of(case))

    assert entry == case["entry"].encode()
    assert leaf_hash(entry).hex() == case["leaf"]


def test_entry_columns_are_the_open_envelope_and_the_two_sealed_ones():
    envelope = (
        "version id stream sequence occurred_at recorded_at service emitter emitter_seq action "
        "outcome actor_type actor_id actor_via session_token target_type target_id tenant "
        "request_id trace_id parent_id source method route path status duration_ms affected "
        "changed_fields changes data redactions sealed_actor sealed_data"
    )
    assert sorted(envelope.split()) == list(entries.ENTRY_COLUMNS)


def test_every_entry_column_changes_the_entry():
    before = entry_bytes(full())
    changed = {
        "changes": {"status": ["new", "void"]},
        "data": {"n": 4},
        "redactions": [],
        "changed_fields": ["amount"],
        "id": uuid.UUID(int=1),
    }
    for name in set(entries.ENTRY_COLUMNS) - {"version"}:
        columns = full()
        value = columns[name]
        if isinstance(value, datetime):
            columns[name] = value + timedelta(microseconds=1)
        elif isinstance(value, int):
            columns[name] = value + 1
        elif isinstance(value, (str, bytes)):
            columns[name] = value * 2
        else:
            columns[name] = changed[name]
        assert entry_bytes(columns) != before, name


def test_blind_indexes_and_other_columns_are_not_in_the_entry():
    columns = full()
    for name in ("actor_token", "ip_token", "net_token", "agent_token"):
        assert columns.pop(name)

    assert entry_bytes(columns) == entry_bytes(full())
    assert entry_bytes(columns | {"tombstone": "x"}) == entry_bytes(full())


@settings(max_examples=200, deadline=None)
@given(records())
def test_filled_template_and_entry_and_definition_are_the_same_bytes(columns):
    expected = reference(columns)
    sequence, recorded_at = columns["sequence"], columns["recorded_at"]
    early = {name: value for name, value in columns.items() if name not in entries.ENTRY_COLUMNS}
    early |= {name: columns[name] for name in columns.keys() - {"sequence", "recorded_at"}}

    assert entry_bytes(columns) == expected
    assert EntryTemplate(early).fill(sequence, recorded_at) == expected
    assert canonical(json.loads(expected)) == expected


def test_template_fills_again_and_again():
    template = EntryTemplate(full())
    for sequence in (0, 1, 2**53 - 1):
        columns = full() | {"sequence": sequence}
        assert template.fill(sequence, columns["recorded_at"]) == entry_bytes(columns)


def test_text_that_looks_like_the_late_members_does_not_move_them():
    decoy = '","recorded_at":"","sequence":0,"recorded_at":""'
    columns = full() | {"action": decoy, "path": decoy, "target_id": '"sequence":0'}
    columns["redactions"] = [{"path": decoy, "rule": '"sequence":0'}]
    columns["changed_fields"] = ["recorded_at", "sequence", decoy]

    assert entry_bytes(columns) == reference(columns)


def test_rows_as_drivers_return_them_make_the_same_entry():
    columns = full()
    columns |= {name: memoryview(columns[name]) for name in BYTES}
    columns |= {"id": str(columns["id"]).upper(), "changed_fields": ("status", "note", "amount")}
    columns["redactions"] = tuple(Redaction(**item) for item in columns["redactions"])
    zone = ZoneInfo("Asia/Kathmandu")
    columns |= {name: columns[name].astimezone(zone) for name in TIMES}

    assert entry_bytes(columns) == entry_bytes(full())


def test_the_hour_that_a_clock_change_repeats_is_told_apart():
    once = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    template = EntryTemplate(full())

    assert b'"recorded_at":"2026-10-25T00:30:00.000000Z"' in template.fill(1, once)
    assert b'"recorded_at":"2026-10-25T01:30:00.000000Z"' in template.fill(1, once.replace(fold=1))


def test_redacted_contents_are_represented_by_their_kept_digests():
    columns = full()
    kept = {name: contents_digest(SALT, columns[name]) for name in ("changes", "data")}
    kept["sealed_data"] = hashlib.sha256(columns["sealed_data"]).hexdigest()
    redacted = columns | dict.fromkeys(("changes", "data", "salt", "sealed_data"))

    assert entry_bytes(redacted, kept) == entry_bytes(columns)
    assert entry_bytes(redacted) != entry_bytes(columns)
    # What is there is hashed, whatever digest is claimed for it.
    altered = columns | {"data": {"gateway": "forged"}}
    assert entry_bytes(altered, kept) != entry_bytes(columns)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", "not-an-id"),
        ("id", None),
        ("stream", None),
        ("action", None),
        ("sequence", None),
        ("sequence", -1),
        ("sequence", "1"),
        ("sequence", True),
        ("sequence", 2**53),
        ("recorded_at", None),
        ("recorded_at", "2026-11-24T02:15:30.000000Z"),
        ("occurred_at", datetime(2026, 11, 24)),  # noqa: DTZ001 - the point: naive
        ("actor_id", 7),
        ("target_id", uuid.UUID(int=1)),
        ("tenant", b"acme"),
        ("tenant", "ac\0me"),
        ("status", "200"),
        ("affected", True),
        ("affected", 2**53),
        ("salt", None),
        ("salt", 16),
        ("salt", SALT[:15]),
        ("sealed_actor", "text"),
        ("changes", {"amount": [1.5, 2]}),
        ("changed_fields", ["amount", 7]),
        ("changed_fields", "amount"),
        ("redactions", 7),
        ("redactions", ["path"]),
        ("redactions", [{"path": "a"}]),
        ("redactions", [{"path": "a", "rule": 1}]),
    ],
)
def test_column_of_the_wrong_kind_is_refused(name, value):
    with pytest.raises(EncodingError):
        entry_bytes(full() | {name: value})


@pytest.mark.parametrize("version", [0, 2, "1"])
def test_record_of_another_version_is_refused(version):
    with pytest.raises(UnknownVersion):
        entry_bytes(full() | {"version": version})


# No infinity: JSON has none, and the decoder refuses what would become one.
numbers = st.one_of(
    st.integers(),
    st.sampled_from([2**53 - 1, 2**53, -(2**53), 1e300]),
    st.floats(allow_nan=False, allow_infinity=False),
)
decoded = st.recursive(
    st.one_of(
        st.none(), st.booleans(), numbers, st.text(), st.sampled_from(["\\u0000", ",1.5", "1" * 16])
    ),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=12,
)


@given(st.lists(st.dictionaries(st.text(), decoded, min_size=1), max_size=3))
def test_what_was_decoded_from_json_is_written_or_refused_as_by_the_careful_way(values):
    def outcome(encode: Callable[[], list[bytes]]) -> list[bytes] | None:
        try:
            return encode()
        except EncodingError:
            return None

    careful = outcome(lambda: [canonical(value) for value in values])
    assert outcome(lambda: canonical_decoded(*values)) == careful


def test_nothing_is_written_for_an_empty_dictionary():
    assert canonical_decoded({}, {"a": 1}) == [b"", b'{"a":1}']


@pytest.mark.parametrize(
    "value",
    [
        {"at": "2026-11-24T12:00:00.123456Z", "price": "19.99"},
        {"counts": [1, -2, 3], "text": "1.5, 2.5: 7e3"},
    ],
)
def test_what_most_events_hold_needs_no_second_look(value):
    assert is_surely_canonical(canonical(value), canonical(value))


@pytest.mark.parametrize("depth", [63, 64, 65, 2000])
def test_decoded_values_are_bounded_in_depth_too(depth):
    value: Any = {}
    for _ in range(depth - 1):
        value = {"a": value}
    if depth > 64:
        with pytest.raises(EncodingError):
            canonical_decoded(value)
    else:
        assert canonical_decoded(value) == [canonical(value)]


def test_many_brackets_are_not_depth():
    value = {"a": [[n] for n in range(200)]}
    assert canonical_decoded(value) == [canonical(value)]


@pytest.mark.parametrize("number", ["1e400", "-1e999", "Infinity", "NaN"])
def test_number_beyond_all_bounds_is_not_decoded_to_begin_with(number):
    batch = encode_batch([encode_event(an_event(data={"n": 1}))], None)
    forged = batch.replace(b'"n":1', f'"n":{number}'.encode())
    assert forged != batch
    with pytest.raises(EncodingError):
        decode_batch(forged)
