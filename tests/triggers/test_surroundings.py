"""Who acts travels with the statement that writes, and nobody can read it on the way."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import Client

import audit_log
from audit_log import testing
from audit_log.capture.triggers.sending import Telling
from audit_log.models import Record
from tests.capture.statements import kinds, savepoint, statements
from tests.shop.models import Category, Product
from tests.triggers import seen
from tests.triggers.seen import sql

pytestmark = pytest.mark.postgres


def who(events: list[Any]) -> list[tuple[Any, ...]]:
    return [(e.actor and e.actor.label, e.reason, e.tenant) for e in events]


def test_acting_reaches_raw_sql_and_the_orm(triggers):
    triggers(Category)
    with audit_log.acting("robot", reason="ticket 42", tenant="acme"):
        sql("INSERT INTO shop_category (name) VALUES ('a')")
        Category.objects.create(name="b")
        with transaction.atomic():
            sql("UPDATE shop_category SET name = 'c'")
            Category.objects.all().delete()
    assert set(who(seen.events())) == {("robot", "ticket 42", "acme")}
    assert len(seen.events()) == 6


def test_who_acts_changes_within_a_transaction(triggers):
    triggers(Category)
    with transaction.atomic():
        with audit_log.acting("first"):
            sql("INSERT INTO shop_category (name) VALUES ('a')")
            with transaction.atomic(), audit_log.acting("second"):
                sql("INSERT INTO shop_category (name) VALUES ('b')")
            sql("INSERT INTO shop_category (name) VALUES ('c')")
        sql("INSERT INTO shop_category (name) VALUES ('d')")
    role = connection.settings_dict["USER"]
    assert [label for label, *_ in who(seen.events())] == ["first", "second", "first", role]


def test_a_savepoint_that_is_rolled_back_takes_what_was_said_with_it(triggers):
    triggers(Category)
    with transaction.atomic(), audit_log.acting("robot"):
        sid = savepoint()
        sql("INSERT INTO shop_category (name) VALUES ('a')")
        transaction.savepoint_rollback(sid)
        sql("INSERT INTO shop_category (name) VALUES ('b')")
    assert [label for label, *_ in who(seen.events())] == ["robot"]


def test_a_savepoint_does_not_leave_the_actor_before_it(triggers):
    triggers(Category)
    with transaction.atomic():
        with audit_log.acting("robot"):
            sql("INSERT INTO shop_category (name) VALUES ('a')")
            sid = savepoint()
            with audit_log.acting("other"):
                sql("INSERT INTO shop_category (name) VALUES ('b')")
            transaction.savepoint_rollback(sid)
        sql("INSERT INTO shop_category (name) VALUES ('c')")
    role = connection.settings_dict["USER"]
    assert [label for label, *_ in who(seen.events())] == ["robot", role]


def test_it_ends_with_the_transaction(triggers):
    triggers(Category)
    with audit_log.acting("robot"):
        sql("INSERT INTO shop_category (name) VALUES ('a')")
        with transaction.atomic():
            sql("INSERT INTO shop_category (name) VALUES ('a')")
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('audit_log.context', true)")
        assert not cursor.fetchone()[0]


def test_no_message_more_is_sent(triggers):
    triggers(Category)
    with audit_log.acting("robot"):
        with statements() as seen_autocommit:
            Category.objects.create(name="a")
        with statements() as seen_together, transaction.atomic():
            sql("UPDATE shop_category SET name = 'b'")
            sql("UPDATE shop_category SET name = 'c'")
        with statements() as seen_reading, transaction.atomic():
            list(Category.objects.all())
    assert kinds(seen_autocommit) == ["SET INSERT"]
    assert kinds(seen_together) == ["BEGIN", "SET UPDATE", "UPDATE", "COMMIT"]
    assert kinds(seen_reading) == ["BEGIN", "SELECT", "COMMIT"]


def test_nothing_is_sent_where_there_is_nothing_to_say(triggers):
    triggers(Category)
    with statements() as sent:
        Category.objects.create(name="a")
    assert kinds(sent) == ["INSERT"]


def test_the_project_sees_its_own_statements(triggers, django_assert_num_queries):
    triggers(Category)
    with audit_log.acting("robot"), django_assert_num_queries(2) as captured:
        category = Category.objects.create(name="a")
        Category.objects.filter(pk=category.pk).update(name="b")
    assert all("audit_log" not in query["sql"] for query in captured.captured_queries)


def test_results_are_those_of_the_statement(triggers):
    triggers(Category)
    with audit_log.acting("robot"), connection.cursor() as cursor:
        cursor.execute("INSERT INTO shop_category (name) VALUES (%s) RETURNING name", ["a%"])
        assert cursor.fetchall() == [("a%",)]
        cursor.execute("UPDATE shop_category SET name = 'b'")
        assert cursor.rowcount == 1
        cursor.executemany("INSERT INTO shop_category (name) VALUES (%s)", [["c"], ["d"]])
        cursor.execute(
            "-- first\n/* and */ WITH x AS (SELECT 1) SELECT count(*) FROM shop_category"
        )
        assert cursor.fetchone() == (3,)
    assert {label for label, *_ in who(seen.events())} == {"robot"}
    assert len(seen.events()) == 4


def test_statements_that_are_put_together_by_the_driver_are_told_too(triggers):
    from psycopg.sql import SQL, Identifier

    triggers(Category)
    statement = SQL("INSERT INTO {} (name) VALUES (%s)").format(Identifier("shop_category"))
    with audit_log.acting("robot"):
        sql(statement, ["a"])  # type: ignore[arg-type]
        sql(b"UPDATE shop_category SET name = 'b'")  # type: ignore[arg-type]
    assert [label for label, *_ in who(seen.events())] == ["robot"] * 2


def test_other_models_still_take_their_batch_along(triggers):
    triggers(Category)
    product = Product.objects.create(name="a")
    product.name = "b"
    with audit_log.acting("robot"), statements() as sent:
        product.save()
    assert kinds(sent) == ["WITH"]


def test_nothing_is_in_the_way_where_no_model_is_captured_by_triggers(transactional_db):
    connection.ensure_connection()
    assert not [each for each in connection.execute_wrappers if isinstance(each, Telling)]


def test_nothing_personal_is_in_clear(triggers):
    triggers(Category)
    user = User.objects.create(username="eve", email="eve@example.com")
    seen.forget()
    with audit_log.acting(user, reason="because of eve"):
        sql("INSERT INTO shop_category (name) VALUES ('a')")
    assert "eve" not in seen.in_clear()
    (event,) = seen.events()
    assert (event.actor.label, event.reason) == ("eve", "because of eve")


def test_a_request_is_known_and_notable(triggers, settings):
    triggers(Category)
    settings.ROOT_URLCONF = "tests.triggers.urls"
    user = User.objects.create(username="eve")
    client = Client(REMOTE_ADDR="192.0.2.7")
    client.force_login(user)
    assert client.get("/raw/").status_code == 200
    testing.relay()
    record = Record.objects.get(target_type="shop.category")
    assert (record.actor_id, record.method, record.source) == (str(user.pk), "GET", "trigger")
    request = Record.objects.get(action="request")
    assert request.request_id == record.request_id
    assert audit_log.contents(record)["actor"]["ip"] == "192.0.2.7"
