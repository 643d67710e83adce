"""Old values of `before="database"`: from the UPDATE itself, or from a SELECT before it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, models, transaction
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from audit_log import testing
from audit_log.capture.before import returning_of
from audit_log.capture.plans import plan_of
from audit_log.events import Event
from tests.capture.statements import kinds, statements
from tests.settings import DATABASE
from tests.shop.models import Category, Product, Restaurant, Stock, Values

pytestmark = pytest.mark.django_db(transaction=True)
on_postgres = pytest.mark.skipif(DATABASE != "postgres", reason="PostgreSQL returns old values")


@pytest.fixture
def _asked(settings: Any) -> None:
    asked = {f"shop.{name}": {"before": "database"} for name in ("Product", "Restaurant", "Values")}
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "MODELS": ["*", asked]}


def _behind_our_back(model: type[models.Model], **values: Any) -> None:
    """Written past all hooks, by SQL."""
    table = connection.ops.quote_name(model._meta.db_table)
    names = ", ".join(f"{connection.ops.quote_name(name)} = %s" for name in values)
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {table} SET {names}", list(values.values()))


def test_old_values_are_those_of_the_row_as_it_stood(events: list[Event]):
    stock = Stock.objects.create(name="s", amount=1, note="n")
    _behind_our_back(Stock, amount=5)
    stock.amount, stock.note = 2, "m"
    stock.save()
    assert events[-1].changes == {"amount": [5, 2], "note": ["n", "m"]}


def test_reverted_column_of_another_writer_is_a_change(events: list[Event]):
    stock = Stock.objects.create(name="s", amount=1, note="n")
    _behind_our_back(Stock, note="theirs")
    stock.amount = 2
    stock.save()
    assert events[-1].changes == {"amount": [1, 2], "note": ["theirs", "n"]}


@on_postgres
@pytest.mark.parametrize("inside", [False, True])
def test_update_returns_what_it_overwrites(inside: bool):
    stock = Stock.objects.create(name="s", amount=1)
    stock.amount = 2
    with statements() as seen:
        if inside:
            with transaction.atomic():
                stock.save()
        else:
            stock.save()
    words = " ".join(kinds(seen))
    assert words == "BEGIN UPDATE SAVEPOINT INSERT RELEASE COMMIT"
    assert sum("FOR NO KEY UPDATE" in text and "RETURNING" in text for text in seen) == 1


@on_postgres
def test_update_that_is_looked_at_is_the_projects_own():
    stock = Stock.objects.create(name="s", amount=1)
    stock.amount = 2
    with CaptureQueriesContext(connection) as queries:
        stock.save()
    (query,) = queries
    assert query["sql"].startswith('UPDATE "shop_stock" SET')
    assert "RETURNING" not in query["sql"]


def test_update_of_some_fields_and_by_an_expression(events: list[Event]):
    stock = Stock.objects.create(name="s", amount=1, note="n")
    _behind_our_back(Stock, amount=5)
    stock.amount = F("amount") + 1
    stock.save(update_fields=["amount"])
    assert events[-1].changes == {"amount": [5, 6]}


def test_row_that_is_gone_is_a_creation(events: list[Event]):
    stock = Stock.objects.create(name="s", amount=1)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM shop_stock")
    stock.amount = 2
    stock.save()
    assert [event.action for event in events] == ["create", "create"]


def test_row_of_another_key_has_its_own_old_values(events: list[Event]):
    first = Stock.objects.create(name="first", amount=1)
    second = Stock.objects.create(name="second", amount=2)
    first.pk = second.pk
    first.save()
    assert events[-1].changes == {"name": ["second", "first"], "amount": [2, 1]}


@pytest.mark.usefixtures("_asked")
def test_fields_of_a_parents_table_have_old_values_too(events: list[Event]):
    restaurant = Restaurant.objects.create(name="a", stars=1)
    restaurant.name, restaurant.stars = "b", 2
    restaurant.save()
    assert events[-1].changes == {"name": ["a", "b"], "stars": [1, 2]}
    _behind_our_back(Restaurant, stars=7)
    restaurant.name = "c"
    restaurant.save()
    assert events[-1].changes == {"name": ["b", "c"], "stars": [7, 2]}


@pytest.mark.usefixtures("_asked")
def test_failed_save_of_several_tables_leaves_no_old_values_behind(events: list[Event]):
    restaurant = Restaurant.objects.create(name="a", stars=1)
    restaurant.name, restaurant.stars = "b", None  # type: ignore[assignment]
    with pytest.raises(Exception, match="stars"):
        restaurant.save()
    _behind_our_back(Restaurant, stars=7)
    restaurant.stars = 2
    restaurant.save()
    assert events[-1].changes == {"name": ["a", "b"], "stars": [7, 2]}


@pytest.mark.usefixtures("_asked")
def test_values_of_every_type_are_read_as_django_reads_them(events: list[Event]):
    """What the UPDATE returns went past Django's own reading."""
    Values.objects.create()
    values = Values.objects.get()
    values.save()
    assert [event.action for event in events] == ["create"]
    category = Category.objects.create(name="c")
    product = Product.objects.create(name="p", price=Decimal("1.50"), category=category, stock=1)
    product.price = Decimal("2.00")
    product.save()
    changes = dict(events[-1].changes or {})
    changes.pop("updated_at", None)
    assert changes == {"price": ["1.50", "2.00"]}


@on_postgres
@pytest.mark.usefixtures("_asked")
def test_models_of_one_table_can_return_and_others_cannot():
    can = {
        model: returning_of(plan, connection) is not None
        for model in (Product, Values, Stock, Restaurant)
        if (plan := plan_of(model)) is not None
    }
    assert can == {Product: True, Values: True, Stock: True, Restaurant: False}


def _writes(number: int, key: int, turns: int) -> None:
    try:
        for turn in range(turns):
            stock = Stock.objects.get(pk=key)
            stock.amount = number * 1000 + turn
            stock.save()
    finally:
        connection.close()


@pytest.mark.skipif(DATABASE == "sqlite", reason="SQLite has one writer at a time.")
def test_changes_of_concurrent_writers_follow_one_another():
    """Each old value is the new one of the change before it: none is skipped, none is stale."""
    stock = Stock.objects.create(name="s", amount=0)
    with testing.capture_events() as events, ThreadPoolExecutor(3) as pool:
        for written in [pool.submit(_writes, number, stock.pk, 20) for number in (1, 2, 3)]:
            written.result(300)
    pairs: list[Any] = [event.changes["amount"] for event in events if event.changes]
    after = dict(pairs)
    assert len(after) == len(pairs) == 60
    value, seen = 0, 0
    while value in after:
        value, seen = after[value], seen + 1
    assert seen == 60
    assert Stock.objects.get().amount == value
