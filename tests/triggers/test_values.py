"""A record does not show who captured it: values and policies are those of our own hooks."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit_log import conf, registry, testing
from audit_log.events import Event
from audit_log.models import Outbox
from audit_log.recording.values import MAX_EVENT_BYTES
from tests.shop.models import Category, Person, Product, Restaurant, Values, Wordy
from tests.triggers import seen
from tests.triggers.seen import sql

pytestmark = pytest.mark.postgres

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
# jsonb knows no negative zero: what is stored, and what a trigger sees, is another value.
FLOATS = st.floats(-1e9, 1e9).map(lambda value: value + 0.0)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "title": TEXT,
    "text": st.none() | TEXT,
    "amount": st.none() | st.decimals(-(10**9), 10**9, places=2),
    "ratio": st.none() | st.floats(allow_nan=True, allow_infinity=True),
    "big": st.none() | st.integers(-(2**63), 2**63 - 1),
    "flag": st.none() | st.booleans(),
    "day": st.none() | st.dates(),
    "clock": st.none() | st.times(),
    "moment": st.none() | st.datetimes(timezones=st.just(UTC)),
    "period": st.none() | st.timedeltas(timedelta(-(10**6)), timedelta(10**6)),
    "reference": st.none() | st.uuids(),
    "address": st.none() | st.ip_addresses(v=4).map(str),
    "raw": st.none() | st.binary(max_size=30),
    "document": TEXT,
    "size": st.none() | st.sampled_from([1, 2]),
    "extra": st.none() | JSON,
    "encoded": st.none() | JSON,
}


def shown(event: Event) -> tuple[Any, ...]:
    """All that an event says of its target, but for how it is called and what it knows of it."""
    labels = {k: v for k, v in (event.labels or {}).items() if k in {"size", "status"}}
    marks = {mark for mark in event.redactions if mark.rule != "not_loaded"}
    changes = {k: v for k, v in (event.changes or {}).items() if not k.endswith("_at")}
    return event.action, changes, labels, marks, set(event.sealed or ()) - {"data.application"}


def both(run: Any, model: type[Any], **options: Any) -> list[tuple[Any, Any]]:
    """What the hooks capture of `run()`, and what the triggers do."""
    held = registry._registered.get(model, ...)
    registry.register(model, **options)
    with testing.capture_events() as hooked:
        run()
    registry.register(model, capture="triggers", **options)
    seen.forget()
    run()
    written = seen.events()
    if held is ...:
        del registry._registered[model]
    else:
        registry._registered[model] = held
    conf.forget()
    assert len(hooked) == len(written)
    return list(zip(map(shown, hooked), map(shown, written), strict=True))


def test_values_are_those_of_the_hooks(triggers):
    triggers(Values)

    @settings(max_examples=40, suppress_health_check=list(HealthCheck))
    @given(st.fixed_dictionaries(VALUES), st.fixed_dictionaries(VALUES))
    def compare(old: dict[str, Any], new: dict[str, Any]) -> None:
        def run() -> None:
            made = Values.objects.create(**old)
            row = Values.objects.get(pk=made.pk)
            for name, value in new.items():
                setattr(row, name, value)
            row.save()
            Values.objects.get(pk=made.pk).delete()

        for hooked, written in both(run, Values):
            assert written == hooked

    compare()


def test_zones_and_styles_of_the_session_make_no_difference(triggers):
    triggers(Values)
    sql("SET TimeZone = 'Asia/Kathmandu'")
    sql("SET DateStyle = 'German'")
    sql("SET IntervalStyle = 'sql_standard'")
    sql("SET bytea_output = 'escape'")
    sql("SET standard_conforming_strings = off")
    Values.objects.create(
        moment=datetime(2026, 3, 1, 12, 30, tzinfo=UTC),
        day=date(2026, 3, 1),
        clock=time(1, 2, 3, 4),
        period=timedelta(days=-1, seconds=3, microseconds=5),
        raw=b"\\x00\xff",
        amount=Decimal("1.10"),
        reference=uuid.UUID(int=7),
        title='it\'s \\ "so"',
    )
    connection.close()
    (event,) = seen.events()
    found = {name: new for name, (_, new) in (event.changes or {}).items()}
    assert found["moment"] == "2026-03-01T12:30:00.000000Z"
    assert (found["day"], found["clock"]) == ("2026-03-01", "01:02:03.000004")
    assert found["period"] == "-1 00:00:03.000005"
    assert found["raw"].endswith("(5 bytes)")
    assert found["amount"] == "1.10"
    assert found["title"] == 'it\'s \\ "so"'


def test_dates_that_python_does_not_know_are_what_stands_there(triggers):
    triggers(Values)
    Values.objects.create(title="x")
    seen.forget()
    sql("UPDATE shop_values SET moment = 'infinity', day = '0044-03-15 BC', period = '1 mon'")
    (event,) = seen.events()
    assert event.changes["moment"] == [None, "infinity"]
    assert "BC" in event.changes["day"][1]
    assert event.changes["period"] == [None, "30 00:00:00"]


def test_fields_of_ones_own_are_read_by_themselves(triggers):
    triggers(Wordy)
    Wordy.objects.create(words=["a", "b"])
    (event,) = seen.events()
    assert event.changes == {"words": [None, ["a", "b"]]}


def test_secrets_never_reach_the_outbox(triggers):
    triggers(Person, open=["nickname"], masked=["code_word"], excluded=["noise"], subject="id")
    secrets = {
        "password": "correct horse",
        "api_token": "battery staple",
        "code_word": "open sesame",
        "noise": "nobody cares",
        "card_number": "4111 1111 1111 1111",
    }
    person = Person.objects.create(nickname="Al", full_name="Alan", **secrets)
    sql("UPDATE shop_person SET password = 'other horse', card_number = '', nickname = 'Bo'")
    sql("UPDATE shop_person SET noise = 'still nobody'")
    person.delete()
    text = seen.in_clear()
    for secret in [*secrets.values(), "other horse", "still nobody"]:
        assert secret not in text
    created, updated, deleted = seen.events()
    assert created.changes["password"] == [None, "[MASKED]"]
    assert created.changes["card_number"] == [None, "**** **** **** 1111"]
    assert updated.changes == {
        "nickname": ["Al", "Bo"],
        "password": ["[MASKED]", "[MASKED]"],
        "card_number": ["**** **** **** 1111", "[MASKED]"],
    }
    assert "noise" not in {*created.changes, *updated.changes, *deleted.changes}
    assert "changes.full_name" in created.sealed
    assert {event.subject for event in (created, updated, deleted)} == {
        f"shop.person:{person.pk or created.target.id}"
    } or {event.subject for event in (created, updated, deleted)} == {
        f"shop.person:{created.target.id}"
    }


def test_a_field_with_a_masker_is_masked_by_the_trigger(triggers):
    """SQL calls no Python: the plain mask stands for the value, and no digit of a card is shown."""
    makers = {"code_word": lambda value: value[:2], "card_number": lambda value: value[-2:]}
    triggers(Person, open=["nickname"], masked=makers)
    Person.objects.create(nickname="Al", code_word="open sesame", card_number="4111111111111111")
    text = seen.in_clear()
    assert "sesame" not in text
    assert "1111" not in text
    (created,) = seen.events()
    assert created.changes["code_word"] == [None, "[MASKED]"]
    assert created.changes["card_number"] == [None, "[MASKED]"]


def test_secrets_in_json_are_masked_once_they_are_read(triggers):
    triggers(Person)
    Person.objects.create(extra={"password": "correct horse", "n": 1})
    (event,) = seen.events()
    assert event.changes["extra"][1] == {"password": "[MASKED]", "n": 1}


def test_choices_are_labelled(triggers):
    triggers(Product, open=["status"])
    Product.objects.create(name="x", status="sale")
    (event,) = seen.events()
    assert event.labels == {"status": [None, "On sale"]}


def test_what_changes_by_itself_is_no_event(triggers):
    triggers(Product)
    product = Product.objects.create(name="x")
    seen.forget()
    product.save()
    assert seen.events() == []
    assert Outbox.objects.count() == 1  # the reader tells
    assert testing.relay().failed == 0
    assert not Outbox.objects.exists()


def test_long_values_are_cut_and_marked(triggers):
    triggers(Product)
    text, json = "x" * 300_000, {"deep": "y" * 300_000}
    product = Product.objects.create(name="n", description=text, attributes=json)
    (event,) = seen.events()
    assert event.changes["description"][1] == f"{'x' * 200}…"
    marks = {mark.path: mark.rule for mark in event.redactions}
    assert marks["changes.description.1"].startswith("cut:300000:sha256:")
    assert len(seen.in_clear()) < MAX_EVENT_BYTES
    seen.forget()
    Product.objects.filter(pk=product.pk).update(name="m")
    (event,) = seen.events()
    assert event.changes == {"name": ["n", "m"]}


def test_a_dropped_column_does_not_fail_the_write(triggers):
    triggers(Category, Product)
    product = Product.objects.create(name="a", stock=1)
    seen.forget()
    sql("ALTER TABLE shop_product RENAME COLUMN stock TO stocked")
    sql("ALTER TABLE shop_product ALTER weight TYPE text")
    try:
        sql("UPDATE shop_product SET name = 'b', weight = 'heavy'")
        sql(
            "INSERT INTO shop_product (name, description, price, stocked, active, status,"
            " attributes, updated_at) SELECT 'c', '', 1, 0, true, 'draft', '{}', now()"
            " FROM generate_series(1, 600)"
        )
        sql("DELETE FROM shop_product")
    finally:
        sql("ALTER TABLE shop_product RENAME COLUMN stocked TO stock")
        sql("ALTER TABLE shop_product ALTER weight TYPE double precision USING NULL")
    events = seen.events()
    assert events[0].target.id == str(product.pk)
    assert events[0].changes == {"name": ["a", "b"], "weight": [None, "heavy"]}
    assert [e.action for e in events].count("create") == 600
    assert [e.action for e in events].count("delete") == 601
    assert not any("stock" in e.changes for e in events)


def test_a_child_and_its_parent_are_two_tables(triggers):
    from tests.shop.models import Place

    triggers(Place, Restaurant)
    Restaurant.objects.create(name="here", stars=3)
    assert [(e.action, e.target.type, e.changes) for e in seen.events()] == [
        ("create", "shop.place", {"name": [None, "here"]}),
        ("create", "shop.restaurant", {"stars": [None, 3]}),
    ]
