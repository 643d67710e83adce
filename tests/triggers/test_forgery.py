"""Rows in clear are not authenticated as batches are: only a trigger may write them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction

import audit_log
from audit_log import context, testing
from audit_log.capture.triggers import surroundings
from audit_log.models import Outbox, Record
from audit_log.models.outbox import Form
from tests.shop.models import Category, Product
from tests.triggers import seen
from tests.triggers.seen import sql

pytestmark = pytest.mark.postgres

FORGED = json.dumps(
    {"v": 1, "model": "shop.category", "op": "delete", "role": "boss", "key": ["id"], "rows": [[1]]}
)
INSERT = (
    "INSERT INTO audit_log_outbox (created_at, event_count, payload, form)"
    " VALUES (now(), 1, convert_to(%s, 'UTF8'), 1)"
)


def test_nobody_else_writes_rows_in_clear(triggers):
    triggers(Category)
    with pytest.raises(DatabaseError, match="Only the triggers"):
        sql(INSERT, [FORGED])
    assert not Outbox.objects.exists()


def test_nobody_makes_a_batch_into_rows(triggers):
    triggers(Category)
    Product.objects.create(name="x")
    with pytest.raises(DatabaseError, match="Only the triggers"):
        sql("UPDATE audit_log_outbox SET form = 1, payload = convert_to(%s, 'UTF8')", [FORGED])
    sql("INSERT INTO shop_category (name) VALUES ('x')")
    with pytest.raises(DatabaseError, match="Only the triggers"):
        sql("UPDATE audit_log_outbox SET payload = convert_to(%s, 'UTF8') WHERE form = 1", [FORGED])


def test_the_relay_may_postpone_rows(triggers):
    triggers(Category)
    sql("INSERT INTO shop_category (name) VALUES ('x')")
    row = Outbox.objects.get()
    row.attempts = 3
    row.save(update_fields=["attempts"])
    assert testing.relay().events == 1


def test_rows_of_a_model_that_asks_for_no_triggers_are_refused(triggers):
    triggers(Category)
    sql("ALTER TABLE audit_log_outbox DISABLE TRIGGER USER")
    sql(INSERT, [FORGED.replace("category", "product")])
    sql(INSERT, ["{}"])
    sql(INSERT, [FORGED.replace('"v": 1', '"v": 2')])
    sql("ALTER TABLE audit_log_outbox ENABLE TRIGGER USER")
    moved = testing.relay()
    assert (moved.events, moved.failed) == (0, 3)
    reasons = sorted(map(str, Outbox.objects.values_list("parked_reason", flat=True)))
    assert [reason.partition(":")[0] for reason in reasons] == [
        *("EncodingError", "EncodingError", "UnknownVersion")
    ]
    assert Outbox.objects.filter(form=Form.ROWS).count() == 3  # none is lost


@pytest.mark.parametrize("text", ["nonsense", "bm9uc2Vuc2U=", "", "AQ" * 40, "ü'\\"])
def test_who_says_nonsense_about_the_actor_is_the_role(triggers, text):
    triggers(Category)
    with transaction.atomic():
        sql("SELECT set_config('audit_log.context', %s, true)", [text])
        sql("INSERT INTO shop_category (name) VALUES ('x')")
    (event,) = seen.events()
    assert (event.actor.type, event.actor.label) == ("service", connection.settings_dict["USER"])
    marks = [mark.rule for mark in event.redactions]
    assert marks == (["context:unreadable"] if text else [])


def test_what_was_said_of_another_transaction_is_not_believed(triggers, monkeypatch):
    triggers(Category)
    said: dict[str, Any] = {}
    with context.changed(suspended=True):
        parts = surroundings.parts_now()
        assert parts is not None
        monkeypatch.setattr("time.time", lambda: 1_700_000_000.0)
        said["old"] = surroundings.sealed(parts)
        monkeypatch.undo()
        said["new"] = surroundings.sealed(parts)
    for text in said.values():
        with transaction.atomic():
            sql("SELECT set_config('audit_log.context', %s, true)", [text])
            sql("INSERT INTO shop_category (name) VALUES ('x')")
    (event,) = seen.events()  # the other one was suspended
    assert [mark.rule for mark in event.redactions] == ["context:copied"]


def test_suspended_holds_for_triggers_and_is_on_record(triggers):
    triggers(Category)
    with audit_log.suspended("a migration"):
        Category.objects.create(name="unseen")
        sql("UPDATE shop_category SET name = 'unseen as well'")
        with transaction.atomic():
            sql("DELETE FROM shop_category")
    Category.objects.create(name="seen")
    testing.relay()
    actions = Record.objects.order_by("sequence").values_list("action", flat=True)
    assert sorted(actions) == ["audit_log.suspended", "create"]
    assert not Outbox.objects.exists()
