from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, models, transaction
from django.db.models import Count
from django.db.models.signals import post_delete, pre_delete
from django.test.utils import CaptureQueriesContext

import audit_log
from audit_log import registry
from audit_log.capture import plans
from audit_log.events import Event
from audit_log.models import Outbox
from tests.capture.statements import kinds, statements
from tests.shop.models import (
    Category,
    CheapProduct,
    Country,
    Passport,
    Person,
    Place,
    Product,
    Remark,
    Restaurant,
    Review,
    Stamp,
    Stock,
    Tag,
    Thing,
    Unlisted,
    Watched,
)

committed = pytest.mark.django_db(transaction=True)
pytestmark = pytest.mark.django_db


def _targets(events: list[Event]) -> list[tuple[str, str, str | None]]:
    return [(e.action, e.target.type, e.target.id) for e in events if e.target is not None]


def _not_audited(monkeypatch: pytest.MonkeyPatch, model: type[models.Model]) -> None:
    monkeypatch.setattr(registry, "_registered", {**registry._registered, model: None})
    monkeypatch.setattr(registry, "_resolved", {})
    monkeypatch.setattr(plans, "_plans", {})
    monkeypatch.setattr(plans, "_full", {})


def _review(text: str = "good") -> Review:
    category = Category.objects.create(name="c")
    product = Product.objects.create(name="p", category=category)
    return Review.objects.create(product=product, text=text)


def test_delete_has_the_key_and_the_old_values(events: list[Event]):
    """A6"""
    category = Category.objects.create(name="old")
    key = str(category.pk)
    category.name = "never saved"
    category.delete()
    assert getattr(category, "pk") is None  # noqa: B009 - a checker takes it for what it was
    assert _targets(events)[-1] == ("delete", "shop.category", key)
    assert events[-1].changes == {"name": ["old", None]}


@committed
def test_delete_in_autocommit_is_one_transaction_with_the_outbox_in_it():
    Tag.objects.create(name="t")
    tag = Tag.objects.get()
    with CaptureQueriesContext(connection) as queries, statements() as seen:
        tag.delete()
    names = kinds(seen)
    assert names[0] == "BEGIN"
    assert sum("INSERT" in name for name in names) == 1
    assert [query["sql"].split()[0] for query in queries].count("BEGIN") == 1
    assert Outbox.objects.count() == 2


@committed
def test_single_row_without_relations_keeps_its_fast_path():
    """Django deletes it without a transaction; ours holds nothing but that and the outbox."""
    Unlisted.objects.create(name="u")
    Stock.objects.create(name="s")
    person = Person.objects.create(nickname="n")
    with CaptureQueriesContext(connection) as queries, statements() as seen:
        person.delete()
    assert [query["sql"].split()[0] for query in queries] == ["DELETE"]
    assert [kind.split()[-1] for kind in kinds(seen)][-1] == "COMMIT"
    assert len(seen) == (3 if connection.vendor == "postgresql" else 4)


def test_query_set_delete_is_one_event_for_each_row(events: list[Event], settings: Any):
    """A8: large sets too, in queries of bounded size."""
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "BULK_ROWS": 5_000}
    Tag.objects.bulk_create(Tag(name=f"t{n}") for n in range(1203))
    with statements() as seen:
        count, _ = Tag.objects.all().delete()
    deleted = [e for e in events if e.action == "delete"]
    assert count == len(deleted) == 1203
    assert {(e.changes or {})["name"][0] for e in deleted} == {f"t{n}" for n in range(1203)}
    assert sum("SELECT" in kind for kind in kinds(seen)) < 10


def test_deletion_of_more_rows_is_one_event(events: list[Event], settings: Any):
    """Those that Django deletes unseen, those it has loaded, and those that a cascade takes."""
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "BULK_ROWS": 2}
    with audit_log.suspended():
        stocks = [Stock.objects.create(name=f"s{n}") for n in range(3)]
        category = Category.objects.create(name="c")
        products = [Product.objects.create(name=f"p{n}", category=category) for n in range(3)]
    del events[:]
    Stock.objects.all().delete()
    category.delete()
    many = {e.target.type: e for e in events if e.target and e.target.id is None}
    [one] = [e for e in events if e.target and e.target.id is not None]
    assert {(e.action, e.affected, e.changes) for e in many.values()} == {("delete", 3, None)}
    bulk = {"count": 3, "fields": [], "keys": [_range(stocks)]}
    assert many["shop.stock"].data == {"bulk": bulk}
    assert one.target is not None
    assert many["shop.product"].data == {
        "bulk": {"count": 3, "fields": [], "keys": [_range(products)]},
        "cascade_from": f"shop.category:{one.target.id}",
    }


def _range(rows: Sequence[models.Model]) -> str:
    return f"{rows[0].pk}-{rows[-1].pk}"


def test_cascade_marks_where_it_came_from(events: list[Event]):
    """A8: and Django loads only the keys of what it deletes so."""
    review = _review()
    category = Category.objects.get()
    keys = (str(review.pk), str(review.product_id), str(category.pk))
    del events[:]
    category.delete()
    assert sorted(_targets(events)) == [
        ("delete", "shop.category", keys[2]),
        ("delete", "shop.product", keys[1]),
        ("delete", "shop.review", keys[0]),
    ]
    found = {e.target.type: e for e in events if e.target is not None}
    root = {"cascade_from": f"shop.category:{keys[2]}"}
    assert found["shop.review"].data == found["shop.product"].data == root
    assert found["shop.category"].data is None
    assert (found["shop.review"].changes or {})["text"] == ["good", None]
    assert (found["shop.product"].changes or {})["name"] == ["p", None]
    assert found["shop.product"].target is not None
    assert found["shop.product"].target.label == "p"


def test_cascade_of_many_costs_a_constant_number_of_queries(events: list[Event]):
    """A8, C18: no query for each deferred field of each row."""
    counts = []
    for number in (3, 30):
        category = Category.objects.create(name="c")
        for n in range(number):
            product = Product.objects.create(name=f"p{n}", category=category)
            Review.objects.create(product=product, text="t")
        del events[:]
        with statements() as seen:
            category.delete()
        assert len(events) == 1 + 2 * number
        counts.append(len(seen))
    assert counts[0] == counts[1]


def test_cascade_of_a_query_set_names_its_model(events: list[Event]):
    """A8"""
    _review()
    del events[:]
    Category.objects.all().delete()
    assert {e.target.type: e.data for e in events if e.target is not None} == {
        "shop.review": {"cascade_from": "shop.category"},
        "shop.product": {"cascade_from": "shop.category"},
        "shop.category": None,
    }


def test_cascade_through_what_is_not_audited_is_recorded(
    events: list[Event], monkeypatch: pytest.MonkeyPatch
):
    """A9"""
    _review()
    _not_audited(monkeypatch, Product)
    del events[:]
    Category.objects.get().delete()
    assert [target[1] for target in _targets(events)] == ["shop.review", "shop.category"]


def test_parent_row_of_a_child_that_is_not_audited_is_recorded(
    events: list[Event], monkeypatch: pytest.MonkeyPatch
):
    """A9"""
    _not_audited(monkeypatch, Restaurant)
    Restaurant.objects.create(name="Inn").delete()
    assert _targets(events)[-1][:2] == ("delete", "shop.place")


def test_child_row_is_one_event_with_the_parents_fields(events: list[Event]):
    """D4"""
    restaurant = Restaurant.objects.create(name="Inn", stars=2)
    del events[:]
    restaurant.delete()
    assert [e.changes for e in events] == [{"name": ["Inn", None], "stars": [2, None]}]


def test_parent_that_is_kept_is_not_said_to_be_deleted(events: list[Event]):
    """D4"""
    restaurant = Restaurant.objects.create(name="Inn", stars=2)
    del events[:]
    restaurant.delete(keep_parents=True)
    assert Place.objects.count() == 1
    assert [e.changes for e in events] == [{"stars": [2, None]}]


def test_parent_delete_takes_the_child_with_it(events: list[Event]):
    """D4"""
    Restaurant.objects.create(name="Inn", stars=2)
    del events[:]
    Place.objects.get().delete()
    assert [target[1] for target in _targets(events)] == ["shop.restaurant", "shop.place"]
    assert (events[0].changes or {})["stars"] == [2, None]


def test_set_null_is_an_update_of_the_row_that_stays(events: list[Event]):
    user = User.objects.create(username="u")
    review = _review()
    review.author = user
    review.save()
    del events[:]
    user.delete()
    assert [(target[0], target[1]) for target in _targets(events)] == [
        ("update", "shop.review"),
        ("delete", "auth.user"),
    ]
    review.refresh_from_db()
    assert review.author is None


def test_generic_relation_cascades(events: list[Event]):
    """E5: the relation itself is no field of the thing."""
    thing = Thing.objects.create(name="t")
    Remark.objects.create(about=thing, text="r")
    assert set(events[0].changes or {}) == {"name"}
    assert set(events[-1].changes or {}) == {"content_type", "object_id", "text"}
    del events[:]
    thing.delete()
    assert sorted(target[1] for target in _targets(events)) == ["shop.remark", "shop.thing"]


def test_deferred_instance_is_deleted_with_its_whole_row(events: list[Event]):
    """C18"""
    Person.objects.create(nickname="n", notes="text")
    with CaptureQueriesContext(connection) as queries:
        Person.objects.only("nickname").get().delete()
    assert len(queries) == 2
    assert (events[-1].changes or {})["notes"] == ["text", None]


def test_instance_that_was_never_loaded_is_deleted_with_its_whole_row(events: list[Event]):
    tag = Tag.objects.create(name="t")
    Tag(pk=tag.pk).delete()
    assert events[-1].changes == {"name": ["t", None]}


def test_row_that_was_gone_already_is_no_event(events: list[Event]):
    tag = Tag.objects.create(name="t")
    Tag.objects.get().delete()
    del events[:]
    assert tag.delete()[0] == 0
    assert events == []


def test_rows_somebody_else_deleted_first_leave_the_outcome_unknown(
    events: list[Event], monkeypatch: pytest.MonkeyPatch
):
    """Nobody can tell which of them were ours to delete."""
    for name in ("1", "2"):
        Watched.objects.create(name=name)
    first = Watched.objects.get(name="1")
    del events[:]

    def race(sender: Any, instance: Any, **_: Any) -> None:
        if instance.name == "2":
            Watched.objects.filter(pk=first.pk)._raw_delete("default")

    pre_delete.connect(race, sender=Watched)
    try:
        Watched.objects.all().delete()
    finally:
        pre_delete.disconnect(race, sender=Watched)
    assert events[0].outcome == "success"
    assert {e.outcome for e in events[1:]} == {"unknown"}


def test_old_values_of_before_database_are_those_of_the_row(events: list[Event]):
    stale = Stock.objects.create(name="s", amount=1)
    Stock.objects.filter(pk=stale.pk).update(amount=5)
    stale.delete()
    assert (events[-1].changes or {})["amount"] == [5, None]


@pytest.mark.parametrize(
    "rows",
    [
        lambda tags: tags,
        lambda tags: tags.values("name"),
        lambda tags: tags.values_list("pk", flat=True),
        lambda tags: tags.only("id"),
        lambda tags: tags.order_by("-name"),
        lambda tags: tags.filter(pk__in=Tag.objects.values("pk")),
    ],
    ids=["all", "values", "values_list", "only", "ordered", "subquery"],
)
def test_raw_delete_of_any_query_set_is_recorded(rows: Any, events: list[Event]):
    Tag.objects.create(name="t")
    with transaction.atomic():
        assert rows(Tag.objects.all())._raw_delete("default") == 1
    assert events[-1].changes == {"name": ["t", None]}


def test_delete_of_an_annotated_query_set_is_recorded(events: list[Event]):
    Tag.objects.create(name="t")
    Tag.objects.annotate(used=Count("products")).filter(used=0).delete()
    assert events[-1].changes == {"name": ["t", None]}


def test_proxy_delete_is_of_the_model_and_says_that_it_was_one(events: list[Event]):
    """D3"""
    Product.objects.create(name="p")
    CheapProduct.objects.get().delete()
    assert _targets(events)[-1][1] == "shop.product"
    assert events[-1].data == {"proxy": "shop.cheapproduct"}


def test_label_is_taken_while_what_it_names_is_there(events: list[Event]):
    passport = Passport.objects.create(country=Country.objects.create(code="XX", name="X"))
    place = Place.objects.create(name="Rome")
    Stamp.objects.create(passport=passport, place=place, note="visa")
    passport.delete()
    [stamp] = [e for e in events if e.action == "delete" and e.target.type == "shop.stamp"]  # type: ignore[union-attr]
    assert stamp.target is not None
    assert stamp.target.label == "visa in Rome"


def test_receivers_and_their_writes_are_as_ever(events: list[Event]):
    seen: list[Any] = []

    def receive(sender: Any, instance: models.Model, **_: Any) -> None:
        seen.append((instance.pk, connection.in_atomic_block))
        Category.objects.create(name="by a receiver")

    tag = Tag.objects.create(name="t")
    key = tag.pk
    del events[:]
    post_delete.connect(receive, sender=Tag)
    try:
        tag.delete()
    finally:
        post_delete.disconnect(receive, sender=Tag)
    assert seen == [(key, True)]
    assert [e.action for e in events] == ["delete", "create"]


def test_suspended_delete_is_no_event(events: list[Event]):
    """A20"""
    _review()
    del events[:]
    with audit_log.suspended():
        Category.objects.all().delete()
    assert [e.action for e in events] == ["audit_log.suspended"]


def test_delete_that_is_rolled_back_leaves_the_row_known(events: list[Event]):
    """A12"""
    tag = Tag.objects.create(name="t")
    key = tag.pk
    with transaction.atomic():
        tag.delete()
        transaction.set_rollback(True)
    tag.pk = key
    tag.save()
    assert [e.action for e in events] == ["create"]
    tag.name = "u"
    tag.save()
    assert events[-1].changes == {"name": ["t", "u"]}
