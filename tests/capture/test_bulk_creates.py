"""`bulk_create` and `bulk_update`: an event a row, in statements that do not grow with the rows."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.db import IntegrityError, connection, transaction
from django.db.models import F, Value
from django.db.models.functions import Now, Upper

import audit_log
from audit_log.events import Event
from audit_log.models import Outbox
from tests.capture.statements import kinds, statements
from tests.shop.models import (
    Category,
    CheapProduct,
    Country,
    Device,
    Passport,
    Person,
    Place,
    Product,
    Shelf,
    Stamp,
    Step,
    Tag,
    Unlisted,
    Values,
    Versioned,
    Watched,
)

committed = pytest.mark.django_db(transaction=True)
pytestmark = pytest.mark.django_db


@pytest.fixture
def two_rows(settings: Any) -> None:
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "BULK_ROWS": 2}


def _said(events: list[Event]) -> list[tuple[str, str | None, str | None]]:
    return [(e.action, e.target.id, e.target.label) for e in events if e.target]


# --- bulk_create


def test_bulk_create_is_one_event_for_each_row_with_its_key(events: list[Event]):
    """B3"""
    category = Category.objects.create(name="Books")
    del events[:]
    rows = [Product(name=f"p{n}", stock=n, category=category) for n in range(3)]
    assert Product.objects.bulk_create(rows) == rows
    assert _said(events) == [("create", str(row.pk), row.name) for row in rows]
    changes = events[1].changes or {}
    assert changes["stock"] == [None, 1]
    assert changes["price"] == [None, "0.00"]
    assert changes["updated_at"][0] is None
    assert "weight" not in changes
    assert changes["category"] == [None, category.pk]
    assert (events[1].labels or {})["category"] == [None, "Books"]


def test_generators_and_keys_of_all_kinds(events: list[Event]):
    Device.objects.bulk_create(Device(name=f"d{n}") for n in range(2))
    Country.objects.bulk_create([Country(code="de", name="Germany")])
    Shelf.objects.bulk_create([Shelf(room="a", number=1)])
    CheapProduct.objects.bulk_create((CheapProduct(name="cheap"),))
    Tag.objects.bulk_create([Tag(name="without"), Tag(pk=900, name="with")])
    assert Tag.objects.bulk_create([]) == []
    assert {str(device.pk) for device in Device.objects.all()} == {
        e.target.id for e in events[:2] if e.target
    }
    assert [key for _action, key, _label in _said(events)[2:4]] == ["de", '["a", 1]']
    assert events[4].data == {"proxy": "shop.cheapproduct"}
    assert sorted(label for _a, _k, label in _said(events[5:]) if label) == ["with", "without"]


def test_values_that_only_the_row_tells(events: list[Event]):
    """C6: expressions, defaults of the database, numbers that are rounded."""
    rows = [Values(title=Upper(Value("a")), moment=Now(), amount=Decimal("1.239")), Values()]
    with statements() as seen:
        Values.objects.bulk_create(rows)
    assert sum("SELECT" in kind for kind in kinds(seen)) == 1
    first, second = (event.changes or {} for event in events)
    assert first["title"] == [None, "A"]
    assert first["moment"][1][:2] == "20"
    assert first["amount"] == [None, "1.24"]
    assert first["given"] == second["given"] == [None, 7]
    Versioned.objects.bulk_create([Versioned(name="v")])
    assert (events[-1].changes or {})["version"] == [None, 1]


def test_statements_of_a_creation_do_not_grow(events: list[Event]):
    """B3: nor with what labels load; and the project finds nothing loaded that was not."""
    country = Country.objects.create(code="de", name="Germany")
    passport = Passport.objects.create(country=country)
    with audit_log.suspended():
        places = [Place.objects.create(name=f"place {n}") for n in range(30)]
    counts = []
    for size in (10, 30):
        rows = [Stamp(passport=passport, place_id=place.pk) for place in places[:size]]
        with statements() as seen:
            Stamp.objects.bulk_create(rows)
        counts.append(len(seen))
        assert not any("place" in row._state.fields_cache for row in rows)
    assert counts[0] == counts[1]
    assert events[-1].target is not None
    assert events[-1].target.label == " in place 29"


def test_created_instances_know_their_values(events: list[Event]):
    rows = Product.objects.bulk_create([Product(name="a", stock=1), Product(name="b", stock=2)])
    del events[:]
    rows[0].save()
    assert events == []
    rows[1].stock = 5
    rows[1].save()
    changes = events[-1].changes or {}
    assert changes["stock"] == [2, 5]
    assert set(changes) == {"stock", "updated_at"}
    with audit_log.suspended():
        [row] = Product.objects.bulk_create([Product(name="c", stock=1)])
    row.stock = 2
    row.save()
    assert (events[-1].changes or {})["stock"] == [1, 2]


def test_batches_and_the_failure_of_the_second(events: list[Event]):
    """B6"""
    Watched.objects.create(name="w3")
    del events[:]
    with pytest.raises(IntegrityError), transaction.atomic():
        Watched.objects.bulk_create([Watched(name=f"w{n}") for n in range(4)], batch_size=2)
    assert events == []
    assert Watched.objects.count() == 1
    Watched.objects.bulk_create([Watched(name=f"v{n}") for n in range(5)], batch_size=2)
    assert [event.action for event in events] == ["create"] * 5


@committed
def test_bulk_create_in_autocommit_is_one_transaction():
    """A11: and one that fails leaves nothing."""
    with statements() as seen:
        Watched.objects.bulk_create([Watched(name=f"w{n}") for n in range(3)])
    assert sum("INSERT" in kind for kind in kinds(seen)) == 2
    assert sum("BEGIN" in kind for kind in kinds(seen)) == 1
    assert Outbox.objects.count() == 1
    with pytest.raises(IntegrityError):
        Watched.objects.bulk_create([Watched(name="x"), Watched(name="x")])
    assert Outbox.objects.count() == 1


def test_rolled_back_creation_leaves_the_instances_unknown(events: list[Event]):
    """A12"""
    rows = [Tag(name="a"), Tag(name="b")]
    with transaction.atomic():
        sid = connection.savepoint()
        assert sid is not None
        Tag.objects.bulk_create(rows)
        connection.savepoint_rollback(sid)
        Category.objects.bulk_create([Category(name="kept")])
    assert [label for _a, _k, label in _said(events)] == ["kept"]
    rows[0].save()
    assert events[-1].action == "create"


def test_masked_and_sealed_values_of_a_creation(events: list[Event]):
    """H1"""
    Person.objects.bulk_create(
        [Person(nickname="n", password="first-one", email="a@example.org", notes="text")] * 1
    )
    assert "first-one" not in repr(events)
    assert {"changes.email", "changes.notes"} <= set(events[0].sealed)


def test_suspended_and_unaudited_creations_pass_straight_on(events: list[Event]):
    with statements() as seen:
        Unlisted.objects.bulk_create([Unlisted(name="a")])
    assert len([kind for kind in kinds(seen) if kind in {"SELECT", "INSERT"}]) == 1
    kind = ContentType.objects.get_for_model(Tag)
    Permission.objects.bulk_create([Permission(name="x", codename="x", content_type=kind)])
    assert events == []


def test_async_creation_and_actor(events: list[Event]):
    """A10, B7"""
    user = User.objects.create(username="ada")
    with audit_log.acting(user):
        async_to_sync(Tag.objects.all().abulk_create)([Tag(name="a")])
    assert events[-1].action == "create"
    assert events[-1].actor is not None
    assert events[-1].actor.id == str(user.pk)


def test_database_that_returns_no_keys(events: list[Event], monkeypatch: pytest.MonkeyPatch):
    """B3: what is left of it on MySQL."""
    monkeypatch.setattr(type(connection.features), "can_return_rows_from_bulk_insert", False)
    monkeypatch.setattr(
        connection.features, "can_return_rows_from_bulk_insert", False, raising=False
    )
    Values.objects.bulk_create([Values(title="a", moment=Now()), Values(title="b")])
    assert [(e.target and e.target.id, (e.changes or {})["title"]) for e in events] == [
        (None, [None, "a"]),
        (None, [None, "b"]),
    ]
    assert "moment" not in (events[0].changes or {})


def test_many_created_rows_are_one_event(events: list[Event], two_rows: None):
    rows = [Product(name=f"p{n}", status="sale", price=Decimal(n)) for n in range(4)]
    Product.objects.bulk_create(rows)
    [event] = events
    assert event.target is not None
    assert (event.action, event.affected, event.target.id) == ("create", 4, None)
    bulk = (event.data or {})["bulk"]
    assert bulk["count"] == 4
    assert bulk["keys"] == [f"{rows[0].pk}-{rows[3].pk}"]
    assert "weight" not in bulk["fields"]
    assert (event.changes or {})["status"] == [None, "sale"]
    assert (event.changes or {})["name"] == [None, None]
    assert {m.path for m in event.redactions} == {"changes.name.1", "changes.price.1"} | {
        f"changes.{name}.1" for name in ("updated_at",) if (event.changes or {})[name][1] is None
    }
    rows[0].stock = 8
    rows[0].save()
    assert (events[-1].changes or {})["stock"] == [0, 8]


# --- conflicts


def test_ignored_conflicts_are_not_claimed(events: list[Event]):
    """B4: with keys of the caller's, and with other unique values."""
    Country.objects.create(code="de", name="Germany")
    kept = Watched.objects.create(name="w1", number=1)
    del events[:]
    Country.objects.bulk_create(
        [Country(code="de", name="other"), Country(code="fr", name="France")],
        ignore_conflicts=True,
    )
    assert [(action, key) for action, key, _label in _said(events)] == [("create", "fr")]
    assert events[0].changes == {"name": [None, "France"]}
    del events[:]
    Watched.objects.bulk_create(
        [Watched(name=f"w{n}", number=n * 10) for n in range(3)] + [Watched(name="w0", number=99)],
        ignore_conflicts=True,
    )
    rows = {row.name: row for row in Watched.objects.all()}
    assert rows["w1"].number == kept.number
    assert sorted(_said(events)) == sorted(
        ("create", str(rows[name].pk), name) for name in ("w0", "w2")
    )
    assert {e.outcome for e in events if e.target and e.target.label == "w2"} == {"success"}


def test_rows_that_nothing_tells_apart_are_tried_not_claimed(events: list[Event]):
    """B4"""
    Tag.objects.bulk_create([Tag(name="a"), Tag(name="b")], ignore_conflicts=True)
    [event] = events
    assert event.target is not None
    assert (event.action, event.outcome, event.target.id) == ("create", "unknown", None)
    assert event.affected is None
    assert event.data == {"bulk": {"fields": ["name"], "attempted": 2, "conflicts": "ignore"}}


def test_too_many_rows_with_conflicts_are_tried_not_claimed(events: list[Event], two_rows: None):
    """B4"""
    with statements() as seen:
        Country.objects.bulk_create(
            [Country(code=f"{n}", name="same") for n in range(3)], ignore_conflicts=True
        )
    assert not any("SELECT" in kind for kind in kinds(seen))
    assert [event.outcome for event in events] == ["unknown"]
    assert events[0].changes == {"name": [None, "same"]}


def _upsert(rows: list[Watched]) -> list[Watched]:
    by_target = connection.features.supports_update_conflicts_with_target
    return Watched.objects.bulk_create(
        rows,
        update_conflicts=True,
        update_fields=["number"],
        unique_fields=["name"] if by_target else None,
    )


def test_updated_conflicts_are_updates(events: list[Event]):
    """B4"""
    same = Watched.objects.create(name="same", number=5)
    other = Watched.objects.create(name="other", number=1, parent=same)
    del events[:]
    given = _upsert(
        [
            Watched(name="other", number=2),
            Watched(name="same", number=5),
            Watched(name="new", number=7),
        ]
    )
    new = Watched.objects.get(name="new")
    assert sorted(_said(events)) == [
        ("create", str(new.pk), "new"),
        ("update", str(other.pk), "other"),
    ]
    by_action = {event.action: event.changes for event in events}
    assert by_action["update"] == {"number": [1, 2]}
    assert by_action["create"] == {"name": [None, "new"], "number": [None, 7]}
    if not connection.features.can_return_rows_from_bulk_insert:
        return  # nor does Django give keys back
    del events[:]
    given[2].number = 8
    given[2].save()
    assert events[-1].changes == {"number": [7, 8]}


def test_statements_of_conflicts_do_not_grow(events: list[Event]):
    counts = []
    for size in (1, 10, 40):  # the first begins the transaction, and finds nothing
        with statements() as seen:
            _upsert([Watched(name=f"{n}", number=size) for n in range(size)])
        counts.append(len(seen))
    assert counts[1] == counts[2]


# --- bulk_update


def _products(count: int) -> list[Product]:
    with audit_log.suspended():
        for n in range(count):
            Product.objects.create(name=f"p{n}", stock=n)
        return list(Product.objects.order_by("pk"))


def test_bulk_update_tells_only_its_fields(events: list[Event]):
    """B5"""
    rows = _products(3)
    del events[:]
    for row in rows:
        row.stock, row.name = 2, "not written"
    assert Product.objects.bulk_update(rows, ["stock"]) == 3
    assert [(e.target and e.target.id, e.changes) for e in events] == [
        (str(rows[0].pk), {"stock": [0, 2]}),
        (str(rows[1].pk), {"stock": [1, 2]}),
    ]
    assert events[0].target is not None
    assert events[0].target.label == "p0"
    rows[0].save(update_fields=["name", "stock"])
    assert (events[-1].changes or {}) == {"name": ["p0", "not written"]}


@pytest.mark.parametrize("batch_size", [None, 2])
def test_statements_of_a_bulk_update_do_not_grow(events: list[Event], batch_size: int | None):
    """B5, B6: one SELECT for each UPDATE, and none for what was written."""
    rows = _products(8)
    for row in rows:
        row.stock += 1
    with statements() as seen:
        Product.objects.bulk_update(rows, ["stock"], batch_size=batch_size)
    assert kinds(seen).count("SELECT") == kinds(seen).count("UPDATE") == (4 if batch_size else 1)


def test_bulk_update_by_expressions_relations_and_missing_rows(events: list[Event]):
    """C6"""
    rows = _products(3)
    category = Category.objects.create(name="c")
    del events[:]
    rows[0].stock, rows[1].stock = F("stock") + 10, 9
    rows[0].category = rows[1].category = category
    gone = Product(pk=rows[2].pk + 1, name="gone")
    assert Product.objects.bulk_update((r for r in [*rows, gone]), ["category", "stock"]) == 3
    assert [e.changes for e in events] == [
        {"stock": [0, 10], "category": [None, category.pk]},
        {"stock": [1, 9], "category": [None, category.pk]},
    ]
    rows[1].stock = 8
    rows[1].save(update_fields=["stock"])
    assert events[-1].changes == {"stock": [9, 8]}


def test_bulk_update_that_is_refused_says_so_as_ever(events: list[Event]):
    rows = _products(1)
    del events[:]
    for fields, error in ([], ValueError), (["id"], ValueError), (["none"], Exception):
        with pytest.raises(error):
            Product.objects.bulk_update(rows, fields)
    assert Product.objects.bulk_update([], ["stock"]) == 0
    assert events == []


def test_order_of_related_rows_is_a_bulk_update(events: list[Event]):
    category = Category.objects.create(name="c")
    rows = [Step.objects.create(category=category, name=n) for n in "ab"]
    del events[:]
    category.set_step_order([rows[1].pk, rows[0].pk])  # type: ignore[attr-defined]
    assert [event.changes for event in events] == [{"_order": [1, 0]}, {"_order": [0, 1]}] or [
        event.changes for event in events
    ] == [{"_order": [0, 1]}, {"_order": [1, 0]}]


def test_many_updated_instances_are_one_event(events: list[Event], two_rows: None):
    rows = _products(4)
    del events[:]
    for row in rows:
        row.stock, row.status = row.stock + 5, "sale"
    with statements() as seen:
        Product.objects.bulk_update(rows, ["stock", "status"], batch_size=2)
    assert not any("SELECT" in kind for kind in kinds(seen))
    [event] = events
    assert event.target is not None
    assert (event.affected, event.target.id) == (4, None)
    assert event.data == {
        "bulk": {
            "count": 4,
            "fields": ["stock", "status"],
            "keys": [f"{rows[0].pk}-{rows[3].pk}"],
        }
    }
    assert event.changes == {"stock": [None, None], "status": [None, "sale"]}
    rows[0].stock = 1
    rows[0].save(update_fields=["stock"])
    assert events[-1].changes == {"stock": [5, 1]}
    del events[:]
    gone = Product(pk=rows[3].pk + 1, name="gone")
    assert Product.objects.bulk_update([*rows, gone], ["stock"]) == 4
    assert (events[0].data or {})["bulk"]["keys"] == [f"{rows[0].pk}-{rows[3].pk}"]


@committed
def test_bulk_update_that_is_rolled_back_leaves_old_values(events: list[Event]):
    """A12"""
    rows = _products(2)
    del events[:]
    with transaction.atomic():
        for row in rows:
            row.stock = 70
        Product.objects.bulk_update(rows, ["stock"])
        transaction.set_rollback(True)
    assert events == []
    rows[1].stock = 80
    rows[1].save()
    assert (events[-1].changes or {})["stock"] == [1, 80]


def test_suspended_bulk_update_is_noted(events: list[Event]):
    """A20"""
    rows = _products(1)
    del events[:]
    with audit_log.suspended():
        rows[0].stock = 7
        Product.objects.bulk_update(rows, ["stock"])
    rows[0].stock = 8
    rows[0].save(update_fields=["stock"])
    assert [e.changes for e in events if e.action == "update"] == [{"stock": [7, 8]}]
