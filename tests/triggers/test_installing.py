"""Putting triggers on tables, taking them off, and telling that they are not right."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection, connections

import audit_log
from audit_log import conf, registry, testing
from audit_log.capture.triggers import installing
from audit_log.coverage.report import report
from audit_log.models import Outbox, Record
from tests.shop.models import Category, Country, Place, Product, Restaurant
from tests.triggers import seen
from tests.triggers.seen import sql

pytestmark = pytest.mark.postgres


def run(*words: str) -> str:
    out = StringIO()
    call_command("audit_log", "triggers", *words, "--database", "default", stdout=out)
    return out.getvalue()


@pytest.fixture
def asking(transactional_db: None) -> Iterator[Any]:
    """Registers models, and installs nothing."""
    held = dict(registry._registered)

    def ask(*models: Any, **options: Any) -> None:
        for model in models:
            registry.register(model, **{"capture": "triggers", **options})

    yield ask
    registry._registered.clear()
    registry._registered.update(held)
    conf.forget()
    installing.remove("default", on_record=False)


def states() -> dict[str, str]:
    return {state.table: state.state for state in installing.states("default")}


def test_install_status_and_remove_are_on_record(asking):
    asking(Category)
    with pytest.raises(CommandError, match="2 tables are not as they should be"):
        run("status")
    assert "would be installed (is missing)" in run("install", "--dry-run")
    assert "installed (was missing)" in run("install")
    assert "0 of 1 tables" in run("install")
    assert "installed  shop.Category (shop_category)" in run("status")
    assert "would be removed" in run("remove", "--dry-run")
    assert "shop_category in 'default': removed" in run("remove")
    assert "0 tables" in run("remove")
    testing.relay()
    looked = Record.objects.get(action="audit_log.viewed")  # once in a minute
    assert (looked.stream, looked.source) == ("audit_log", "command")
    assert audit_log.contents(looked)["data"] == {"what": "triggers", "results": 2}
    records = Record.objects.filter(action__startswith="audit_log.trig").order_by("sequence")
    assert [(r.action, r.source, audit_log.contents(r)["data"]["tables"]) for r in records] == [
        ("audit_log.triggers_installed", "command", ["shop_category"]),
        ("audit_log.triggers_removed", "command", ["shop_category"]),
    ]
    assert {(r.actor_id, r.actor_token) for r in records} == {(looked.actor_id, looked.actor_token)}


def test_a_model_brings_the_tables_of_its_members(asking):
    asking(Product, Category)
    run("install", "--model", "shop.Product")
    assert states() == {
        "shop_product": "installed",
        "shop_product_tags": "installed",
        "shop_category": "missing",
        "audit_log_outbox": "installed",
    }
    run("remove", "--model", "shop.Product")
    assert set(states().values()) == {"missing"}


@pytest.mark.parametrize("words", ["shop.Nothing", "nonsense", "shop.Tag"])
def test_a_model_that_cannot_be_is_refused(asking, words):
    asking(Category)
    with pytest.raises(CommandError, match=words):
        run("install", "--model", words)


def test_nobody_asks(transactional_db):
    with pytest.raises(CommandError, match="No model asks for triggers"):
        run("install")
    assert "No model asks" in run("status")


def test_a_policy_that_changed_makes_them_outdated(asking):
    asking(Category)
    run("install")
    asking(Category, masked=["name"])
    assert states()["shop_category"] == "outdated"
    run("install")
    assert states()["shop_category"] == "installed"
    Category.objects.create(name="secret")
    assert "secret" not in seen.in_clear()


def test_a_column_that_came_or_went_makes_them_outdated(asking):
    asking(Product)
    sql("ALTER TABLE shop_product RENAME COLUMN stock TO stocked")
    try:
        run("install")
        assert states()["shop_product"] == "installed"
    finally:
        sql("ALTER TABLE shop_product RENAME COLUMN stocked TO stock")
    assert states()["shop_product"] == "outdated"


def test_a_column_nobody_has_looked_at_is_not_written(asking):
    asking(Category)
    run("install")
    sql("ALTER TABLE shop_category ADD COLUMN pin text DEFAULT 'correct horse'")
    try:
        Category.objects.create(name="x")
        assert "correct horse" not in seen.in_clear()
    finally:
        sql("ALTER TABLE shop_category DROP COLUMN pin")


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_disabled_ones_are_told(asking):
    asking(Category)
    run("install")
    sql("ALTER TABLE shop_category DISABLE TRIGGER audit_log_update")
    assert states()["shop_category"] == "disabled"
    with pytest.raises(CommandError) as raised:
        run("status")
    assert raised.value.returncode == 1
    (message,) = [each for each in run_checks(databases=["default"]) if each.id == "audit_log.W008"]
    assert "shop_category (disabled)" in message.msg
    assert "shop_category in 'default': disabled" in {place.what for place in report().unseen}
    run("install")
    assert states()["shop_category"] == "installed"


def test_a_function_that_somebody_altered_is_told(asking):
    asking(Category)
    run("install")
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tgfoid::regproc::text FROM pg_trigger WHERE tgname LIKE 'audit%ins%'"
        )
        (name,) = cursor.fetchone()
        cursor.execute(
            f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER"
            " AS $$ BEGIN RETURN NULL; END $$"
        )
    assert states()["shop_category"] == "outdated"


def test_the_guard_belongs_to_it(asking):
    asking(Category)
    run("install")
    sql("DROP TRIGGER audit_log_guard ON audit_log_outbox")
    assert states()["audit_log_outbox"] == "missing"
    run("install")
    assert states()["audit_log_outbox"] == "installed"


def test_triggers_that_nobody_asks_for_any_more_are_told(asking):
    asking(Category, Place, Restaurant)
    run("install")
    asking(Category, capture="orm")
    assert states()["shop_category"] == "stray"
    assert "shop_category" in run("remove", "--model", "shop.Category")
    assert "shop_category" not in states()


def test_status_for_programs(asking):
    asking(Category)
    run("install")
    found = json.loads(run("status", "--json"))
    assert {each["table"]: each["state"] for each in found["tables"]} == {
        "shop_category": "installed",
        "audit_log_outbox": "installed",
    }


def test_a_table_in_use_is_not_waited_for(asking, monkeypatch):
    asking(Category)
    monkeypatch.setattr(installing, "LOCK_TIMEOUT", "50ms")
    other = connections.create_connection("default")
    try:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute("LOCK TABLE shop_category IN ROW EXCLUSIVE MODE")
        with pytest.raises(CommandError, match="Nothing was changed"):
            run("install")
    finally:
        other.rollback()
        other.close()
    assert set(states().values()) == {"missing"}


def test_families_are_captured_alike(asking):
    asking(Place)
    ids = {message.id for message in run_checks() if "Restaurant" in message.msg}
    assert ids == {"audit_log.E008"}
    asking(Restaurant)
    assert "audit_log.E008" not in {message.id for message in run_checks()}


def test_what_a_trigger_cannot_know_is_refused(asking):
    asking(Category, subject="pk")
    asking(Country, subject="whom")
    messages = [message.msg for message in run_checks() if message.id == "audit_log.E008"]
    assert len(messages) == 1
    assert "subject='whom'" in messages[0]


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_coverage_says_who_captures(asking):
    asking(Category)
    run("install")
    found = {each["model"]: each["capture"] for each in report().as_dict()["models"]}
    assert (found["shop.Category"], found["shop.Tag"]) == ("triggers", "orm")
    assert not [place for place in report().places if "audit_log_insert" in place.what]


def test_without_an_outbox_there_are_no_triggers_left(asking):
    asking(Category)
    run("install")
    call_command("migrate", "audit_log", "zero", verbosity=0)
    try:
        sql("INSERT INTO shop_category (name) VALUES ('x')")
    finally:
        call_command("migrate", "audit_log", verbosity=0)
    assert not Outbox.objects.exists()
