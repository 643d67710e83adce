"""Any Python value becomes bounded, clean JSON; nothing it does can fail the caller."""

from __future__ import annotations

import enum
import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from django.utils import translation
from django.utils.functional import lazy
from django.utils.translation import gettext_lazy
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_log import context
from audit_log.events import Actor, Redaction, Request, Target, decode_batch, encode_batch
from audit_log.recording import values
from audit_log.recording.values import MAX_EVENT_BYTES, clean, encode_bounded, plain, safe_str
from tests.shop.models import Category


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class _Raising:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


class _RaisingText(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError("no")


class _RaisingMapping(Mapping[str, int]):
    def __getitem__(self, key: str) -> int:
        raise RuntimeError("no")

    def __iter__(self) -> Iterator[str]:
        yield "key"

    def __len__(self) -> int:
        return 1


class _Endless(Mapping[str, int]):
    def __getitem__(self, key: str) -> int:
        return 1

    def __iter__(self) -> Iterator[str]:
        n = 0
        while True:
            yield str(n)
            n += 1

    def __len__(self) -> int:
        return 1


def _raise() -> str:
    raise RuntimeError("no translation")


EAST = timezone(timedelta(hours=5, minutes=30))
SHA = f"sha256:{hashlib.sha256(b'x').hexdigest()} (1 bytes)"


VALUES: list[tuple[Any, Any, list[str] | None]] = [
    (None, None, []),
    (True, True, []),
    (2**53 - 1, 2**53 - 1, []),
    (2**53, "9007199254740992", []),
    (-(2**53), "-9007199254740992", []),
    (2**63, "9223372036854775808", []),
    (10**100, "1" + "0" * 100, []),
    (10**5000, "int(~16610 bits)", []),
    (1.1, "1.1", []),
    (float("nan"), "NaN", []),
    (float("inf"), "Infinity", []),
    (float("-inf"), "-Infinity", []),
    (-0.0, "-0.0", []),
    (Decimal("1e400"), "1E+400", []),
    (Decimal("sNaN"), "sNaN", []),
    (Decimal("1.10"), "1.10", []),
    ("a\0b", "a\ufffdb", ["sanitised"]),
    ("a\ud800b", "a\ufffdb", ["sanitised"]),
    ("\ud83d\ude00", "\N{GRINNING FACE}", ["sanitised"]),
    ("\ufeffmarked", "\ufeffmarked", []),
    ("ünï", "ünï", []),
    (b"x", SHA, []),
    (bytearray(b"x"), SHA, []),
    (memoryview(b"x"), SHA, []),
    ({3, 1, 2}, [1, 2, 3], []),
    ((1, "a"), [1, "a"], []),
    ({(1, 2): "x", 3: None}, {"(1, 2)": "x", "3": None}, []),
    (Colour.RED, "red", []),
    (Level.HIGH, 3, []),
    (datetime(2026, 1, 2, 3, 4, 5, 6, UTC), "2026-01-02T03:04:05.000006Z", []),
    (datetime(2026, 1, 2, 3, 4, tzinfo=EAST), "2026-01-01T21:34:00.000000Z", []),
    (datetime(2026, 1, 2, 3, 4), "2026-01-02T03:04:00", []),  # noqa: DTZ001 - a naive one
    (date(2026, 1, 2), "2026-01-02", []),
    (time(3, 4, tzinfo=EAST), "03:04:00+05:30", []),
    (timedelta(days=1, seconds=2), "1 00:00:02", []),
    (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005", []),
    (gettext_lazy("Yes"), "Yes", []),
    (Category(pk=7), "shop.category:7", []),
    (object(), "<builtins.object>", []),
    (_Raising(), f"<{__name__}._Raising>", []),
    (_RaisingText("x"), "<_RaisingText: RuntimeError>", ["unencodable"]),
    (lazy(_raise, str)(), "<__proxy__: RuntimeError>", []),
    ({"a": _RaisingMapping(), "b": 1}, {"a": "<_RaisingMapping: RuntimeError>", "b": 1}, None),
]


@pytest.mark.parametrize(
    ("value", "expected", "rules"), VALUES, ids=[str(n) for n in range(len(VALUES))]
)
def test_value_has_the_required_outcome(value: Any, expected: Any, rules: list[str] | None):
    """K8, values_matrix."""
    result, marks = plain(value, "data.value")
    assert result == expected
    assert type(result) is type(expected)
    if rules is not None:
        assert [mark.rule for mark in marks] == rules


@pytest.mark.parametrize("depth", [33, 101, 900, 1100, 100_000])
@pytest.mark.parametrize("kind", [list, dict])
def test_deep_nesting_is_cut_at_twenty(depth: int, kind: type):
    """K8."""
    value: Any = "core"
    for _ in range(depth):
        value = [value] if kind is list else {"k": value}
    result, marks = plain(value, "data.value")
    text = json.dumps(result)
    assert text.count("[" if kind is list else "{") == values.MAX_DEPTH
    assert "...depth" in text
    assert [mark.rule for mark in marks] == ["depth"]


def test_cyclic_structures_come_to_an_end():
    """K8."""
    ring: list[Any] = [1]
    ring.append(ring)
    table: dict[str, Any] = {"name": "x"}
    table["self"] = table
    for value in (ring, table):
        result, marks = plain(value, "data.value")
        assert "...depth" in json.dumps(result)
        assert "depth" in {mark.rule for mark in marks}


def test_wide_and_endless_structures_are_cut():
    for value in (list(range(100_000)), {str(n): n for n in range(100_000)}, _Endless()):
        result, marks = plain(value, "data.value")
        assert len(result) <= values.MAX_NODES
        assert "nodes" in {mark.rule for mark in marks}


def test_bomb_of_shared_lists_is_cut():
    value: Any = ["x"] * 10
    for _ in range(12):
        value = [value] * 10
    result, marks = plain(value, "data.value")
    assert len(json.dumps(result)) < 200_000
    assert {"nodes"} <= {mark.rule for mark in marks}


def test_long_keys_are_cut_but_stay_apart():
    one, other = "k" * 10_000_000 + "1", "k" * 10_000_000 + "2"
    result, _ = plain({one: 1, other: 2}, "data.value")
    assert sorted(result.values()) == [1, 2]
    assert all(len(key) <= values.MAX_KEY for key in result)


def test_lazy_string_is_in_the_projects_language(settings: Any):
    settings.LANGUAGE_CODE = "de"
    with translation.override("fr"):
        assert plain(gettext_lazy("Yes"))[0] == "Ja"
        assert translation.get_language() == "fr"
    with translation.override(None):
        assert plain(gettext_lazy("Yes"))[0] == "Ja"
        assert translation.get_language() is None


_anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary()
    | st.decimals()
    | st.datetimes(timezones=st.none() | st.timezones())
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.uuids()
    | st.complex_numbers()
    | st.fractions(),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.tuples(inner, inner)
        | st.frozensets(st.text(st.characters(), max_size=5) | st.integers(), max_size=5)
        | st.dictionaries(st.text(st.characters(), max_size=9) | st.integers(), inner, max_size=5)
    ),
    max_leaves=40,
)


def _check_json(value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            assert type(key) is str
            assert clean(key) == key
            _check_json(item)
    elif isinstance(value, list):
        for item in value:
            _check_json(item)
    elif type(value) is int:
        assert abs(value) < 2**53
    elif type(value) is str:
        assert clean(value) == value
    else:
        assert value is None or type(value) is bool


@given(_anything)
@settings(max_examples=300)
def test_anything_becomes_json_that_every_reader_understands(value: Any):
    result, _ = plain(value, "data.value")
    _check_json(result)
    event = context.new_event("probe.fired", source="explicit", data={"value": result})
    (decoded,) = decode_batch(encode_batch([encode_bounded(event)]))
    assert decoded.data == {"value": result}


@given(st.text(st.characters()))
def test_clean_text_can_be_encoded_and_holds_no_nul(text: str):
    result = clean(text)
    assert "\0" not in result.encode().decode()
    assert clean(result) == result


def test_anything_has_a_name():
    assert safe_str(_Raising()) == "<_Raising: RuntimeError>"
    assert safe_str("a\0") == "a\ufffd"


def _event(**values_: Any) -> Any:
    return context.new_event("probe.fired", source="explicit", **values_)


def _decoded(event: Any) -> Any:
    encoded = encode_bounded(event)
    assert len(encoded) <= MAX_EVENT_BYTES
    (decoded,) = decode_batch(encode_batch([encoded]))
    assert decoded.id == event.id
    return decoded


def test_ten_megabytes_are_cut_and_marked_with_length_and_hash():
    """ten_mb_field."""
    event = _event(
        changes={"text": [None, "x" * 10_000_000], "name": ["old", "new"]},
        sealed=("changes.text",),
        redactions=(Redaction("changes.card", "masked"),),
    )
    decoded = _decoded(event)
    assert decoded.changes["name"] == ["old", "new"]
    assert decoded.changes["text"][1] == "x" * 200 + "…"
    assert decoded.sealed == ("changes.text",)
    marks = dict(msgspec.structs.astuple(mark) for mark in decoded.redactions)
    assert marks["changes.card"] == "masked"
    digest = hashlib.sha256(b"x" * 10_000_000).hexdigest()
    assert marks["changes.text.1"] == f"cut:10000000:sha256:{digest}"


@pytest.mark.parametrize("count", [400, 5_000])
def test_many_texts_that_are_too_much_together_are_bounded(count: int):
    event = _event(data={f"key {n}": "é" * 300 for n in range(count)})
    decoded = _decoded(event)
    assert decoded.redactions


def test_what_identifies_is_never_cut():
    target = Target(type="shop.product", id="i" * 255, label="l" * 256)
    actor = Actor(type="user", id="u" * 255, label="n" * 256)
    request = Request(id="r" * 128, path="/" + "p" * 100_000)
    decoded = _decoded(
        _event(target=target, actor=actor, request=request, data={"x": "x" * 100_000})
    )
    assert decoded.target.id == target.id
    assert decoded.actor.id == actor.id
    assert decoded.request.id == request.id
    assert decoded.target.type == "shop.product"


@pytest.mark.parametrize(
    "hostile",
    [
        {"data": {"x": object()}},
        {"data": {"x": "\ud800"}},
        {"changes": {"x": [None, 10**400]}},
        {"target": Target(type="x", id=object())},  # type: ignore[arg-type]
        {"actor": Actor(type=object())},  # type: ignore[arg-type]
        {"tenant": object()},
        {"target": Target(type="x", id="i" * 200_000)},
    ],
)
def test_event_that_cannot_be_encoded_becomes_one_that_says_so(hostile: dict[str, Any]):
    decoded = _decoded(_event(**hostile))
    assert decoded.action == "probe.fired"
    assert "capture_error" in (decoded.data or {}) or "x" in (decoded.changes or {})
    if "capture_error" in (decoded.data or {}):
        assert decoded.sealed == ("data.capture_error",)
        assert {mark.rule for mark in decoded.redactions} == {"unencodable"}
