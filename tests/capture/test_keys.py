from __future__ import annotations

import uuid
from typing import Any

import pytest

import audit_log
from audit_log import testing
from audit_log.events import Event
from tests.capture.statements import statements
from tests.shop.models import Category, Country, Device, Passport, Place, Restaurant

pytestmark = pytest.mark.django_db

LARGE = -(2**62)  # MariaDB goes on counting from the largest there was


def _passport() -> Passport:
    return Passport.objects.create(country=Country.objects.create(code="a_b/c", name="X"))


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: Category.objects.create(name="c", pk=5), "5"),
        (lambda: Category.objects.create(name="c", pk=LARGE), str(LARGE)),
        (lambda: Country.objects.create(code="a_b/c%", name="X"), "a_b/c%"),
        (lambda: Device.objects.create(pk=uuid.UUID(int=9), name="d"), str(uuid.UUID(int=9))),
        (_passport, "a_b/c"),
        (lambda: Restaurant.objects.create(pk=3, name="Inn"), "3"),
    ],
    ids=["int", "bigint", "char", "uuid", "one-to-one", "child"],
)
def test_event_is_found_by_its_object_without_another_query(
    make: Any, key: str, events: list[Event]
):
    """D1: the key is text, the same from the object as in the event."""
    instance = make()
    assert events[-1].target is not None
    assert events[-1].target.id == key
    testing.relay()
    with statements() as seen:
        [record] = audit_log.history(instance)
    assert len(seen) == 1
    assert record.target_id == key
    del events[:]
    instance.delete()
    assert events[-1].target.id == key


def test_key_is_no_field_of_the_event(events: list[Event]):
    """D1"""
    _passport()
    assert [set(e.changes or {}) for e in events] == [{"name"}, {"pages"}]


def test_uuid_key_with_a_default_is_a_create(events: list[Event]):
    """D1"""
    device = Device(name="d")
    device.save()
    device.name = "e"
    device.save()
    assert [(e.action, e.changes) for e in events] == [
        ("create", {"name": [None, "d"]}),
        ("update", {"name": ["d", "e"]}),
    ]


def test_key_given_as_text_is_the_same_row(events: list[Event]):
    """D1"""
    category = Category.objects.create(name="c")
    stale = Category.objects.get(pk=str(category.pk))
    stale.name = "d"
    stale.save()
    assert events[-1].changes == {"name": ["c", "d"]}
    assert Place.objects.count() == 0
