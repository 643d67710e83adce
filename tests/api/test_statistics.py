"""Counts by interval, and the figures of routes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from audit_log import testing
from audit_log.capture import usage
from audit_log.events import Actor, Request, emitter
from audit_log.models import Record
from audit_log.reading import statistics
from tests.api.asking import get, refused
from tests.ledger.building import an_event, write

pytestmark = pytest.mark.django_db
DAY = datetime(2026, 3, 1, tzinfo=UTC)


def at(moment: datetime, **values: Any) -> Any:
    return an_event(id=emitter().id_for(moment), occurred_at=moment, **values)


def hours(*numbers: float, **values: Any) -> None:
    write([at(DAY + timedelta(hours=n), **values) for n in numbers])


def totals(found: Any) -> dict[str, dict[str, int]]:
    """The counts of the intervals that have any."""
    return {bucket["start"]: bucket["counts"] for bucket in found["buckets"] if bucket["total"]}


def test_records_are_counted_by_hour_and_action(reader):
    hours(0, 0.5, 1.25, action="login")
    hours(1, 3.999, action="logout")
    found = get(
        reader, "statistics/", interval="hour", since="2026-03-01", until="2026-03-01T04:00"
    )
    assert [bucket["start"] for bucket in found["buckets"]] == [
        f"2026-03-01T0{n}:00:00.000000Z" for n in range(4)
    ]
    assert [bucket["counts"] for bucket in found["buckets"]] == [
        {"login": 2},
        {"login": 1, "logout": 1},
        {},
        {"logout": 1},
    ]
    assert [bucket["total"] for bucket in found["buckets"]] == [2, 2, 0, 1]
    assert (found["interval"], found["group_by"]) == ("hour", "action")


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        (
            "minute",
            {
                "2026-03-01T00:00:00.000000Z": {"update": 2},
                "2026-03-01T00:01:00.000000Z": {"update": 1},
                "2026-03-01T23:59:00.000000Z": {"update": 1},
            },
        ),
        (
            "hour",
            {
                "2026-03-01T00:00:00.000000Z": {"update": 3},
                "2026-03-01T23:00:00.000000Z": {"update": 1},
            },
        ),
        ("day", {"2026-03-01T00:00:00.000000Z": {"update": 4}}),
        ("month", {"2026-03-01T00:00:00.000000Z": {"update": 4}}),
    ],
)
def test_every_interval_begins_in_utc(reader, settings, interval, expected):
    settings.TIME_ZONE = "America/New_York"
    moments = [0, 59.999999, 60, 86399.999999]
    write([at(DAY + timedelta(seconds=n)) for n in moments])
    write([at(DAY - timedelta(microseconds=1)), at(DAY + timedelta(days=1))])
    found = get(reader, "statistics/", interval=interval, since="2026-03-01", until="2026-03-02")
    assert totals(found) == expected


def test_months_are_of_their_own_length(reader):
    found = get(reader, "statistics/", interval="month", since="2023-12-31", until="2024-04-01")
    assert [bucket["start"][:10] for bucket in found["buckets"]] == [
        "2023-12-01",
        "2024-01-01",
        "2024-02-01",
        "2024-03-01",
    ]


def test_first_interval_begins_before_since(reader):
    hours(1, 1.9)
    found = get(reader, "statistics/", since="2026-03-01T01:30", until="2026-03-01T02:00")
    assert totals(found) == {"2026-03-01T01:00:00.000000Z": {"update": 2}}


def test_record_counts_by_its_moment_where_its_id_says_a_little_else(reader):
    moment = DAY + timedelta(milliseconds=5)
    write([an_event(id=emitter().id_for(moment - timedelta(seconds=1)), occurred_at=moment)])
    found = get(reader, "statistics/", since="2026-03-01", until="2026-03-01T01:00")
    assert totals(found) == {"2026-03-01T00:00:00.000000Z": {"update": 1}}


@pytest.mark.parametrize("column", statistics.GROUPS)
def test_records_can_be_grouped_by(reader, column):
    hours(0, 1, 2, actor=Actor("admin", "1"), service="shop")
    found = get(reader, "statistics/", group_by=column, since="2026-03-01", until="2026-03-02")
    (row, *_) = Record.objects.all()
    name = getattr(row, column) or "(none)"
    assert list(totals(found).values()) == [{name: 1}] * 3


def test_filters_narrow_what_is_counted(reader):
    hours(0, 1, action="login", outcome="failure")
    hours(0, action="login")
    hours(0, action="create")
    period = {"since": "2026-03-01", "until": "2026-03-02", "interval": "day"}
    found = get(reader, "statistics/", action="login", outcome="failure", **period)
    assert totals(found) == {"2026-03-01T00:00:00.000000Z": {"login": 2}}
    assert totals(get(reader, "statistics/", q="action:create", **period)) == {
        "2026-03-01T00:00:00.000000Z": {"create": 1}
    }


def test_rare_values_share_a_line(reader, monkeypatch):
    monkeypatch.setattr(statistics, "MAX_GROUPS", 2)
    for n, name in enumerate(("a", "b", "c", "d"), start=1):
        hours(*([1] * n), action=name)
    found = get(reader, "statistics/", since="2026-03-01", until="2026-03-01T02:00")
    assert list(totals(found).values()) == [{"(other)": 3, "c": 3, "d": 4}]


def test_counting_is_one_query(reader):
    hours(*range(20))
    get(reader, "statistics/")
    with CaptureQueriesContext(connection) as queries:
        get(reader, "statistics/", since="2026-03-01", until="2026-03-02")
    counting = [query["sql"] for query in queries if "COUNT(" in query["sql"]]
    assert len(counting) == 1


@pytest.mark.parametrize(
    ("parameters", "name", "words"),
    [
        ({"interval": "week"}, "interval", "minute"),
        ({"group_by": "actor_id"}, "group_by", "action"),
        ({"since": "2026-03-02", "until": "2026-03-01"}, "since", "later"),
        ({"interval": "minute", "since": "2026-03-01", "until": "2026-03-03"}, "since", "1 days"),
        ({"interval": "hour", "since": "2025-03-01", "until": "2026-03-01"}, "since", "31 days"),
        ({"interval": "day", "since": "2000-01-01", "until": "2026-03-01"}, "since", "400 days"),
        ({"since": "0001-01-01", "until": "0001-01-02"}, "since", ""),
        ({"since": "soon"}, "since", "ISO 8601"),
        ({"colour": "red"}, "colour", "no such parameter"),
        ({"outcome": "maybe"}, "outcome", ""),
        ({"ip": "home"}, "ip", "not an address"),
        ({"page_size": "5"}, "page_size", ""),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(reader, parameters, name, words):
    errors = refused(reader, "statistics/", **parameters)
    assert words in errors[name][0]


# Routes


@pytest.mark.parametrize("path", ["statistics/", "statistics/routes/"])
@pytest.mark.parametrize(
    ("since", "until"),
    [
        ("0001-01-01T00:00:00+14:00", "0001-01-03"),
        ("9999-12-30", "9999-12-31T23:59:59-14:00"),
    ],
)
def test_moment_that_is_none_in_utc_is_refused(reader, path, since, until):
    assert "since" in refused(reader, path, since=since, until=until)


def count(route: str, milliseconds: int, times: int = 1, status: int = 200) -> None:
    for _ in range(times):
        usage.count(route, status, milliseconds)


@pytest.fixture
def summarise(_no_counts: None) -> Any:
    def store() -> None:
        usage.emit(everything=True)
        testing.relay()

    return store


@pytest.fixture
def _no_counts() -> None:
    usage._counts.clear()


def routes(client: Any, **parameters: Any) -> dict[str, Any]:
    period = {"until": (datetime.now(UTC) + timedelta(minutes=1)).isoformat()}
    since = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()
    found = get(client, "statistics/routes/", **{"since": since, **period, **parameters})
    return {row["route"]: row for row in found["routes"]}


def test_routes_have_requests_errors_and_percentiles(reader, summarise):
    count("pay", 4, 90)
    count("pay", 200, 8)
    count("pay", 900, 2, status=503)
    count("slow", 60_000, 1, status=404)
    summarise()
    found = routes(reader)
    assert found["pay"] == {
        "route": "pay",
        "requests": 100,
        "errors": 2,
        "latency_ms": {"p50": 5, "p95": 250, "p99": 1000},
    }
    assert found["slow"]["latency_ms"] == {"p50": None, "p95": None, "p99": None}
    assert found["slow"]["errors"] == 0
    assert next(iter(found)) == "pay"


def test_summaries_of_many_processes_and_minutes_add_up(reader, summarise):
    for _ in range(3):
        count("pay", 8, 10)
        summarise()
    assert routes(reader)["pay"]["requests"] == 30


def test_one_route_can_be_asked_for(reader, summarise):
    count("pay", 8)
    count("look", 8)
    summarise()
    assert list(routes(reader, route="look")) == ["look"]


def test_summary_counts_in_its_minute_not_when_it_was_written(reader):
    minute = int(DAY.timestamp())
    data = {"minute": minute, "requests": 5, "errors": 1, "latency_ms": {"le_10": 5}}
    late = DAY + timedelta(seconds=62)
    write([at(late, action="usage", request=Request(route="pay"), data=data)])
    period = {"since": "2026-03-01T00:00", "until": "2026-03-01T00:01"}
    assert routes(reader, **period)["pay"]["requests"] == 5
    period = {"since": "2026-03-01T00:01", "until": "2026-03-01T00:02"}
    assert routes(reader, **period) == {}


def test_too_many_summaries_are_refused(reader, summarise, monkeypatch):
    monkeypatch.setattr(statistics, "MAX_SUMMARIES", 2)
    for name in ("a", "b", "c"):
        count(name, 1)
    summarise()
    since = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()
    assert "shorten" in refused(reader, "statistics/routes/", since=since)["since"][0]
    assert "7 days" in refused(reader, "statistics/routes/", since="2026-03-01")["since"][0]
    assert "q" in refused(reader, "statistics/routes/", q="x")


def test_summary_that_was_altered_is_passed_over(reader):
    write([at(DAY, action="usage", request=Request(route="pay"))])
    assert routes(reader, since="2026-03-01", until="2026-03-02") == {}
