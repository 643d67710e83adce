"""Arrays and ranges of `django.contrib.postgres`, through a table of their own."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.postgres.fields import (
    ArrayField,
    DateTimeRangeField,
    DecimalRangeField,
    HStoreField,
    IntegerRangeField,
)
from django.contrib.postgres.signals import (
    get_hstore_oids,
    register_type_handlers,
)
from django.db import connection, models
from django.db.backends.postgresql.psycopg_any import DateTimeTZRange, NumericRange
from django.test.utils import isolate_apps

import audit_log
from audit_log import registry, testing
from audit_log.events import Event
from audit_log.models import Record

pytestmark = [pytest.mark.django_db]


@pytest.fixture
def shape(on_postgres: None, db: None) -> Iterator[Any]:
    """A model with a table, which goes with the test's transaction."""
    with isolate_apps("tests.shop"):

        class PostgresShape(models.Model):
            words = ArrayField(
                models.CharField(max_length=9, choices=[("a", "A"), ("b", "B")]), null=True
            )
            grid = ArrayField(ArrayField(models.IntegerField()), default=list)
            prices = ArrayField(models.DecimalField(max_digits=6, decimal_places=2), null=True)
            days = ArrayField(models.DateField(), null=True)
            ages = IntegerRangeField(null=True)
            costs = DecimalRangeField(null=True)
            span = DateTimeRangeField(null=True)

            class Meta:
                app_label = "shop"

            def __str__(self) -> str:
                return "shape"

    audit_log.register(PostgresShape)
    with connection.schema_editor() as editor:
        editor.create_model(PostgresShape)
    try:
        yield PostgresShape
    finally:
        registry._registered.pop(PostgresShape)


def test_arrays_and_ranges_go_through_the_life_of_a_row(shape: Any, events: list[Event]):
    """C11"""
    row = shape.objects.create(
        words=["a", "b"],
        grid=[[1, 2], [3, 4]],
        prices=[Decimal("1.10"), None],
        days=[date(2026, 1, 2)],
        ages=NumericRange(1, 5),
        costs=NumericRange(Decimal("1.5"), None),
        span=DateTimeTZRange(datetime(2026, 1, 1, tzinfo=UTC), None),
    )
    made = events[0].changes or {}
    assert made["words"] == [None, ["a", "b"]]
    assert made["grid"] == [None, [[1, 2], [3, 4]]]
    assert made["prices"] == [None, ["1.10", None]]
    assert made["days"] == [None, ["2026-01-02"]]
    row = shape.objects.get()
    row.save()
    assert len(events) == 1
    for name in ("ages", "costs", "span"):
        field = shape._meta.get_field(name)
        assert field.to_python(made[name][1]) == getattr(row, name), name
    row.words.append("a")
    row.grid[1][1] = 5
    row.ages = NumericRange(1, 6)
    row.save()
    assert set(events[1].changes or {}) == {"words", "grid", "ages"}
    assert (events[1].changes or {})["grid"] == [[[1, 2], [3, 4]], [[1, 2], [3, 5]]]
    shape.objects.update(prices=[Decimal("2.00")])
    assert (events[2].changes or {})["prices"] == [["1.10", None], ["2.00"]]
    row.delete()
    assert (events[3].changes or {})["words"] == [["a", "b", "a"], None]
    testing.relay()
    assert Record.objects.filter(target_type="shop.postgresshape").count() == 4


@pytest.fixture
def labels(on_postgres: None, db: None) -> Iterator[Any]:
    """A model with an HStoreField, in a database that has the extension."""
    with isolate_apps("tests.shop"):

        class LabelShape(models.Model):
            labels = HStoreField(default=dict)

            class Meta:
                app_label = "shop"

            def __str__(self) -> str:
                return "labels"

    with connection.cursor() as cursor:
        cursor.execute("CREATE EXTENSION IF NOT EXISTS hstore")
    forget: Any = get_hstore_oids
    forget.cache_clear()
    register_type_handlers(connection)
    audit_log.register(LabelShape)
    with connection.schema_editor() as editor:
        editor.create_model(LabelShape)
    try:
        yield LabelShape
    finally:
        registry._registered.pop(LabelShape)
        forget.cache_clear()


def test_stores_of_text_go_through_the_life_of_a_row(labels: Any, events: list[Event]):
    """C11: a null among the values, the order of keys, a change in place."""
    labels.objects.create(labels={"b": "1", "a": None})
    assert events[0].changes == {"labels": [None, {"b": "1", "a": None}]}
    row = labels.objects.get()
    row.labels = {"a": None, "b": "1"}
    row.save()
    assert len(events) == 1
    row.labels["c"] = "3"
    row.save()
    assert events[1].changes == {"labels": [{"b": "1", "a": None}, {"b": "1", "a": None, "c": "3"}]}
    row.delete()
    assert (events[2].changes or {})["labels"][1] is None


def test_same_range_given_as_a_pair_or_text_is_no_change(shape: Any, events: list[Event]):
    """C11"""
    shape.objects.create(ages=NumericRange(1, 5), days=[date(2026, 1, 2)])
    row = shape.objects.get()
    row.days = ["2026-01-02"]
    row.ages = (1, 5)
    row.save()
    assert [event.action for event in events] == ["create"]
