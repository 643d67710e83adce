"""record(), acting() and suspended()."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import AnonymousUser, User
from django.db import connection, connections, transaction
from django.utils.functional import SimpleLazyObject, lazystr

import audit_log
from audit_log import context
from audit_log.events import Actor, Target, decode_batch, encode_batch
from audit_log.recording import buffer
from audit_log.recording.people import actor_of
from audit_log.recording.targets import target_id, target_of, target_type
from audit_log.recording.values import encode_bounded
from audit_log.testing import capture_events
from tests.shop.models import Broken, Category, CheapProduct, Country

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("action", ["", "Refund", "a b", "a..b", ".a", "a.", "a-b", "é", "a" * 129])
def test_action_that_is_none_is_refused(action: str):
    with pytest.raises(ValueError, match="is no action"):
        audit_log.record(action)


def test_outcome_that_is_none_is_refused():
    with pytest.raises(
        ValueError, match="outcome must be one of denied, failure, success, unknown"
    ):
        audit_log.record("probe.fired", outcome="maybe")


@pytest.mark.parametrize("data", [["a"], "text", 5, {"a"}])
def test_data_that_is_no_mapping_is_refused(data: Any):
    with pytest.raises(TypeError, match="data must be a mapping"):
        audit_log.record("probe.fired", data=data)


def test_numbers_dates_and_ids_in_data_are_open_however_they_are_stored():
    """H1."""
    data = {"amount": Decimal("1.10"), "day": date(2026, 1, 31), "id": UUID(int=5), "text": "x"}
    event = audit_log.record("probe.fired", data=data)
    assert event.sealed == ("data.text",)


def test_data_follows_the_field_policies():
    """H1."""
    event = audit_log.record(
        "probe.fired",
        data={
            "amount": 5,
            "gateway": "some text",
            "password": "hunter2",
            "card_number": "4111111111111111",
            "nested": {"token": "abc", "fine": 1},
        },
    )
    data = event.data or {}
    assert data["amount"] == 5
    assert data["gateway"] == "some text"
    assert "hunter2" not in str(event)
    assert str(data["card_number"]).endswith("1111")
    assert "411111" not in str(event)
    assert "abc" not in str(data["nested"])
    assert data["nested"]["fine"] == 1
    assert "data.gateway" in event.sealed
    assert "data.amount" not in event.sealed
    assert {"data.password", "data.card_number"} <= {mark.path for mark in event.redactions}


def test_record_waits_for_the_transaction_it_is_in():
    with capture_events() as events:
        with transaction.atomic():
            audit_log.record("probe.rolled_back")
            transaction.set_rollback(True)
        audit_log.record("probe.kept", target=Category(pk=3, name="x"), reason="why")
    (event,) = events
    assert event.action == "probe.kept"
    assert event.target == Target(type="shop.category", id="3", label="x")
    assert event.reason == "why"


def test_what_a_project_hands_in_makes_no_batch_unreadable():
    """A number where a text belongs, and lazy strings."""
    anything: Any = {"id": 5, "label": lazystr("who")}
    why: Any = lazystr("why")
    with audit_log.acting(Actor(type="user", **anything), reason=why, tenant=anything["id"]):
        event = audit_log.record(
            "probe.fired", target=Target(type="x.y", id=anything["id"]), data={anything["id"]: "x"}
        )
    (decoded,) = decode_batch(encode_batch([encode_bounded(event)]))
    assert decoded.actor == Actor(type="user", id="5", label="who")
    assert decoded.target == Target(type="x.y", id="5")
    assert (decoded.reason, decoded.tenant, decoded.data) == ("why", "5", {"5": "x"})


def test_acting_nests_and_restores():
    user = User(pk=7, username="alice", email="a@example.org")
    with audit_log.acting(user, reason="outer", tenant="acme"):
        with audit_log.acting("importer"):
            inner = audit_log.record("probe.inner")
        outer = audit_log.record("probe.outer")
    after = audit_log.record("probe.after")
    assert inner.actor == Actor(type="service", id="importer", label="importer")
    assert (inner.reason, inner.tenant) == ("outer", "acme")
    assert outer.actor == Actor(type="user", id="7", label="alice", email="a@example.org")
    assert after.actor is None
    assert (after.reason, after.tenant) == (None, None)


def test_acting_is_over_after_an_exception():
    with pytest.raises(ZeroDivisionError), audit_log.acting("importer"):
        raise ZeroDivisionError
    assert context.current().actor is None


def test_actors_of_every_kind():
    assert actor_of(AnonymousUser()) == actor_of(None) == Actor(type="anonymous")
    assert actor_of(User(pk=1, username="s", is_staff=True)).type == "admin"
    assert actor_of(User(pk=1, username="s", is_superuser=True)).type == "admin"
    lazy = SimpleLazyObject(lambda: User(pk=1, username="s", email="s@example.org"))
    assert actor_of(lazy) == Actor(type="user", id="1", label="s", email="s@example.org")


def test_strange_user_models_are_actors_too():
    """D7."""

    class Minimal:
        is_authenticated = True
        pk = ("a", 1)

        def __str__(self) -> str:
            return "minimal"

    class Raising:
        is_authenticated = True
        pk = 5
        email = 5

        def get_username(self) -> str:
            raise RuntimeError("no")

    assert actor_of(Minimal()).label == "minimal"
    assert actor_of(Raising()) == Actor(type="user", id="5", label="<Raising: RuntimeError>")


def test_suspended_captures_nothing_and_is_recorded():
    """A20."""
    with capture_events() as events:
        Category.objects.create(name="before")
        with audit_log.suspended("a reason"):
            category = Category.objects.create(name="inside")
            category.name = "changed"
            category.save()
            with audit_log.suspended():
                category.delete()
            Category.objects.filter(name="before").delete()
            audit_log.record("probe.said")
        Category.objects.create(name="after")
    assert [event.action for event in events] == [
        "create",
        "audit_log.suspended",
        "probe.said",
        "create",
    ]
    assert events[1].reason == "a reason"


def test_suspended_is_over_after_an_exception():
    """A20."""
    with pytest.raises(ZeroDivisionError), audit_log.suspended():
        raise ZeroDivisionError
    with capture_events() as events:
        Category.objects.create(name="after")
    assert len(events) == 1


@pytest.mark.django_db(transaction=True)
def test_suspended_ends_at_the_thread():
    """A20."""

    def create() -> None:
        Category.objects.create(name="in another thread")
        connection.close()

    with capture_events() as events, audit_log.suspended(), ThreadPoolExecutor(1) as pool:
        pool.submit(create).result(300)
        Category.objects.create(name="here")
    assert [event.action for event in events] == ["audit_log.suspended", "create"]


@pytest.mark.django_db(transaction=True)
def test_suspended_ends_at_the_task():
    """A20."""
    inside, done = asyncio.Event(), asyncio.Event()

    async def suspending() -> None:
        with audit_log.suspended():
            inside.set()
            await done.wait()
            await Category.objects.acreate(name="suspended")

    async def creating() -> None:
        await inside.wait()
        await Category.objects.acreate(name="free")
        done.set()

    async def both() -> None:
        await asyncio.gather(suspending(), creating())
        await sync_to_async(connections.close_all)()  # in the thread that wrote

    with capture_events() as events:
        asyncio.run(both())
        buffer.flush()
    created = [event for event in events if event.action == "create"]
    assert [event.target.label for event in created if event.target] == ["free"]
    assert [event.action for event in events].count("audit_log.suspended") == 1


def test_concurrent_actors_do_not_mix():
    """F5."""
    barrier = threading.Barrier(8)
    found: dict[int, Any] = {}

    def act(n: int) -> None:
        with audit_log.acting(f"actor-{n}"):
            barrier.wait(300)
            found[n] = context.actor_now()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(act, range(8)))
    assert {n: actor.id for n, actor in found.items()} == {n: f"actor-{n}" for n in range(8)}


def test_targets_of_every_shape():
    """C17, D2, D3."""
    assert target_type(CheapProduct) == "shop.product"
    assert target_of(Broken(pk=1, name="x")).label == "<Broken: DoesNotExist>"
    assert target_id(Category, None) is None
    assert target_id(Category, (1, "é")) == '[1, "é"]'
    long = [target_id(Country, "x" * 300 + end) for end in "ab"]
    assert len(set(long)) == 2
    assert all(len(text or "") <= 255 for text in long)
