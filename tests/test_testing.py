"""What other people's tests get from us: `audit_log.testing` and the pytest fixtures."""

from __future__ import annotations

import threading
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import TestCase, override_settings

import audit_log
from audit_log.events import Target
from audit_log.models import Outbox, Record
from audit_log.testing import assert_audited, capture_events, flush, relay
from tests.shop.models import Category, Country, Passport, Person, Product, Tag, Unlisted


class SetUpTestDataTests(TestCase):
    """Django copies what setUpTestData made for each test: old values come along."""

    category: Category

    @classmethod
    def setUpTestData(cls) -> None:
        cls.category = Category.objects.create(name="Tea")

    def test_object_of_set_up_test_data_knows_its_old_values(self):
        with capture_events() as events:
            self.category.name = "Coffee"
            self.category.save()
        assert_audited(events, "update", self.category, name=("Tea", "Coffee"))

    def test_unchanged_object_of_set_up_test_data_gives_no_event(self):
        with capture_events() as events:
            self.category.save()
        assert events == []


def test_events_appear_as_they_are_captured(db):
    with capture_events() as events:
        category = Category.objects.create(name="Tea")
        assert [event.action for event in events] == ["create"]
        category.delete()
    Category.objects.create(name="Later")
    assert [event.action for event in events] == ["create", "delete"]


def test_events_of_a_rolled_back_savepoint_disappear(db):
    with capture_events() as events:
        Category.objects.create(name="Kept")
        with transaction.atomic():
            Category.objects.create(name="Dropped")
            assert len(events) == 2
            transaction.set_rollback(True)
    assert [event.target.label for event in events if event.target] == ["Kept"]


@pytest.mark.django_db(transaction=True)
def test_events_of_committed_transactions_stay():
    with capture_events() as events:
        Category.objects.create(name="Tea")
        with transaction.atomic():
            Category.objects.create(name="Dropped")
            transaction.set_rollback(True)
        with transaction.atomic():
            Category.objects.create(name="Coffee")
    assert [event.target.label for event in events if event.target] == ["Tea", "Coffee"]


@pytest.mark.django_db(transaction=True)
def test_events_of_other_threads_appear():
    def write() -> None:
        Category.objects.create(name="Elsewhere")
        connection.close()

    with capture_events() as events:
        thread = threading.Thread(target=write)
        thread.start()
        thread.join(300)
    assert_audited(events, "create", Category, name="Elsewhere")


def test_two_captures_see_the_same(db):
    with capture_events() as outer, capture_events() as inner:
        Category.objects.create(name="Tea")
    Category.objects.create(name="Coffee")
    assert inner == outer
    assert len(inner) == 1


def test_relay_stores_inside_a_test_case(db):
    product = Product.objects.create(name="Teapot")
    moved = relay()
    assert (moved.events, moved.failed) == (1, 0)
    assert not Outbox.objects.exists()
    assert audit_log.history(product).get().action == "create"
    assert relay().events == 0


def test_relayed_events_fall_with_their_savepoint(db):
    with transaction.atomic():
        Category.objects.create(name="Dropped")
        relay()
        assert Record.objects.count() == 1
        transaction.set_rollback(True)
    assert not Record.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_requests_appear_with_flush(client):
    client.post("/earlier/")
    with capture_events() as outer:
        client.post("/nowhere/")
        with capture_events() as events:
            client.post("/nowhere/else/")
            assert events == []
            flush()
    paths = [event.request.path for event in events if event.action == "request" and event.request]
    assert paths == ["/nowhere/", "/nowhere/else/"]
    assert outer == events
    relay()
    assert Record.objects.filter(action="request").count() == 2


@pytest.fixture
def product(db) -> Product:
    return Product.objects.create(name="Teapot", price=Decimal("9.90"), attributes={"a": 1})


def test_assertion_returns_the_event(audit_events, assert_audited, product):
    product.price = Decimal("8.5")
    product.save()
    event = assert_audited("update", product, price=(Decimal("9.9"), "8.50"))
    assert event is audit_events[-1]
    assert event.changes is not None
    assert event.changes["price"] == ["9.90", "8.50"]


def test_assertion_takes_the_first_that_fits(audit_events, assert_audited, product):
    for stock in (1, 2):
        product.stock = stock
        product.save()
    first, second = audit_events[-2:]
    assert assert_audited("update") is first
    assert assert_audited("update", stock=2) is second
    assert assert_audited("update", stock=(1, 2)) is second


@pytest.mark.parametrize(
    "wrong",
    [
        {"action": "delete"},
        {"target": Category},
        {"target": Target(type="shop.product", id="0")},
        {"stock": 7},
        {"stock": (3, 5)},
        {"name": "Teapot"},
        {"price": Decimal(1), "stock": 5},
    ],
    ids=str,
)
def test_assertion_fails_for_anything_else(assert_audited, product, wrong: dict[str, Any]):
    product.stock = 5
    product.save()
    assert_audited("update", product, stock=(0, 5))
    asked = {"target": product, **wrong}
    with pytest.raises(AssertionError, match="Not audited: "):
        assert_audited(asked.pop("action", "update"), asked.pop("target"), **asked)


def test_target_is_also_named_by_its_label_and_key(assert_audited, product):
    product.stock = 5
    product.save()
    event = assert_audited("update", product)
    assert assert_audited("update", "shop.product", pk=product.pk) is event
    assert assert_audited("update", "shop.Product", stock=(0, 5)) is event
    assert assert_audited("update", Product, pk=str(product.pk), stock=5) is event
    assert assert_audited("update", pk=product.pk) is event


def test_label_may_stand_first(assert_audited, product):
    product.stock = 5
    product.save()
    assert assert_audited("shop.product", "update", pk=product.pk, stock=5).action == "update"
    with pytest.raises(AssertionError, match=r"Not audited: update shop\.product stock=6"):
        assert_audited("shop.product", "update", stock=6)


def test_secret_key_is_named_as_it_is(assert_audited, audit_events, db):
    country = Country.objects.create(code="AT", name="Austria")
    Passport.objects.create(country=country)
    assert assert_audited("shop.passport", "create", pk="AT") is audit_events[-1]
    with pytest.raises(AssertionError):
        assert_audited("shop.passport", "create", pk="DE")


def test_action_of_the_projects_own_may_have_a_dot(assert_audited, product):
    audit_log.record("product.praised", target=product)
    assert_audited("product.praised", "shop.product", pk=product.pk)
    with pytest.raises(AssertionError, match=r"update shop\.product 0"):
        assert_audited("update", "shop.product", pk=0)


def test_assertion_says_why_there_can_be_nothing(audit_events, assert_audited, db):
    Unlisted.objects.create(name="unseen")
    with pytest.raises(AssertionError, match=r"shop.Unlisted is not audited \(unregister\)"):
        assert_audited("shop.unlisted", "create")
    with pytest.raises(AssertionError, match=r"There is no model 'shop.prodct'\."):
        assert_audited("create", "shop.prodct")
    with (
        override_settings(AUDIT_LOG={"ENABLED": False}),
        pytest.raises(AssertionError, match="ENABLED"),
    ):
        assert_audited("create", Product)


def test_target_that_is_no_model_is_found_by_its_type(assert_audited, db):
    audit_log.record("door.opened", target=Target(type="door", id="7"))
    assert_audited("door.opened", "door", pk=7)


def test_assertion_of_another_object_fails(assert_audited, product):
    other = Product.objects.create(name="Cup")
    product.delete()
    with pytest.raises(AssertionError):
        assert_audited("delete", other)


def test_assertion_names_what_there_is(audit_events, assert_audited, db):
    tag = Tag.objects.create(name="old")
    tag.name = "new"
    tag.save()
    with pytest.raises(AssertionError) as caught:
        assert_audited("update", tag, name="newer")
    assert str(caught.value) == (
        f"Not audited: update shop.tag {tag.pk} name='newer'. Captured:\n"
        f"  create shop.tag {tag.pk} name=None -> 'old'\n"
        f"  update shop.tag {tag.pk} name='old' -> 'new'"
    )


def test_assertion_says_so_when_there_is_nothing():
    with pytest.raises(AssertionError, match="Captured: nothing"):
        assert_audited([], "create")


def test_assertion_shows_twenty_events_at_most(audit_events, assert_audited, db):
    for number in range(23):
        Category.objects.create(name=str(number))
    with pytest.raises(AssertionError, match="and 3 more"):
        assert_audited("delete")


def test_deleted_object_is_still_a_target(assert_audited, product):
    product.delete()
    assert product.pk is None
    assert_audited("delete", product, name=("Teapot", None))


def test_foreign_keys_are_named_by_object_or_key(assert_audited, product):
    category = Category.objects.create(name="Pots")
    product.category = category
    product.save()
    assert_audited("update", product, category=category)
    assert_audited("update", product, category=(None, category.pk))


def test_json_and_masked_values_compare_as_they_are_kept(audit_events, assert_audited, product):
    product.attributes = {"a": [1, 2]}
    product.save()
    assert_audited("update", product, attributes={"a": [1, 2]})
    person = Person.objects.create(nickname="Ada", code_word="xyzzy")
    event = assert_audited("create", person, nickname="Ada", code_word="xyzzy")
    assert "xyzzy" not in str(event)


def test_many_to_many_is_asserted_by_its_action(assert_audited, product):
    product.tags.add(Tag.objects.create(name="new"))
    assert assert_audited("m2m.add", product).affected == 1


def test_capture_works_on_what_a_project_records(assert_audited, product):
    audit_log.record("product.praised", target=product)
    assert_audited("product.praised", product)
