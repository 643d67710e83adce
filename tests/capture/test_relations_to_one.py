"""Rows that refer to others, written from the other side, and rows in an order of their own."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import DatabaseError, transaction
from django.db.models import F, Value
from django.db.models.functions import Concat

from audit_log.events import Event
from tests.shop.models import (
    Category,
    CheapProduct,
    Country,
    Product,
    Remark,
    Restaurant,
    Shelf,
    Step,
    Stock,
    Thing,
    Values,
    Watched,
)

pytestmark = pytest.mark.django_db
TIMES = ("made_at", "changed_at", "updated_at")


def _said(events: list[Event]) -> list[tuple[Any, ...]]:
    return [(e.action, e.target and e.target.id, dict(e.changes or {})) for e in events]


@pytest.fixture
def tree(events: list[Event]) -> tuple[Watched, Watched, Watched]:
    """Three rows of a tree, of which nobody has a parent yet."""
    made = tuple(Watched.objects.create(name=name) for name in "abc")
    del events[:]
    return made  # type: ignore[return-value]


def test_children_given_to_a_parent_change_their_own_rows(
    tree: tuple[Watched, ...], events: list[Event]
):
    """B1, E1: add, set, remove and clear of the many side."""
    root, one, two = tree
    root.children.add(one, two)
    root.children.set([one])
    root.children.add(two, bulk=False)
    root.children.remove(two, bulk=False)
    root.children.clear()
    given, taken = {"parent": [None, root.pk]}, {"parent": [root.pk, None]}
    assert _said(events) == [
        ("update", str(one.pk), given),
        ("update", str(two.pk), given),
        ("update", str(two.pk), taken),
        ("update", str(two.pk), given),
        ("update", str(two.pk), taken),
        ("update", str(one.pk), taken),
    ]


def test_members_of_a_generic_relation_change_their_own_rows(events: list[Event]):
    """E5: moved from one thing to another, each once."""
    first, second = Thing.objects.create(name="a"), Thing.objects.create(name="b")
    remarks = [first.remarks.create(text=str(n)) for n in range(3)]
    del events[:]
    second.remarks.add(*remarks[:2])
    moved = {"object_id": [first.pk, second.pk]}
    assert _said(events) == [("update", str(each.pk), moved) for each in remarks[:2]]
    del events[:]
    second.remarks.remove(remarks[0])
    second.remarks.set([])
    first.remarks.clear()
    assert [(action, key) for action, key, _ in _said(events)] == [
        ("delete", str(each.pk)) for each in remarks
    ]
    assert not Remark.objects.exists()


def test_order_that_is_set_is_an_event_of_each_row_that_moved(events: list[Event]):
    """B5"""
    category = Category.objects.create(name="c")
    steps = [Step.objects.create(category=category, name=name) for name in "abc"]
    del events[:]
    category.set_step_order([steps[1].pk, steps[0].pk, steps[2].pk])  # type: ignore[attr-defined]
    assert sorted(_said(events), key=str) == sorted(
        [
            ("update", str(steps[0].pk), {"_order": [0, 1]}),
            ("update", str(steps[1].pk), {"_order": [1, 0]}),
        ],
        key=str,
    )


def test_field_of_a_parent_saved_by_name_is_an_event_of_the_child(events: list[Event]):
    """A4, D4"""
    Restaurant.objects.create(name="Inn", stars=1)
    row = Restaurant.objects.get()
    row.name, row.stars = "Bar", 5
    row.save(update_fields=["name"])
    assert events[-1].changes == {"name": ["Inn", "Bar"]}
    assert events[-1].target is not None
    assert events[-1].target.type == "shop.restaurant"
    row.save(update_fields=["stars"])
    assert events[-1].changes == {"stars": [1, 5]}


def test_row_that_is_not_there_cannot_be_forced(events: list[Event]):
    """A11"""
    with pytest.raises(DatabaseError), transaction.atomic():
        Country(code="x", name="X").save(force_update=True)
    country = Country.objects.create(code="y", name="Y")
    country.code = "z"
    with pytest.raises(DatabaseError), transaction.atomic():
        country.save(update_fields=["name"])
    assert [event.action for event in events] == ["create"]


def test_key_that_is_changed_makes_another_row(events: list[Event]):
    """A7, D2: of one part and of two."""
    country = Country.objects.create(code="y", name="Y")
    country.code = "z"
    country.save()
    shelf = Shelf.objects.create(room="a", number=1, label="l")
    shelf.number = 2
    shelf.save()
    assert [(action, key) for action, key, _ in _said(events)] == [
        ("create", "y"),
        ("create", "z"),
        ("create", '["a", 1]'),
        ("create", '["a", 2]'),
    ]
    assert events[1].changes == {"name": [None, "Y"]}
    assert events[3].changes == {"label": [None, "l"]}


def test_expression_saved_twice_counts_twice(events: list[Event]):
    """C6: before Django 6 the instance keeps the expression."""
    stock: Any = Stock.objects.create(name="s", amount=1)
    stock.amount = F("amount") + 1
    stock.save()
    held = [Stock.objects.get().amount]
    if not isinstance(stock.amount, int):
        stock.save()
        held.append(Stock.objects.get().amount)
    assert [(event.changes or {})["amount"] for event in events[1:]] == [
        [value - 1, value] for value in held
    ]


def test_query_sets_of_every_kind_are_updated_as_one_would_think(events: list[Event]):
    """B1, B2: annotated, ordered, joined, excluded, of a proxy."""
    category = Category.objects.create(name="c")
    for n in range(3):
        Product.objects.create(name=f"p{n}", stock=n, category=category)
    del events[:]
    Product.objects.annotate(more=F("stock") + 10).filter(more__gt=11).update(stock=F("more"))
    Product.objects.order_by("-stock").exclude(stock=0).update(name=Concat(F("name"), Value("!")))
    Product.objects.filter(category__name="c", name="p0").update(stock=5)
    CheapProduct.objects.select_related("category").filter(stock=5).update(price=2)
    told = [
        {name: pair for name, pair in (event.changes or {}).items() if name not in TIMES}
        for event in events
    ]
    assert told[0] == {"stock": [2, 12]}
    assert sorted(map(str, told[1:3])) == sorted(
        map(str, [{"name": ["p1", "p1!"]}, {"name": ["p2", "p2!"]}])
    )
    assert told[3:] == [{"stock": [0, 5]}, {"price": ["0.00", "2.00"]}]


def test_numbers_too_large_for_json_are_text(events: list[Event]):
    """C8, C12"""
    Values.objects.create(big=2**60, ratio=1e300)
    row = Values.objects.get()
    assert (events[0].changes or {})["big"] == [None, str(2**60)]
    assert (events[0].changes or {})["ratio"] == [None, repr(1e300)]
    row.save()
    Values.objects.update(big=F("big") + 1)
    assert [event.action for event in events] == ["create", "update"]
    assert (events[1].changes or {})["big"] == [str(2**60), str(2**60 + 1)]


def test_text_and_binary_of_any_kind_go_through(events: list[Event]):
    """C8, C12: empty is not null, text of null is not null."""
    row = Values.objects.create(text="")
    for value in ("None", "null", "\N{BLACK SQUARE}" * 9, None):
        row.text = value
        row.save()
    assert [(event.changes or {})["text"] for event in events] == [
        [None, ""],
        ["", "None"],
        ["None", "null"],
        ["null", "\N{BLACK SQUARE}" * 9],
        ["\N{BLACK SQUARE}" * 9, None],
    ]
