"""References that a deletion sets to null."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

import audit_log
from audit_log.events import Event
from tests.shop.models import Product, Review, Tag

pytestmark = pytest.mark.django_db


def _reviews(user: User, count: int) -> list[Review]:
    product = Product.objects.create(name="p")
    return [
        Review.objects.create(product=product, author=user, text=f"text {n}") for n in range(count)
    ]


def _updates(events: list[Event]) -> list[Event]:
    return [
        e for e in events if e.action == "update" and e.target and e.target.type == "shop.review"
    ]


def test_each_reference_set_to_null_is_an_update_of_its_row() -> None:
    user = User.objects.create(username="ada")
    reviews = _reviews(user, 3)
    key = user.pk
    with audit_log.testing.capture_events() as events:
        user.delete()
    found = _updates(events)
    assert {e.target.id for e in found if e.target} == {str(r.pk) for r in reviews}
    assert [e.changes for e in found] == [{"author": [key, None]}] * 3
    assert {str(e.data) for e in found} == {str({"cascade_from": f"auth.user:{key}"})}
    assert not Review.objects.exclude(author=None).exists()


def test_the_project_sees_no_query_more() -> None:
    user = User.objects.create(username="ada")
    _reviews(user, 2)
    with CaptureQueriesContext(
        connection,
    ) as seen:
        user.delete()
    other = User.objects.create(username="eve")
    _reviews(other, 2)
    with audit_log.suspended(), CaptureQueriesContext(connection) as without:
        other.delete()
    shape = [query["sql"].split()[0] for query in seen.captured_queries]
    assert shape == [query["sql"].split()[0] for query in without.captured_queries]


def test_references_of_more_rows_are_one_event(settings: Any) -> None:
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "BULK_ROWS": 2}
    user = User.objects.create(username="ada")
    _reviews(user, 3)
    keys = list(Review.objects.order_by("pk").values_list("pk", flat=True))
    root = f"auth.user:{user.pk}"
    with audit_log.testing.capture_events() as events:
        user.delete()
    [event] = [event for event in events if event.action == "update"]
    assert event.target is not None
    assert (event.target.id, event.affected) == (None, 3)
    assert event.changes == {"author": [None, None]}
    assert [(mark.path, mark.rule) for mark in event.redactions] == [
        ("changes.author.0", "not_loaded")
    ]
    assert event.data == {
        "bulk": {"count": 3, "fields": ["author"], "keys": [f"{keys[0]}-{keys[2]}"]},
        "cascade_from": root,
    }


def test_a_query_set_of_the_project_is_not_taken_for_a_cascade() -> None:
    user = User.objects.create(username="ada")
    _reviews(user, 1)
    with audit_log.testing.capture_events() as events:
        Review.objects.update(author=None)
    assert [(event.changes, event.data) for event in events] == [
        ({"author": [user.pk, None]}, None)
    ]


def test_a_rolled_back_deletion_leaves_no_update() -> None:
    user = User.objects.create(username="ada")
    _reviews(user, 1)
    with audit_log.testing.capture_events() as events, transaction.atomic():
        user.delete()
        transaction.set_rollback(True)
    assert events == []
    assert Review.objects.get().author_id is not None


def test_members_that_end_with_their_owner_are_removed_on_record() -> None:
    """FAULTS m2m_cascade."""
    product = Product.objects.create(name="p")
    tags = [Tag.objects.create(name=name) for name in "ab"]
    product.tags.set(tags)
    key = product.pk
    with audit_log.testing.capture_events() as events:
        product.delete()
    removed, deleted = events
    assert removed.action == "m2m.remove"
    assert removed.target is not None
    assert removed.target.id == str(key)
    assert removed.data is not None
    assert removed.data["ids"] == [str(tag.pk) for tag in tags]
    assert removed.affected == 2
    assert deleted.action == "delete"


def test_members_that_end_with_the_other_side_are_removed_from_each_owner() -> None:
    tag = Tag.objects.create(name="t")
    products = [Product.objects.create(name=name) for name in "xyz"]
    tag.products.set(products)
    key = tag.pk
    with audit_log.testing.capture_events() as events:
        tag.delete()
    removed = [e for e in events if e.action == "m2m.remove"]
    assert {e.target.id for e in removed if e.target} == {str(p.pk) for p in products}
    for event in removed:
        assert event.data is not None
        assert event.data["ids"] == [str(key)]
        assert event.data["cascade_from"] == f"shop.tag:{key}"


def test_members_removed_by_a_manager_are_recorded_once() -> None:
    product = Product.objects.create(name="p")
    product.tags.set([Tag.objects.create(name=name) for name in "ab"])
    with audit_log.testing.capture_events() as events:
        product.tags.clear()
    assert [e.action for e in events] == ["m2m.clear"]
