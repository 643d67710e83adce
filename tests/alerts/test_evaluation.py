"""What fires, once, and what does not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, connections
from django.test import Client

import audit_log
from audit_log import testing
from audit_log.alerts import cursors, evaluation, sweeping
from audit_log.alerts.evaluation import evaluate
from audit_log.events import Request
from audit_log.models import Alert, Cursor, Record, Stream
from audit_log.recording import losses
from tests.ledger.building import a_long_stream, sql
from tests.shop.models import Category, Product

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin() -> User:
    return User.objects.create_user("ada", is_staff=True)


@pytest.fixture
def categories() -> list[Category]:
    return Category.objects.bulk_create([Category(name=str(n)) for n in range(150)])


def only() -> Alert:
    return Alert.objects.get()


# --- the three ways to delete many


def test_query_set_delete_of_many_objects_fires_once(rule, admin, categories, relay_and_evaluate):
    rule()
    with audit_log.acting(admin):
        Category.objects.all().delete()
    assert relay_and_evaluate() == 1
    assert (only().rule, only().group, only().measured) == ("many_deletes", str(admin.pk), 150)
    assert evaluate() == 0


def test_deleting_one_by_one_fires_once(rule, admin, categories, relay_and_evaluate):
    rule()
    with audit_log.acting(admin):
        for category in categories:
            category.delete()
    assert relay_and_evaluate() == 1
    assert only().measured == 150


def test_cascade_fires_once(rule, admin, relay_and_evaluate):
    rule()
    parent = Category.objects.create(name="parent")
    Product.objects.bulk_create([Product(name=str(n), category=parent) for n in range(150)])
    with audit_log.acting(admin):
        parent.delete()
    assert relay_and_evaluate() == 1
    assert only().measured == 151


def test_one_request_of_the_admin_site_fires_once(rule, settings, categories, relay_and_evaluate):
    settings.ROOT_URLCONF = "tests.admin.urls"
    rule()
    root = User.objects.create_superuser("root")
    client = Client()
    client.force_login(root)
    client.post(
        "/admin/shop/category/",
        {
            "action": "delete_selected",
            "_selected_action": [category.pk for category in categories],
            "post": "yes",
        },
    )
    assert not Category.objects.exists()
    assert relay_and_evaluate() == 1
    assert (only().group, only().measured) == (str(root.pk), 150)


def test_ninety_nine_objects_fire_nothing(rule, admin, categories, relay_and_evaluate):
    rule()
    with audit_log.acting(admin):
        Category.objects.filter(pk__in=[row.pk for row in categories[:99]]).delete()
    assert relay_and_evaluate() == 0


def test_who_is_no_admin_fires_nothing(rule, categories, relay_and_evaluate):
    rule()
    with audit_log.acting(User.objects.create_user("teller")):
        Category.objects.all().delete()
    assert relay_and_evaluate() == 0


def test_record_that_affects_many_counts_as_many(rule, happened, fired):
    """As bulk operations will say it."""
    rule()
    happened([0], affected=99)
    assert fired() == []
    happened([1], affected=None)
    assert fired() == [("7", 100, 0)]


# --- windows


def test_each_group_is_counted_by_itself(rule, happened, fired):
    rule(threshold=10)
    for actor in ("1", "2"):
        happened(range(9), actor_id=actor)
    assert fired() == []
    happened([9], actor_id="2")
    happened([9], actor_id=None)
    assert fired() == [("2", 10, 0)]


def test_records_without_the_column_are_a_group_too(rule, happened, fired):
    rule(threshold=10)
    happened(range(10), actor_id=None)
    assert fired() == [("", 10, 0)]


def test_rule_without_group_counts_all(rule, happened, fired):
    rule(threshold=10, group_by=None)
    happened(range(5), actor_id="1")
    happened(range(5), actor_id="2")
    assert fired() == [("", 10, 0)]


def test_count_does_not_look_at_affected(rule, happened, fired):
    rule(threshold=10, measure="count")
    happened(range(9), affected=50)
    assert fired() == []
    happened([9], affected=0)
    assert fired() == [("7", 10, 0)]


def test_slow_deletion_fires_nothing(rule, happened, fired):
    rule(threshold=10)
    for n in range(30):
        happened([n * 34])  # nine in any five minutes
        assert fired() == []


def test_records_of_earlier_evaluations_count(rule, happened, fired):
    rule(threshold=10)
    for n in range(9):
        happened([n])
        assert fired() == []
    happened([200])
    assert fired() == [("7", 10, 0)]


def test_attack_that_goes_on_fires_again_when_the_window_has_passed(rule, happened, fired):
    rule(threshold=10)
    happened(range(10))
    assert fired() == [("7", 10, 0)]
    happened(range(10, 299))
    assert fired() == [("7", 10, 0)]
    happened(range(299, 309))
    assert fired() == [("7", 10, 0)]  # nine of these are of the next window
    happened([309])
    assert fired() == [("7", 10, 0), ("7", 10, 300)]


def test_long_attack_in_one_page_fires_once_a_window(rule, happened, fired):
    rule(threshold=10)
    happened(range(0, 900, 5))
    assert fired() == [("7", 60, 0), ("7", 60, 300), ("7", 60, 600)]
    assert fired() == [("7", 60, 0), ("7", 60, 300), ("7", 60, 600)]


def test_late_records_count_in_the_window_they_happened_in(rule, happened, fired):
    rule(threshold=10)
    happened([0, 1, 2, 3])
    happened([1000])
    assert fired() == []
    happened([4, 5, 6, 7, 8])
    assert fired() == []
    happened([2.5])
    assert fired() == [("7", 10, 0)]


def test_late_record_completes_a_window_of_later_ones(rule, happened, fired):
    rule(threshold=10)
    happened(range(10, 19))
    assert fired() == []
    happened([0])
    assert fired() == [("7", 10, 0)]


def test_records_that_waited_for_hours_still_count(rule, happened, fired):
    """No worker ran: that is when somebody would do it."""
    rule(threshold=10)
    happened(range(-50_000, -49_990))
    assert fired() == [("7", 10, -50_000)]


def test_imported_history_fires_nothing_and_counts_for_nothing(rule, happened, fired):
    rule(threshold=10)
    happened(range(-50_000, -49_000), source="import")
    assert fired() == []
    happened([-49_999.5])
    assert fired() == []


def test_import_of_what_happens_now_counts(rule, happened, fired):
    rule(threshold=10)
    happened(range(10), source="import")
    assert fired() == [("7", 10, 0)]


def test_forged_time_at_the_end_of_the_calendar_stops_nothing(rule, happened, fired, start):
    rule(threshold=1)
    end = (datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC) - start).total_seconds()
    happened([end])
    happened([0], actor_id="8")
    assert sorted(fired()) == [("7", 1, end), ("8", 1, 0)]


# --- what a rule matches


@pytest.mark.parametrize(
    ("match", "number"),
    [
        ({}, 5),
        ({"action": "pay.*"}, 2),
        ({"action": ["pay.out", "login"]}, 2),
        ({"action": "pay"}, 0),
        ({"status": [404, 500]}, 1),
        ({"tenant": "*"}, 1),
        ({"stream": "security"}, 1),
        ({"stream": "default", "action": "login"}, 0),
    ],
)
def test_rule_counts_what_it_matches(rule, happened, match: dict[str, Any], number: int):
    happened([0], action="pay.out")
    happened([1], action="pay.in", tenant="acme")
    happened([2], action="request", request=Request(status=404))
    happened([3], action="PAY.in")
    happened([4], stream="security", action="login")
    rule(match=match, group_by=None, threshold=1)
    evaluate()
    assert sum(Alert.objects.values_list("measured", flat=True)) == number


def test_rule_counts_over_all_streams(rule, happened, fired):
    rule(threshold=10)
    happened(range(5), stream="security")
    happened(range(5, 10))
    assert fired() == [("7", 10, 0)]


def test_alert_does_not_feed_itself(rule, happened, fired):
    rule(match={"action": ["audit_log.*", "delete"]}, group_by=None, threshold=1)
    happened([0])
    assert len(fired()) == 1
    for _ in range(3):
        testing.relay()
        assert len(fired()) == 1
    assert Record.objects.filter(action="audit_log.alerted").count() == 1


# --- what is kept of it


def test_alert_is_recorded_in_the_log_and_open(rule, happened, fired):
    rule(threshold=10)
    happened(range(10))
    fired()
    testing.relay()
    row = Record.objects.get(action="audit_log.alerted")
    assert row.stream == "audit_log"
    assert row.sealed_data is None
    assert (row.target_type, row.target_id) == ("audit_log.alert", str(only().pk))
    assert row.data is not None
    wanted = {"rule": "many_deletes", "group_by": "actor_id", "group": "7", "measured": 10}
    assert wanted.items() <= row.data.items()
    assert (row.data["threshold"], row.data["window"]) == (10, 300)


def test_alert_names_the_record_that_reached_the_threshold(rule, happened, fired, start):
    rule(threshold=10)
    happened(range(12))
    fired()
    alert = only()
    assert (alert.stream, alert.sequence) == ("default", 9)
    assert (alert.window_start, alert.window_end) == (start, start + timedelta(minutes=5))
    assert alert.match == {"action": ["delete"], "actor_type": ["admin"], "actor_id": ["7"]}
    assert (alert.due_at, alert.channels) == (alert.fired_at, {"log": {"attempts": 0}})


def test_alert_and_cursor_stand_or_fall_together(rule, happened, monkeypatch, fired):
    rule(threshold=10)
    happened(range(5))
    assert fired() == []
    happened(range(5, 10))

    def fail(*_args: object, **_options: object) -> None:
        raise RuntimeError("killed here")

    with monkeypatch.context() as patch:
        patch.setattr(cursors, "move", fail)
        with pytest.raises(RuntimeError):
            evaluate()
    assert not Alert.objects.exists()
    assert fired() == [("7", 10, 0)]


# --- the cursor


def test_fresh_install_misses_nothing(rule, happened, fired):
    rule(threshold=10)
    happened(range(10))
    assert not Cursor.objects.exists()
    assert fired() == [("7", 10, 0)]


def test_ledger_that_was_there_before_raises_no_storm(rule, happened, fired):
    for n in range(20):
        happened(range(n * 1000, n * 1000 + 10))
    _record_earlier(timedelta(hours=2))
    happened([25_000])
    rule(threshold=10)
    assert fired() == []
    assert Cursor.objects.get(stream="default").sequence == 201
    happened(range(25_001, 25_010))
    assert fired() == [("7", 10, 25_000)]


def _record_earlier(by: timedelta) -> None:
    moment = datetime.now(UTC) - by
    raw = Record._meta.get_field("recorded_at").get_db_prep_save(moment, connection)
    sql("UPDATE audit_log_record SET recorded_at = %s", raw)


def test_purged_records_do_not_hold_up_the_cursor(rule, happened, fired):
    rule(threshold=3)
    happened([0])
    assert fired() == []
    happened(range(1, 5))
    sql("DELETE FROM audit_log_record WHERE sequence < 4")
    assert fired() == []
    sql("DELETE FROM audit_log_record")
    Stream.objects.update(size=9)
    assert fired() == []
    assert Cursor.objects.get().sequence == 9


def test_rule_added_later_begins_with_what_comes(rules, rule, happened, fired):
    rules()
    happened(range(500))
    assert fired() == []
    assert Cursor.objects.get().sequence == 500
    rule(threshold=10)
    assert fired() == []
    happened([499.5])
    ((group, measured, _begin),) = fired()
    assert (group, measured) == ("7", 11)  # as many of the old ones as it takes, and the new one


def test_pages_are_bounded_and_none_is_forgotten(rule, happened, monkeypatch, fired):
    monkeypatch.setattr(evaluation, "PAGE", 7)
    rule(threshold=40)
    happened(range(50))
    assert fired() == [("7", 50, 0)]
    assert Cursor.objects.get().sequence == 50


def test_seconds_bound_an_evaluation(rule, happened, monkeypatch):
    monkeypatch.setattr(evaluation, "PAGE", 7)
    rule(threshold=40)
    happened(range(50))
    assert evaluate(seconds=0) == 0
    assert Cursor.objects.get().sequence == 0
    assert evaluate(seconds=60) == 1


# --- cost


def test_nothing_new_costs_two_queries(rule, happened, django_assert_num_queries):
    rule()
    happened(range(3))
    evaluate()
    with django_assert_num_queries(2):
        evaluate()


def test_page_that_no_rule_matches_costs_no_query_of_a_rule(
    rules, happened, django_assert_num_queries
):
    rules({}, {}, {})
    happened([0])
    evaluate()
    happened(range(1, 900), action="update")
    # What is new, savepoint, lock, page, move, release.
    with django_assert_num_queries(7):
        evaluate()


@pytest.mark.parametrize("groups", [1, 50])
def test_page_costs_two_queries_a_rule_however_many_groups(
    rule, happened, django_assert_num_queries, groups: int
):
    rule()
    happened([0])
    evaluate()
    for n in range(groups):
        happened([n], actor_id=str(n))
    with django_assert_num_queries(9):
        evaluate()


def test_what_an_alert_covers_is_not_counted_again(rule, happened, django_assert_num_queries):
    rule(threshold=10)
    happened(range(10))
    evaluate()
    happened(range(10, 200))
    with django_assert_num_queries(8):
        assert evaluate() == 0


def test_long_ledger_is_begun_with_few_queries(rule, django_assert_max_num_queries):
    a_long_stream(1_000)
    _record_earlier(timedelta(hours=2))
    rule()
    with django_assert_max_num_queries(25):
        evaluate()
    assert Cursor.objects.get().sequence == 1_000


# --- at the same time


@contextmanager
def _isolation(is_strict: bool) -> Iterator[None]:
    """Under REPEATABLE READ, if `is_strict`, for this thread and those to come."""
    options = connection.settings_dict["OPTIONS"]
    before = dict(options)
    if is_strict and connection.vendor == "postgresql":
        from psycopg import IsolationLevel

        options["isolation_level"] = IsolationLevel.REPEATABLE_READ
    elif is_strict:
        options["isolation_level"] = "repeatable read"
    connection.close()
    try:
        yield
    finally:
        options.clear()
        options.update(before)
        connection.close()


@pytest.mark.parametrize("is_strict", [False, True])
@pytest.mark.django_db(transaction=True)
def test_evaluations_at_once_fire_once(rule, happened, is_strict: bool):
    if is_strict and connection.vendor == "sqlite":
        pytest.skip("SQLite has no levels of isolation")
    rule(threshold=10)
    happened(range(10))
    happened([50], stream="security")
    barrier = threading.Barrier(4)
    results: list[int] = []

    def work() -> None:
        try:
            barrier.wait(300)
            results.append(sweeping.look())
        finally:
            connections.close_all()

    before = losses.counts().get("alerts_failed", 0)
    with _isolation(is_strict):
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(300)
    if is_strict:
        sweeping.look()  # each may have been refused for the others, before it fired or after
    assert Alert.objects.count() == 1
    if not is_strict:
        assert sum(results) == 1
        assert losses.counts().get("alerts_failed", 0) == before


@pytest.mark.parametrize("odd", ["a' OR 1=1", "%", "é\u202e", "x" * 255, "A", "a "])
def test_group_may_be_any_text(rule, happened, fired, odd: str):
    rule(threshold=2)
    happened([0, 1], actor_id=odd)
    happened([0], actor_id=odd.strip().lower() + "*")
    assert fired() == [(odd, 2, 0)]
