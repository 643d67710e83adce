"""Cutting a stream into parts."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_log.exceptions import RetentionRefused
from audit_log.retention.cutting import Cut, Row, cuts, is_over, midnight

DAY = date(2026, 3, 10)
NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)


def at(days: int, hours: float = 12) -> datetime:
    """So many days after DAY, at that hour."""
    return midnight(DAY) + timedelta(days=days, hours=hours)


def rows(*moments: datetime, first: int = 0, recorded_at: datetime = NOW) -> list[Row]:
    return [Row(first + n, moment, recorded_at) for n, moment in enumerate(moments)]


def shapes(found: list[Cut]) -> list[tuple[int, int, int]]:
    """Day (after DAY), first, last."""
    return [((cut.day - DAY).days, cut.first, cut.last) for cut in found]


def cut(*moments: datetime, first: int = 0, now: datetime = NOW, most: int = 100) -> list[Cut]:
    return list(cuts(rows(*moments, first=first), first, now, most=most))


def test_each_day_is_a_part():
    found = cut(at(0), at(0, 23.9), at(1, 0), at(3))
    assert shapes(found) == [(0, 0, 1), (1, 2, 2), (3, 3, 3)]
    assert (found[0].min_time, found[0].max_time, found[0].count) == (at(0), at(0, 23.9), 2)


def test_late_record_joins_the_part_at_hand():
    found = cut(at(1, 1), at(0, 23), at(0, 0), at(1, 2))
    assert shapes(found) == [(1, 0, 3)]
    assert found[0].min_time == at(0, 0)


def test_much_older_record_begins_a_part_of_its_own_day():
    found = cut(at(2), at(0, 23), at(0, 22), at(2))
    assert shapes(found) == [(2, 0, 0), (0, 1, 2), (2, 3, 3)]


def test_day_is_closed_an_hour_after_midnight_utc():
    end = midnight(DAY) + timedelta(days=1)
    assert not is_over(DAY, end + timedelta(minutes=59, seconds=59))
    assert is_over(DAY, end + timedelta(hours=1))
    assert cut(at(0), now=end) == []


def test_nothing_behind_an_open_day_is_cut():
    found = cut(at(0), at(10), at(0), now=at(10, 23))
    assert shapes(found) == [(0, 0, 0)]


def test_part_has_so_many_records_at_most():
    assert shapes(cut(*[at(0)] * 7, most=3)) == [(0, 0, 2), (0, 3, 5), (0, 6, 6)]


def test_record_of_the_future_counts_for_the_day_it_was_recorded():
    """A clock that is ahead must not keep all that follows from being archived."""
    found = list(cuts(rows(at(0), at(4000), at(1), recorded_at=at(0, 13)), 0, NOW))
    assert shapes(found) == [(0, 0, 2)]
    assert found[0].max_time == at(4000)


def test_days_are_those_of_utc():
    zone = datetime(2026, 3, 11, 1, tzinfo=UTC).astimezone()  # whatever zone the host is in
    assert shapes(cut(zone)) == [(1, 0, 0)]


@pytest.mark.parametrize("first", [0, 1])
def test_missing_record_stops_the_cutting(first):
    gap = [*rows(at(0), at(0)), *rows(at(0), first=3)]
    with pytest.raises(RetentionRefused, match="record 2 is missing"):
        list(cuts(gap, 0, NOW))
    with pytest.raises(RetentionRefused, match=f"record {first} is missing"):
        list(cuts(rows(at(0), first=first + 1), first, NOW))


moments = st.lists(
    st.builds(
        lambda day, seconds: (
            datetime.combine(DAY, time.min, UTC) + timedelta(days=day, seconds=seconds)
        ),
        st.integers(0, 12),
        st.integers(0, 86_399),
    ),
    max_size=40,
)


@given(moments, st.integers(0, 5), st.integers(1, 9))
def test_parts_are_contiguous_closed_and_not_too_large(of, first, most):
    """Each record is in exactly one part, or waits with all that follow it."""
    given_rows = rows(*of, first=first)
    found = list(cuts(given_rows, first, NOW, most=most))
    assert [n for part in found for n in range(part.first, part.last + 1)] == list(
        range(first, found[-1].last + 1 if found else first)
    )
    by_number = {row.sequence: row for row in given_rows}
    for part in found:
        members = [by_number[n].occurred_at for n in range(part.first, part.last + 1)]
        assert 1 <= part.count <= most
        assert is_over(part.day, NOW)
        assert (part.min_time, part.max_time) == (min(members), max(members))
        end = midnight(part.day) + timedelta(days=1)
        assert all(end - timedelta(days=2) <= moment < end for moment in members)
    left = by_number.get(found[-1].last + 1 if found else first)
    assert left is None or not is_over(left.occurred_at.date(), NOW)


@given(moments, st.integers(1, 9), st.integers(0, 39))
def test_cutting_goes_on_where_it_stopped(of, most, stop):
    """What a second run cuts follows on the first, however far that one came."""
    given_rows = rows(*of)
    before = list(cuts(given_rows[:stop], 0, NOW, most=most))
    start = before[-1].last + 1 if before else 0
    after = list(cuts(given_rows[start:], start, NOW, most=most))
    numbers = [n for part in before + after for n in range(part.first, part.last + 1)]
    assert numbers == list(range(len(numbers)))
