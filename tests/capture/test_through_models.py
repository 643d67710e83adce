"""Many-to-many fields to the same model, and tables between with fields of their own."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import transaction

from audit_log.events import Event
from tests.shop.models import Club, Member, Membership, Product, Tag

pytestmark = pytest.mark.django_db


def _said(events: list[Event]) -> list[tuple[Any, ...]]:
    return [
        (e.action, (e.data or {}).get("field"), e.target and e.target.id, (e.data or {}).get("ids"))
        for e in events
        if e.action.startswith("m2m.")
    ]


@pytest.fixture
def members() -> list[Member]:
    return [Member.objects.create(name=name) for name in "abc"]


def test_fields_to_the_same_model_are_told_apart(members: list[Member], events: list[Event]):
    """E1: one symmetrical, one not, each from both sides."""
    one, two, _ = members
    one.friends.add(two)
    one.idols.add(two)
    two.fans.remove(one)
    two.friends.clear()
    assert _said(events) == [
        ("m2m.add", "friends", str(one.pk), [str(two.pk)]),
        ("m2m.add", "idols", str(one.pk), [str(two.pk)]),
        ("m2m.remove", "idols", str(one.pk), [str(two.pk)]),
        ("m2m.clear", "friends", str(two.pk), [str(one.pk)]),
    ]


def test_member_of_itself_is_one_event(members: list[Member], events: list[Event]):
    """E1"""
    one = members[0]
    one.idols.add(one)
    one.friends.add(one)
    one.friends.set([])
    assert _said(events) == [
        ("m2m.add", "idols", str(one.pk), [str(one.pk)]),
        ("m2m.add", "friends", str(one.pk), [str(one.pk)]),
        ("m2m.remove", "friends", str(one.pk), [str(one.pk)]),
    ]


def test_set_on_either_side_is_one_add_and_one_remove_for_each_owner(
    members: list[Member], events: list[Event]
):
    """E1"""
    one, two, three = members
    one.idols.set([two])
    one.idols.set([three])
    three.fans.set([two, one])
    assert _said(events) == [
        ("m2m.add", "idols", str(one.pk), [str(two.pk)]),
        ("m2m.remove", "idols", str(one.pk), [str(two.pk)]),
        ("m2m.add", "idols", str(one.pk), [str(three.pk)]),
        ("m2m.add", "idols", str(two.pk), [str(three.pk)]),
    ]


def test_set_with_values_for_the_table_between_records_both(
    members: list[Member], events: list[Event]
):
    """E1: the row with its fields, and the member."""
    club = Club.objects.create(name="c")
    del events[:]
    club.members.set(members[:2], through_defaults={"role": "chair"})
    rows = [e.changes for e in events if e.target and e.target.type == "shop.membership"]
    assert [(row or {})["role"] for row in rows] == [[None, "chair"]] * 2
    assert _said(events) == [
        ("m2m.add", "members", str(club.pk), [str(member.pk) for member in members[:2]])
    ]
    del events[:]
    club.members.set(members[:1])
    assert _said(events) == [("m2m.remove", "members", str(club.pk), [str(members[1].pk)])]
    assert [e.action for e in events if e.target and e.target.type == "shop.membership"] == [
        "delete"
    ]


def test_rows_of_the_table_between_written_as_rows_are_recorded_as_rows(
    members: list[Member], events: list[Event]
):
    """E1: created, in bulk, changed and deleted, each once."""
    club = Club.objects.create(name="c")
    del events[:]
    row = Membership.objects.create(club=club, member=members[0], role="chair")
    Membership.objects.bulk_create([Membership(club=club, member=each) for each in members[1:]])
    row.role = "guest"
    row.save()
    Membership.objects.filter(role="member").update(role="guest")
    row.delete()
    Membership.objects.all().delete()
    assert {event.target.type for event in events if event.target} == {"shop.membership"}
    assert [event.action for event in events] == [
        "create",
        "create",
        "create",
        "update",
        "update",
        "update",
        "delete",
        "delete",
        "delete",
    ]
    assert (events[0].changes or {})["club"] == [None, club.pk]
    assert (events[3].changes or {})["role"] == ["chair", "guest"]


def test_member_that_goes_ends_its_memberships_once(members: list[Member], events: list[Event]):
    """E1, A8: of a field's own table and of the project's."""
    club = Club.objects.create(name="c")
    club.members.add(*members[:2])
    members[0].idols.add(members[1])
    del events[:]
    gone = str(members[1].pk)
    members[1].delete()
    assert _said(events) == [("m2m.remove", "idols", str(members[0].pk), [gone])]
    rest = [(e.action, e.target.type) for e in events if e.target and "m2m" not in e.action]
    assert sorted(rest) == [("delete", "shop.member"), ("delete", "shop.membership")]


def test_friend_that_goes_is_taken_from_everybody(members: list[Member], events: list[Event]):
    """E1: a symmetrical relation has two rows for two friends."""
    one, two, three = members
    one.friends.add(two, three)
    del events[:]
    gone = str(one.pk)
    one.delete()
    ended = {(owner, tuple(ids)) for _, _, owner, ids in _said(events)}
    assert {(str(two.pk), (gone,)), (str(three.pk), (gone,))} <= ended
    assert not Member.friends.through.objects.exists()


def test_add_that_is_rolled_back_leaves_the_field_as_it_was(events: list[Event]):
    """E2, A12: the next one is an event again."""
    product, tag = Product.objects.create(name="p"), Tag.objects.create(name="t")
    with transaction.atomic():
        product.tags.add(tag)
        transaction.set_rollback(True)
    product.tags.add(tag)
    product.tags.add(tag)
    assert _said(events) == [("m2m.add", "tags", str(product.pk), [str(tag.pk)])]


def test_key_of_a_member_may_be_text(members: list[Member], events: list[Event]):
    """E1, E2: what `add()` takes: objects, keys, and keys as text."""
    one, two, _ = members
    one.idols.add(str(two.pk))  # type: ignore[arg-type]
    one.idols.add(two.pk, two)
    one.idols.remove(str(two.pk))  # type: ignore[arg-type]
    assert [said[0] for said in _said(events)] == ["m2m.add", "m2m.remove"]
