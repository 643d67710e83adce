"""What people are called in records about something else goes with them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test.utils import CaptureQueriesContext

from audit_log import registry, testing
from audit_log.conf import forget
from audit_log.events import Event, Target
from audit_log.ledger import theirs, writer
from audit_log.ledger.records import Place, prepare
from audit_log.ledger.verification import verify
from audit_log.models import DataKey, Record
from audit_log.privacy import data_keys
from audit_log.privacy.encryption import open_sealed, place_of
from audit_log.reading.contents import contents, contents_of_all, labels
from audit_log.retention import disclosure, erasure
from audit_log.retention.disclosed import as_json
from tests.ledger.building import an_event, write
from tests.shop.models import Category, Club, Country, Member, Membership, Product, Review

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def people() -> Iterator[None]:
    """Members of clubs are persons."""
    registry.register(Member, subject="pk")
    yield
    registry._registered.pop(Member, None)
    forget()


@pytest.fixture
def ann() -> Any:
    return get_user_model().objects.create(username="ann.smith")


@pytest.fixture
def review(ann: Any) -> Record:
    """Of a review that she wrote of something of nobody's."""
    product = Product.objects.create(name="lamp")
    Review.objects.create(product=product, author=ann, text="fine")
    testing.relay()
    return Record.objects.get(target_type="shop.review")


def _plain(record: Record) -> dict[str, Any]:
    """The sealed part as it is under the record's own key."""
    plain = open_sealed(
        bytes(record.sealed_data or b""),
        lambda id_: data_keys.cipher_for(id_, "default"),
        place_of(record.pk, "sealed_data"),
    )
    return dict(json.loads(plain))


def test_author_of_a_review_is_under_her_own_key(ann: Any, review: Record):
    plain = _plain(review)
    assert "ann.smith" not in json.dumps(plain)
    assert list(plain["theirs"]) == ["labels.author.1"]
    assert plain["labels"] == {"product": [None, "lamp"]}
    assert contents(review)["labels"] == {"author": [None, "ann.smith"], "product": [None, "lamp"]}
    assert contents_of_all([review])[0]["labels"]["author"] == [None, "ann.smith"]
    erasure.erase(f"user:{ann.pk}", "request")
    opened = contents(review)
    assert opened["labels"]["author"][1].startswith("erased on")
    assert opened["labels"]["product"] == [None, "lamp"]
    assert opened["changes"]["text"] == [None, "fine"]
    assert opened["closed"] == []
    assert verify().ok


def test_name_that_waits_while_she_is_erased_is_left_out(ann: Any):
    Review.objects.create(product=Product.objects.create(name="lamp"), author=ann, text="fine")
    erasure.erase(f"user:{ann.pk}", "request")
    record = Record.objects.get(target_type="shop.review")
    assert contents(record)["labels"] == {"product": [None, "lamp"]}
    assert {"path": "labels.author.1", "rule": "erased"} in (record.redactions or [])
    assert verify().ok


def test_members_are_each_under_their_own_key(people: None):
    friends = [Member.objects.create(name=f"member {n}") for n in range(3)]
    friends[0].idols.add(*friends[1:])
    testing.relay()
    record = Record.objects.get(action="m2m.add")
    assert "member 1" not in json.dumps(_plain(record))
    assert contents(record)["data"]["labels"] == ["member 1", "member 2"]
    erasure.erase(f"shop.member:{friends[1].pk}", "request")
    first, second = contents(record)["data"]["labels"]
    assert first.startswith("erased on")
    assert second == "member 2"


def test_through_rows_name_both_sides(people: None):
    club, member = Club.objects.create(name="chess"), Member.objects.create(name="magnus")
    Membership.objects.create(club=club, member=member)
    testing.relay()
    record = Record.objects.get(target_type="shop.membership")
    assert contents(record)["labels"] == {"club": [None, "chess"], "member": [None, "magnus"]}
    erasure.erase(f"shop.member:{member.pk}", "request")
    assert contents(record)["labels"]["member"][1].startswith("erased on")


def test_record_of_that_persons_own_needs_no_second_key(people: None):
    """A row whose subject is the person it refers to: all of it is under one key."""
    registry.register(Membership, subject="member")
    try:
        member = Member.objects.create(name="magnus")
        Membership.objects.create(club=Club.objects.create(name="chess"), member=member)
        testing.relay()
    finally:
        registry._registered.pop(Membership, None)
        forget()
    record = Record.objects.get(target_type="shop.membership")
    assert "theirs" not in _plain(record)
    assert contents(record)["labels"]["member"] == [None, "magnus"]


def test_name_of_nobody_known_is_not_kept(ann: Any):
    """The value is not there to say whose name it is."""
    event = an_event(
        target=Target("shop.review", "1"),
        changes={"text": [None, "x"]},
        labels={"author": [None, "ann.smith"], "product": [None, "lamp"]},
    )
    write([event])
    record = Record.objects.get(pk=event.id)
    assert contents(record)["labels"] == {"product": [None, "lamp"]}
    assert "theirs" not in _plain(record)


@pytest.mark.parametrize("ids", [["1"], ["1", "2", "3"]])
def test_members_that_cannot_be_told_apart_are_not_named(people: None, ids: list[str]):
    event = _of_members(ids, ["a", "b"])
    assert [name.subject for name in theirs.names_in(event)] == [None, None]


def _of_members(ids: list[str], names: list[str]) -> Event:
    return an_event(
        action="m2m.add",
        target=Target("shop.club", "1"),
        data={"field": "members", "type": "shop.member", "ids": ids, "labels": names},
        sealed=("data.labels",),
    )


def test_projects_own_labels_are_its_own(people: None):
    event = an_event(data={"type": "shop.member", "ids": ["1"], "labels": ["a"]})
    assert theirs.names_in(event) == []


def test_redelivery_is_the_same_though_it_is_sealed_anew(ann: Any, review: Record):
    event = an_event(
        target=Target("shop.review", "1"),
        changes={"author": [None, ann.pk]},
        labels={"author": [None, "ann.smith"]},
    )
    write([event])
    again = prepare(event, Place("default", 0, "default"))
    stored = Record.objects.filter(pk=event.id).values().get()
    assert writer._is_same(stored, again.columns, "default")
    other = prepare(
        an_event(
            id=event.id,
            occurred_at=event.occurred_at,
            target=event.target,
            changes=event.changes,
            labels={"author": [None, "somebody else"]},
        ),
        Place("default", 0, "default"),
    )
    assert not writer._is_same(stored, other.columns, "default")


def test_secret_in_a_name_is_masked(ann: Any):
    event = an_event(
        target=Target("shop.review", "1"),
        changes={"author": [None, ann.pk]},
        labels={"author": [None, "ann 4111 1111 1111 1111"]},
    )
    write([event])
    record = Record.objects.get(pk=event.id)
    assert contents(record)["labels"]["author"] == [None, "ann **** **** **** 1111"]


def test_swapped_names_do_not_open(ann: Any):
    bob = get_user_model().objects.create(username="bob")
    first, second = (
        an_event(
            target=Target("shop.review", "1"),
            changes={"author": [None, user.pk]},
            labels={"author": [None, user.username]},
        )
        for user in (ann, bob)
    )
    write([first, second])
    records = [Record.objects.get(pk=event.id) for event in (first, second)]
    moved = _plain(records[0])
    moved["theirs"] = _plain(records[1])["theirs"]
    closed = theirs.put_back(moved, records[0].pk, lambda id_: data_keys.cipher_for(id_, "default"))
    assert len(closed) == 1
    assert "altered" in closed[0]


def test_page_of_records_asks_for_its_keys_once(ann: Any, review: Record):
    data_keys.forget()
    with CaptureQueriesContext(connection) as queries:
        labels(Record.objects.filter(pk=review.pk))
    assert len([q for q in queries if "datakey" in q["sql"]]) == 1


def test_export_tells_a_person_what_they_are_called_and_nobody_else(ann: Any, review: Record):
    def told(name: str) -> str:
        found = disclosure.of(name, "default", lambda _name, _done, _size: None)
        return "".join(as_json(found))

    bob = get_user_model().objects.create(username="bob")
    testing.relay()
    assert "ann.smith" not in told(f"user:{bob.pk}")
    assert DataKey.objects.count() >= 2


def test_events_about_nobody_cost_nothing(django_assert_num_queries: Any):
    Category.objects.create(name="c")
    Country.objects.create(code="xx", name="x")
    with django_assert_num_queries(0):
        assert theirs.names_in(an_event()) == []
