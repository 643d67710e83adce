"""The sliding window itself."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from audit_log.alerts.windows import Counted, Span, Window, first_window
from audit_log.conf.alerts import AlertRule

START = datetime(2026, 11, 24, tzinfo=UTC)
RULE = AlertRule(name="r", threshold=10, window=timedelta(seconds=60))
Given = tuple[float, int, bool]


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def counted(*items: Given) -> list[Counted]:
    return [Counted(at(s), amount, "default", n, new) for n, (s, amount, new) in enumerate(items)]


def find(items: Iterable[Given], covered: Iterable[Span] = ()) -> Window | None:
    return first_window(counted(*items), RULE, list(covered))


def test_window_begins_with_the_first_record_that_counts_and_names_the_last():
    window = find([(n, 3, True) for n in range(5)])
    assert window is not None
    assert (window.start, window.end, window.measured) == (at(0), at(60), 12)
    assert window.last.sequence == 3


def test_one_record_may_be_enough():
    window = find([(0, 4, True), (1, 50, True)])
    assert window is not None
    assert (window.start, window.measured, window.last.sequence) == (at(0), 54, 1)


def test_what_is_a_window_apart_does_not_add_up():
    assert find([(0, 5, True), (60, 5, True)]) is None
    assert find([(0, 5, True), (59.9, 5, True)]) is not None


def test_what_other_alerts_cover_does_not_count():
    items = [(n * 10.0, 5, True) for n in range(4)]
    assert find(items, [(at(0), at(30))]) is None
    window = find(items, [(at(0), at(20))])
    assert window is not None
    assert window.start == at(20)


def test_only_old_records_fire_nothing_but_count_with_a_new_one():
    old = [(n * 1.0, 1, False) for n in range(50)]
    assert find(old) is None
    window = find([*old, (50, 1, True)])
    assert window is not None
    assert window.last.sequence == 50
    late = find([(0, 1, True), *[(n * 1.0, 1, False) for n in range(1, 20)]])
    assert late is not None
    assert (late.start, late.last.sequence) == (at(0), 9)


def test_records_without_amount_are_passed_over():
    assert find([(0, 0, True), (1, 10, False)]) is None


_ITEMS = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 6), st.just(True)), max_size=40)


@given(_ITEMS)
def test_window_is_found_if_and_only_if_one_is_there(items: list[Given]):
    """Against trying every window."""
    items = sorted(items)
    sums = [
        sum(amount for other, amount, _ in items[n:] if other - second < 60)
        for n, (second, _, _) in enumerate(items)
    ]
    assert (find(items) is not None) == any(total >= RULE.threshold for total in sums)
