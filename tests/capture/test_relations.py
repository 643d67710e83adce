from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, connections, transaction
from django.db.models.signals import m2m_changed
from django.test.utils import CaptureQueriesContext

from audit_log.events import Event
from audit_log.models import Outbox
from tests.capture.statements import statements
from tests.shop.models import Category, CheapProduct, Club, Member, Product, Tag

committed = pytest.mark.django_db(transaction=True)
pytestmark = pytest.mark.django_db


@pytest.fixture
def product() -> Product:
    return Product.objects.create(name="p")


@pytest.fixture
def tags() -> list[Tag]:
    return [Tag.objects.create(name=f"t{n}") for n in range(4)]


def _ids(tags: list[Tag]) -> list[str]:
    return [str(tag.pk) for tag in tags]


def _said(events: list[Event]) -> list[tuple[Any, ...]]:
    return [
        (e.action, e.target and e.target.type, e.target and e.target.id, e.data and e.data["ids"])
        for e in events
    ]


def test_add_remove_and_clear_are_one_event_each(
    product: Product, tags: list[Tag], events: list[Event]
):
    """E1"""
    product.tags.add(*tags)
    product.tags.remove(tags[0], tags[1].pk)
    product.tags.clear()
    of_product = ("shop.product", str(product.pk))
    assert _said(events) == [
        ("m2m.add", *of_product, _ids(tags)),
        ("m2m.remove", *of_product, _ids(tags[:2])),
        ("m2m.clear", *of_product, _ids(tags[2:])),
    ]
    assert events[0].data == {
        "field": "tags",
        "type": "shop.tag",
        "ids": _ids(tags),
        "labels": ["t0", "t1", "t2", "t3"],
    }
    assert events[0].affected == 4
    assert events[0].sealed == ("data.labels",)


def test_reverse_side_is_one_event_on_each_owner(tags: list[Tag], events: list[Event]):
    """E1"""
    products = [Product.objects.create(name=f"p{n}") for n in range(2)]
    del events[:]
    tags[0].products.add(*products)
    tags[0].products.remove(products[0])
    tags[0].products.clear()
    one = [str(tags[0].pk)]
    first, second = (str(product.pk) for product in products)
    assert _said(events) == [
        ("m2m.add", "shop.product", first, one),
        ("m2m.add", "shop.product", second, one),
        ("m2m.remove", "shop.product", first, one),
        ("m2m.clear", "shop.product", second, one),
    ]
    assert {(e.data or {})["field"] for e in events} == {"tags"}


def test_set_is_one_add_and_one_remove_at_most(
    product: Product, tags: list[Tag], events: list[Event]
):
    """E1"""
    product.tags.set(tags[:2])
    product.tags.set(tags[1:3])
    product.tags.set(tags[1:3])
    assert [(e.action, (e.data or {})["ids"]) for e in events] == [
        ("m2m.add", _ids(tags[:2])),
        ("m2m.remove", _ids(tags[:1])),
        ("m2m.add", _ids(tags[2:3])),
    ]
    product.tags.set([tags[3]], clear=True)
    assert [e.action for e in events[3:]] == ["m2m.clear", "m2m.add"]


def test_member_that_is_there_already_is_no_event(
    product: Product, tags: list[Tag], events: list[Event]
):
    """E2"""
    product.tags.add(tags[0])
    del events[:]
    product.tags.add(tags[0])
    assert events == []
    product.tags.add(*tags[:2])
    assert [(e.data or {})["ids"] for e in events] == [_ids(tags[1:2])]
    del events[:]
    product.tags.remove(tags[3])
    product.tags.add()
    product.tags.remove()
    assert events == []


def test_queries_do_not_grow_with_the_members(product: Product, events: list[Event]):
    """E3"""
    counts = []
    for number in (2, 60):
        tags = [Tag.objects.create(name=f"t{n}") for n in range(number)]
        with statements() as seen:
            product.tags.add(*tags)
            product.tags.remove(*tags[1:])
            product.tags.clear()
        counts.append(len(seen))
    assert counts[0] == counts[1]


def test_thousands_of_members_are_named_exactly(product: Product, events: list[Event]):
    """E1: in events of bounded size."""
    tags = Tag.objects.bulk_create(Tag(name=f"t{n}") for n in range(1200))
    del events[:]
    product.tags.add(*tags)
    said = [key for e in events for key in (e.data or {})["ids"]]
    assert sorted(said) == sorted(str(tag.pk) for tag in Tag.objects.all())
    assert sum(e.affected or 0 for e in events) == 1200


def test_project_sees_the_queries_it_would_see(product: Product, tags: list[Tag]):
    with CaptureQueriesContext(connection) as queries:
        product.tags.add(*tags)
        product.tags.remove(tags[0])
        product.tags.clear()
    assert [query["sql"].split()[0] for query in queries] == ["INSERT", "DELETE", "DELETE"]


@committed
def test_remove_and_clear_in_autocommit_show_their_own_transaction(
    product: Product, tags: list[Tag]
):
    product.tags.add(*tags)
    rows = Outbox.objects.count()
    changes: list[Callable[[], None]] = [lambda: product.tags.remove(tags[0]), product.tags.clear]
    for change in changes:
        with CaptureQueriesContext(connection) as queries:
            change()
        first, *rest = (query["sql"].split()[0] for query in queries)
        assert (first, rest) == ("BEGIN", ["DELETE", "COMMIT"])
    with CaptureQueriesContext(connection) as queries:
        product.tags.remove()
    assert len(queries) == 0
    assert Outbox.objects.count() == rows + 2


def test_symmetrical_relation_is_one_event(events: list[Event]):
    """E1"""
    first, second = (Member.objects.create(name=name) for name in "ab")
    del events[:]
    first.friends.add(second)
    second.friends.remove(first)
    assert not first.friends.exists()
    assert _said(events) == [
        ("m2m.add", "shop.member", str(first.pk), [str(second.pk)]),
        ("m2m.remove", "shop.member", str(second.pk), [str(first.pk)]),
    ]


def test_asymmetrical_relation_to_self_is_of_its_owner(events: list[Event]):
    """E1"""
    fan, idol = (Member.objects.create(name=name) for name in "ab")
    del events[:]
    idol.fans.add(fan)
    assert _said(events) == [("m2m.add", "shop.member", str(fan.pk), [str(idol.pk)])]
    assert (events[0].data or {})["field"] == "idols"


def test_through_model_with_its_own_fields(events: list[Event]):
    """E1: its rows are rows of a model as well, and recorded so too."""
    club, member = Club.objects.create(name="c"), Member.objects.create(name="m")
    del events[:]
    club.members.add(member, through_defaults={"role": "chair"})
    club.members.clear()
    actions = [e.action for e in events]
    assert actions[:2] == ["create", "m2m.add"]
    assert actions.count("m2m.clear") == 1
    assert [e.changes and e.changes["role"] for e in events if e.action == "delete"] == [
        ["chair", None]
    ]


def test_prefetched_members_are_as_ever(product: Product, tags: list[Tag], events: list[Event]):
    product.tags.add(tags[0])
    loaded = Product.objects.prefetch_related("tags").get()
    with CaptureQueriesContext(connection) as queries:
        assert len(loaded.tags.all()) == 1
    assert len(queries) == 0
    loaded.tags.add(tags[1])
    assert len(loaded.tags.all()) == 2
    assert (events[-1].data or {})["ids"] == _ids(tags[1:2])


def test_proxy_owner_is_its_model(tags: list[Tag], events: list[Event]):
    """D3"""
    cheap = CheapProduct.objects.create(name="p")
    cheap.tags.add(tags[0])
    assert events[-1].target is not None
    assert events[-1].target.type == "shop.product"


@committed
def test_async_forms_are_recorded(events: list[Event]):
    """A10"""
    product = Product.objects.create(name="p")
    tags = [Tag.objects.create(name=name) for name in "ab"]
    del events[:]

    async def work() -> None:
        await product.tags.aadd(tags[0])
        await product.tags.aset([tags[1]])
        await product.tags.aclear()
        await sync_to_async(connections.close_all)()

    asyncio.run(work())
    assert [e.action for e in events] == ["m2m.add", "m2m.remove", "m2m.add", "m2m.clear"]


def test_receivers_are_called_as_ever(product: Product, tags: list[Tag], events: list[Event]):
    seen: list[Any] = []

    def receive(action: str, pk_set: set[Any] | None, **_: Any) -> None:
        seen.append((action, pk_set))

    m2m_changed.connect(receive, sender=Product.tags.through)
    try:
        product.tags.add(tags[0])
        product.tags.add(tags[0])
        product.tags.clear()
    finally:
        m2m_changed.disconnect(receive, sender=Product.tags.through)
    assert [action for action, _ in seen] == [
        "pre_add",
        "post_add",
        "pre_add",
        "post_add",
        "pre_clear",
        "post_clear",
    ]
    assert [e.action for e in events] == ["m2m.add", "m2m.clear"]


def test_wrong_member_raises_what_it_would_raise(product: Product, events: list[Event]):
    with pytest.raises(TypeError, match="'Tag' instance expected"), transaction.atomic():
        product.tags.add(Category.objects.create(name="c"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected a number"), transaction.atomic():
        product.tags.add("no number")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected a number"), transaction.atomic():
        product.tags.remove("no number")  # type: ignore[arg-type]
    assert [e.action for e in events] == []


def test_member_created_through_the_relation(product: Product, events: list[Event]):
    product.tags.create(name="new")
    assert [e.action for e in events] == ["create", "m2m.add"]


def test_rolled_back_relation_is_no_event(product: Product, tags: list[Tag], events: list[Event]):
    """A12"""
    with transaction.atomic():
        product.tags.add(tags[0])
        transaction.set_rollback(True)
    assert events == []
