"""What the benchmark computes from its times, and how it puts that down."""

from __future__ import annotations

import argparse
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import budgets, figures, grids, plan, results, tables, traffic
from benchmarks.__main__ import _sections
from benchmarks.subjects import NAMES, NONE, OURS, SUBJECTS

_STAGE = {"us": 1.0, "share": 1.0}
TIMES = st.lists(st.floats(min_value=0.1, max_value=1e6), min_size=1, max_size=20)


@given(TIMES, st.floats(min_value=0.01, max_value=1))
def test_a_percentile_is_one_of_the_values_and_as_many_are_below(values, share):
    found = figures.percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6


def test_a_slow_round_slows_both_and_leaves_the_ratio_alone():
    base = [[100.0] * 5, [900.0] * 5, [100.0] * 5]
    ours = [[150.0] * 5, [1350.0] * 5, [150.0] * 5]
    assert figures.ratios(ours, base) == [1.5, 1.5, 1.5]
    assert figures.summary(ours, base)["ratio"] == 1.5


def test_a_single_slow_iteration_does_not_move_the_ratio():
    summary = figures.summary([[10.0, 10.0, 900.0]] * 3, [[10.0, 10.0, 10.0]] * 3)
    assert (summary["ratio"], summary["median_us"], summary["p95_us"]) == (1.0, 10.0, 900.0)


def test_rounds_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="argument 2"):
        figures.ratios([[1.0]], [[1.0], [1.0]])


def test_round_trips_and_statements_are_told_apart():
    trace = (
        'F\t33\tQuery\t "SAVEPOINT a; INSERT; COMMIT"\n'
        'B\t14\tCommandComplete\t "SAVEPOINT"\n'
        'B\t15\tCommandComplete\t "INSERT 0 1"\n'
        'B\t11\tCommandComplete\t "COMMIT"\n'
        "B\t5\tReadyForQuery\t I\n"
        'F\t20\tParse\t "" "select \'ReadyForQuery\'" 0\n'
        "F\t4\tSync\n"
        'B\t13\tCommandComplete\t "SELECT 1"\n'
        "B\t5\tReadyForQuery\t I\n"
    )
    assert traffic.parse(trace) == traffic.Traffic(messages=2, statements=4)


HEADER = {"machine": {}, "date": "2026-11-24T10:00Z", "commit": "new", "versions": {}}


def test_a_run_of_one_section_leaves_the_others_with_their_own_date():
    old = results.merged(
        {},
        {"rows": {"rows": [1], "details": [2]}, "relay": {"relay": [3]}},
        {**HEADER, "date": "2026-11-01T10:00Z", "commit": "old"},
    )
    new = results.merged(old, {"relay": {"relay": [4]}}, HEADER)
    assert (new["rows"], new["details"], new["relay"]) == ([1], [2], [4])
    assert new["sections"] == {
        "rows": {"date": "2026-11-01T10:00Z", "commit": "old"},
        "relay": {"date": "2026-11-24T10:00Z", "commit": "new"},
    }


def test_results_are_read_as_they_were_written(tmp_path):
    found = results.merged({}, {"rows": {"rows": [{"ratio": 1.5, "subject": "é"}]}}, HEADER)
    results.save(found, tmp_path / "results.json")
    assert results.load(tmp_path / "results.json") == found


def test_sections_that_do_not_exist_are_refused_by_name():
    assert _sections("relay,micro") == ("relay", "micro")
    with pytest.raises(argparse.ArgumentTypeError, match="nonsense"):
        _sections("rows,nonsense")


def _row(operation: str, subject: str, ratio: float, captured: int = 1) -> dict[str, Any]:
    return {
        "operation": operation,
        "subject": subject,
        "median_us": 100.0,
        "p95_us": 200.0,
        "ratio": ratio,
        "queries": 1,
        "captured": captured,
    }


def test_a_peer_that_records_nothing_sets_no_limit():
    found = {
        "rows": [
            _row("update", OURS, 1.5),
            _row("update", "django-auditlog", 3.0),
            _row("update", "django-reversion", 1.1, captured=0),
        ]
    }
    assert budgets.best_peer("update")(found) == 3.0


def test_a_budget_says_kept_missed_or_not_measured():
    budget = budgets.Budget("a save", budgets.fixed(1.6), budgets.ratio("update"))
    assert budget.row({"rows": [_row("update", OURS, 1.6)]})[2:] == ["1.60", "", "", "kept"]
    assert budget.row({"rows": [_row("update", OURS, 1.7)]})[2:] == ["1.70", "", "", "**missed**"]
    assert budget.row({})[2:] == ["not measured", "", "", ""]


def test_a_budget_of_a_save_shows_what_ready_rows_would_cost():
    limit = next(budget for budget in budgets.BUDGETS if "SQLite" in budget.text)
    saved = {"operation": "update", "database": "sqlite", "ratio": 1.67, "floor": 1.48}
    assert limit.row({"saves": [saved]})[2:] == ["1.67", "", "1.48", "**missed**"]
    del saved["floor"]  # results of before there were any
    assert limit.row({"saves": [saved]})[4] == ""


def test_a_budget_of_the_relay_shows_what_ready_rows_would_reach():
    few = {"database": "postgres", "workers": 2, "records_in_table": 10_000, "ratio": 0.3}
    many = {**few, "records_in_table": 10_000_000, "ratio": 0.35, "floor": 0.6}
    into_many = next(budget for budget in budgets.BUDGETS if "4 million" in budget.text)
    into_few = next(budget for budget in budgets.BUDGETS if budget.text == "relay, two processes")
    assert into_many.row({"relay": [few, many]})[2:] == ["0.35", "", "0.60", "**missed**"]
    assert into_few.row({"relay": [few, many]})[2:] == ["0.30", "", "", "**missed**"]


def test_stages_into_a_large_table_have_a_column_of_their_own():
    row = {"database": "postgres", "records_in_table": 10_000, "stages": {"a": _STAGE}}
    large = {**row, "records_in_table": 10_000_000}
    assert tables.stages({"relay": [row, large]})[0] == [
        "µs an event",
        "postgres",
        "postgres, 10 million",
    ]


def test_what_is_captured_by_nobody_is_no_measured_bulk_operation():
    found = {"rows": [_row("qs_update_1000", OURS, 0.9, captured=0)]}
    assert budgets.ratio("qs_update_1000")(found) is None


def test_a_write_that_left_nothing_is_marked_and_a_read_is_not():
    rows = [
        _row(operation.name, subject, 1.25, captured=0)
        for operation in plan.OPERATIONS
        for subject in (NONE, OURS)
    ]
    cells = {row[0]: row[2] for row in tables.ratios({"rows": rows})[1:]}
    assert cells["create"] == f"1.25 {tables.NOTHING_RECORDED}"
    assert cells["get"] == "1.25"


def test_durations_have_three_figures_and_a_unit():
    assert [grids.duration(value) for value in (0.512, 38.24, 2345.6)] == [
        "0.512 µs",
        "38.2 µs",
        "2.35 ms",
    ]


def test_a_table_of_unknown_rows_shows_their_columns():
    rows: list[dict[str, Any]] = [
        {"rate": 10, "median_ms": 1.5, "stages": {"a": 1}},
        {"rate": 1000, "error": None},
    ]
    assert grids.generic(rows) == [
        ["rate", "median ms", "error"],
        ["10", "1.5", "-"],
        ["1,000", "-", "-"],
    ]


def test_every_subject_but_the_bare_one_says_where_its_events_are():
    for subject in SUBJECTS:
        assert bool(subject.events) == (subject.name != NONE)
    assert NAMES[:2] == (NONE, OURS)
