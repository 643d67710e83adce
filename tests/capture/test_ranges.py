from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from audit_log.capture.plans import Plan, plan_of
from audit_log.capture.ranges import MAX_CHARACTERS, Ranges, in_order
from tests.shop.models import Category, Device, Shelf


def _plan(model: type) -> Plan:
    plan = plan_of(model)
    assert plan is not None
    return plan


def test_keys_that_follow_each_other_are_a_range():
    found = Ranges(_plan(Category), [1, 2, 3, 5, 7, 8])
    assert (found.parts, found.omitted) == (["1-3", "5", "7-8"], 0)


def test_other_keys_are_listed():
    key = uuid.UUID(int=7)
    assert Ranges(_plan(Device), [key]).parts == [str(key)]
    assert Ranges(_plan(Shelf), [("a", 1)]).parts == ['["a", 1]']


def test_what_does_not_fit_is_counted():
    found = Ranges(_plan(Category), range(0, 200_000, 2))
    assert sum(map(len, found.parts)) <= MAX_CHARACTERS
    assert len(found.parts) + found.omitted == 100_000
    assert found.parts[:2] == ["0", "2"]
    whole = Ranges(_plan(Category), range(10_000_000, 10_200_000))
    assert (whole.parts, whole.omitted) == (["10000000-10199999"], 0)


@given(st.sets(st.integers(min_value=0, max_value=300)))
def test_ranges_hold_the_keys_and_no_others(keys: set[int]):
    held: list[int] = []
    for part in Ranges(_plan(Category), in_order(keys)).parts:
        first, _dash, last = part.partition("-")
        held += range(int(first), int(last or first) + 1)
    assert held == sorted(keys)
