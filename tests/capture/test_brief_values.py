"""The short ways to JSON give what the long ones give."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from django.db import models
from hypothesis import given
from hypothesis import strategies as st

from audit_log.capture.brief import UNSURE, json_copy, way_of
from audit_log.capture.plans import plan_of
from audit_log.recording.values import plain
from tests.shop.models import Product

_ODD = st.sampled_from([2**53, 2**53 - 1, -(2**53), 10**15, 2**70, "\0", "é\ud800", "x" * 300])
_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | _ODD
)
_JSON = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=40,
)


@given(_JSON)
def test_short_copy_of_json_is_the_long_one_or_says_that_it_is_unsure(value: Any):
    short = json_copy(value)
    if short is not UNSURE:
        long, marks = plain(value)
        assert repr(short) == repr(long)
        assert marks == []


@pytest.mark.parametrize(
    "value", [{"a": 1.5, "b": [1, "é", None, True]}, {}, [], {"n": {"m": [1e300, -0.0]}}]
)
def test_common_json_goes_the_short_way(value: Any):
    assert repr(json_copy(value)) == repr(plain(value)[0])


def test_deep_or_long_json_goes_the_long_way():
    deep: Any = []
    for _ in range(30):
        deep = [deep]
    assert json_copy(deep) is UNSURE
    assert json_copy(["x"] * 5000) is UNSURE
    assert json_copy({"k" * 201: 1}) is UNSURE
    assert json_copy({"n": 2**53}) is UNSURE
    assert json_copy({"n": object()}) is UNSURE


_TYPES: dict[type, st.SearchStrategy[Any]] = {
    str: st.text() | st.sampled_from(["a\0b", "é", "\ud800"]),
    int: st.integers(),
    bool: st.booleans(),
    Decimal: st.decimals(allow_nan=True, allow_infinity=True),
    date: st.dates(),
    datetime: st.datetimes(
        timezones=st.none() | st.just(UTC) | st.just(timezone(timedelta(hours=5)))
    ),
    uuid.UUID: st.uuids(),
}


def _items() -> list[Any]:
    plan = plan_of(Product)
    assert plan is not None
    return [item for item in plan.fields if item.native is not None]


@given(st.data())
def test_short_form_of_a_field_is_its_long_one_or_unsure(data: st.DataObject):
    item = data.draw(st.sampled_from(_items()))
    value = data.draw(_TYPES[item.native])
    short = item.brief(value)
    if short is not UNSURE:
        assert (short, ()) == (item.encode(value)[0], tuple(item.encode(value)[1]))


def test_fields_of_the_shop_cover_the_usual_types():
    assert {item.native for item in _items()} >= {str, int, bool, Decimal}


def test_field_that_reads_values_its_own_way_goes_the_long_way():
    class Shouting(models.CharField):  # type: ignore[type-arg]
        def to_python(self, value: Any) -> Any:
            return value.upper()

    assert way_of(Shouting())[0] is None
    assert way_of(models.CharField())[0] is str
