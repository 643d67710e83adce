"""What only the database knows until the row is read: expressions, defaults, generated fields."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import DatabaseError, connection, models, transaction
from django.db.models import Case, F, OuterRef, Subquery, Value, When
from django.db.models.functions import Concat, Lower, Now
from django.test.utils import CaptureQueriesContext

from audit_log.events import Event
from tests.shop.models import Category, Product, Values

pytestmark = pytest.mark.django_db
TIMES = ("made_at", "changed_at", "updated_at")


def _row(**values: Any) -> Any:
    Values.objects.create(**values)
    return Values.objects.get()


def _said(event: Event) -> dict[str, Any]:
    return {name: pair for name, pair in (event.changes or {}).items() if name not in TIMES}


def _held(row: Any, name: str) -> Any:
    return Values.objects.values_list(name, flat=True).get(pk=row.pk)


EXPRESSIONS: list[tuple[str, Any]] = [
    ("big", F("big") * 2 + 1),
    ("big", Case(When(title="t", then=Value(7)), default=Value(8))),
    ("big", Subquery(Values.objects.filter(pk=OuterRef("pk")).values("given")[:1])),
    ("title", Concat(F("title"), Value("x"))),
    ("title", Lower(Value("UPPER"))),
    ("text", Value("text")),
    ("flag", Value(value=True)),
    ("extra", Value(None, models.JSONField())),
    ("extra", Value({"b": [1]}, models.JSONField())),
    ("moment", Now()),
]


@pytest.mark.parametrize(("name", "expression"), EXPRESSIONS, ids=lambda value: str(value)[:40])
def test_every_expression_is_recorded_as_what_the_row_holds(
    name: str, expression: Any, events: list[Event]
):
    """C6: by save, by name, and never as the text of an expression."""
    row = _row(title="t", big=1, extra={"a": 1})
    setattr(row, name, expression)
    row.save(update_fields=[name])
    item: Any = Values._meta.get_field(name)
    [field, [_, new]] = next(iter(_said(events[-1]).items()))
    assert field == name
    held = _held(row, name)
    assert (item.to_python(new) if name != "extra" else new) == held
    assert "F(" not in str(events)
    assert "Value(" not in str(events)


@pytest.mark.parametrize("value", [Value(None, models.JSONField()), None, Value("null")])
def test_creation_with_an_expression_of_json_is_recorded(value: Any, events: list[Event]):
    """C6"""
    if connection.vendor == "mysql" and isinstance(value, Value) and value.value == "null":
        pytest.skip("MariaDB stores JSON as text, and that text is a document of another kind.")
    row = _row(title="t", extra=value)
    assert [event.action for event in events] == ["create"]
    held = _held(row, "extra")
    assert _said(events[0]).get("extra", [None, None])[1] == held


def test_save_after_an_expression_has_the_true_old_value(events: list[Event]):
    """C6: what the database made of it, whether the instance knows it or not."""
    row = _row(big=1)
    row.big = Case(When(big=1, then=Value(5)), default=Value(6))
    row.save()
    row.refresh_from_db()
    row.big = 9
    row.save()
    assert [_said(event)["big"] for event in events[1:]] == [[1, 5], [5, 9]]


def test_expression_that_changes_nothing_is_no_event(events: list[Event]):
    """C6, A3"""
    row = _row(big=3)
    row.big = F("big")
    row.save()
    assert [event.action for event in events] == ["create"]


def test_expression_that_the_database_refuses_is_no_event(events: list[Event]):
    """C6, A11: text is no number to PostgreSQL, null no name to any."""
    row = _row(title="t")
    row.title = Value(None)
    with pytest.raises(DatabaseError), transaction.atomic():
        row.save()
    assert [event.action for event in events] == ["create"]
    row.title = "u"
    row.save()
    assert _said(events[-1]) == {"title": ["t", "u"]}


def test_generated_field_follows_without_being_recorded(events: list[Event]):
    """C6, C12: neither when what it is made of changes, nor by an expression."""
    row = _row(given=4)
    row.given = F("given") + 1
    row.save()
    assert _said(events[-1]) == {"given": [4, 5]}
    Values.objects.update(given=F("given") + 1)
    assert _said(events[-1]) == {"given": [5, 6]}
    row.refresh_from_db()
    assert row.doubled == 12
    row.delete()
    assert "doubled" not in (events[-1].changes or {})


def test_default_of_the_database_is_the_old_value_of_what_follows(events: list[Event]):
    """C6: without a refresh between."""
    row = Values.objects.create()
    row.given = 8
    row.save()
    assert _said(events[-1])["given"] == [7, 8]
    row.delete()
    assert _said(events[-1])["given"] == [8, None]


def test_expressions_cost_the_project_nothing(events: list[Event]):
    """C6, L1"""
    row = _row(title="t", big=1)
    row.big, row.title, row.moment = F("big") + 1, Lower(F("title")), Now()
    with CaptureQueriesContext(connection) as queries:
        row.save()
    assert len(queries) == 1
    assert set(_said(events[-1])) == {"big", "moment"}


def test_expression_in_a_foreign_key_is_its_key(events: list[Event]):
    """C6, C14"""
    first, second = (Category.objects.create(name=name) for name in "ab")
    product = Product.objects.create(name="p", category=first)
    Product.objects.filter(pk=product.pk).update(
        category=Case(When(stock=0, then=Value(second.pk)), default=Value(first.pk))
    )
    assert _said(events[-1]) == {"category": [first.pk, second.pk]}
