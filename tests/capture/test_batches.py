"""Bulk operations in batches, and conflicts: nothing is claimed that is not in the table."""

from __future__ import annotations

import pytest
from django.db import IntegrityError, connection, transaction

from audit_log.events import Event
from audit_log.models import Outbox
from tests.capture.statements import statements
from tests.shop.models import Country, Watched

committed = pytest.mark.django_db(transaction=True)
pytestmark = pytest.mark.django_db


@committed
@pytest.mark.parametrize("inside", [False, True])
def test_update_whose_second_batch_fails_leaves_no_event(inside: bool, events: list[Event]):
    """B6: Django's own transaction takes the first batch back."""
    rows = [Watched.objects.create(name=f"w{n}") for n in range(4)]
    Watched.objects.create(name="taken")
    before = Outbox.objects.count()
    del events[:]
    for row, name in zip(rows, ("x0", "x1", "x2", "taken"), strict=True):
        row.name = name
    block = transaction.atomic if inside else _nothing
    with pytest.raises(IntegrityError), block():
        Watched.objects.bulk_update(rows, ["name"], batch_size=2)
    assert events == []
    assert Outbox.objects.count() == before
    rows[0].save()
    assert events[-1].changes == {"name": ["w0", "x0"]}


class _nothing:  # noqa: N801 - as `transaction.atomic`
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


@committed
def test_creation_whose_second_batch_fails_in_autocommit_leaves_no_event(events: list[Event]):
    """B6"""
    Watched.objects.create(name="w3")
    before = Outbox.objects.count()
    del events[:]
    with pytest.raises(IntegrityError):
        Watched.objects.bulk_create([Watched(name=f"w{n}") for n in range(4)], batch_size=2)
    assert events == []
    assert Outbox.objects.count() == before
    assert Watched.objects.count() == 1


def test_batches_are_as_large_as_they_are_told(events: list[Event]):
    """B6"""
    with statements() as sent:
        Watched.objects.bulk_create([Watched(name=f"w{n}") for n in range(5)], batch_size=2)
    table = Watched._meta.db_table
    assert sum(f"INSERT INTO {connection.ops.quote_name(table)}" in text for text in sent) == 3
    assert len(events) == 5


def test_conflicts_in_a_later_batch_are_not_claimed_either(events: list[Event]):
    """B4, B6"""
    Country.objects.create(code="c3", name="there")
    del events[:]
    Country.objects.bulk_create(
        [Country(code=f"c{n}", name="new") for n in range(5)], batch_size=2, ignore_conflicts=True
    )
    created = sorted(str(event.target and event.target.id) for event in events)
    assert created == ["c0", "c1", "c2", "c4"]
    assert Country.objects.get(code="c3").name == "there"


def test_same_row_given_twice_is_claimed_once(events: list[Event]):
    """B4"""
    Country.objects.bulk_create(
        [Country(code="x", name="first"), Country(code="x", name="second")], ignore_conflicts=True
    )
    [event] = events
    assert event.target is not None
    assert event.target.id == "x"
    assert event.changes == {"name": [None, Country.objects.get().name]}


def test_conflicts_that_update_to_the_same_values_are_no_event(events: list[Event]):
    """B4"""
    Country.objects.create(code="de", name="Germany")
    del events[:]
    by_target = connection.features.supports_update_conflicts_with_target
    for name in ("Germany", "Deutschland"):
        Country.objects.bulk_create(
            [Country(code="de", name=name)],
            update_conflicts=True,
            update_fields=["name"],
            unique_fields=["code"] if by_target else None,
        )
    assert [(event.action, event.changes) for event in events] == [
        ("update", {"name": ["Germany", "Deutschland"]})
    ]


def test_conflicts_that_are_rolled_back_are_no_event(events: list[Event]):
    """B4, A12"""
    with transaction.atomic():
        Country.objects.bulk_create([Country(code="a", name="A")], ignore_conflicts=True)
        transaction.set_rollback(True)
    assert events == []
    Country.objects.bulk_create([Country(code="a", name="A")], ignore_conflicts=True)
    assert [event.action for event in events] == ["create"]
