"""`QuerySet.update`: old and new values of each row, in statements that do not grow with them."""

from __future__ import annotations

import threading
from collections import defaultdict
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.core.exceptions import FieldDoesNotExist
from django.db import IntegrityError, NotSupportedError, connection, models, transaction
from django.db.models import Case, Count, F, Value, When
from django.db.models.functions import Concat, Now
from django.db.transaction import TransactionManagementError
from django.utils import timezone

import audit_log
from audit_log.capture import selections, updates
from audit_log.events import Event, Redaction
from audit_log.models import Outbox
from audit_log.recording import losses
from tests.capture.statements import OUTBOX, kinds, statements
from tests.shop.models import (
    Broken,
    Category,
    CheapProduct,
    Country,
    Passport,
    Person,
    Place,
    Product,
    Restaurant,
    Shelf,
    Stamp,
    Stock,
    Tag,
    Unlisted,
    Values,
    Watched,
)

committed = pytest.mark.django_db(transaction=True)
pytestmark = pytest.mark.django_db


def _products(count: int, **values: Any) -> list[Product]:
    with audit_log.suspended():
        return [Product.objects.create(name=f"p{n}", stock=n, **values) for n in range(count)]


def _updates(events: list[Event]) -> dict[str | None, dict[str, Any] | None]:
    found = [event for event in events if event.action == "update"]
    keyed = {event.target.id: event.changes for event in found if event.target}
    assert len(keyed) == len(found)
    return keyed


def test_update_is_one_event_for_each_row_that_differs(events: list[Event]):
    """B1"""
    rows = _products(4)
    assert Product.objects.filter(stock__gt=0).update(stock=3) == 3
    assert _updates(events) == {
        str(rows[1].pk): {"stock": [1, 3]},
        str(rows[2].pk): {"stock": [2, 3]},
    }
    event = events[-1]
    assert event.target is not None
    assert (event.target.label, event.source, event.outcome) == ("p2", "orm", "success")
    assert event.data is None


def test_rows_that_are_equal_already_give_no_event(events: list[Event]):
    """B1: as the database sees it."""
    rows = _products(2, price=Decimal("1.50"))
    assert Product.objects.update(price="1.5", status="draft") == 2
    assert _updates(events) == {}
    Product.objects.update(price=Decimal(2), active=True)
    assert _updates(events) == {str(row.pk): {"price": ["1.50", "2.00"]} for row in rows}


def test_expressions_are_read_back(events: list[Event]):
    """B2"""
    rows = _products(3)
    Product.objects.update(
        active=Case(When(stock=1, then=Value(False)), default=Value(True)),
        stock=F("stock") * 2 + 1,  # MariaDB works one out after the other
        name=Concat(F("name"), Value("!")),
    )
    assert _updates(events) == {
        str(rows[0].pk): {"name": ["p0", "p0!"], "stock": [0, 1]},
        str(rows[1].pk): {"name": ["p1", "p1!"], "stock": [1, 3], "active": [True, False]},
        str(rows[2].pk): {"name": ["p2", "p2!"], "stock": [2, 5]},
    }
    assert {event.target.label for event in events[-3:] if event.target} == {"p0!", "p1!", "p2!"}


def test_values_of_every_kind(events: list[Event]):
    """C6, C7: what the database made of them."""
    row = Values.objects.create(extra={"a": 1}, raw=b"x", amount=1, period=timedelta(1))
    Values.objects.update(
        extra={"a": [1, None]}, raw=b"xyz", amount=Decimal("1.005"), moment=Now(), size=2
    )
    changes = events[-1].changes or {}
    row.refresh_from_db()
    assert changes["extra"] == [{"a": 1}, {"a": [1, None]}]
    assert changes["raw"][1].endswith("(3 bytes)")
    assert changes.get("amount", [None, "1.00"])[1] == str(row.amount)
    assert changes["moment"][0] is None
    assert changes["moment"][1].startswith(f"{timezone.now():%Y-}")
    assert changes["size"] == [None, 2]
    assert (events[-1].labels or {})["size"] == [None, "Large"]
    Values.objects.update(extra=Value({"b": 2}, models.JSONField()))
    assert (events[-1].changes or {})["extra"] == [{"a": [1, None]}, {"b": 2}]


def test_filter_on_what_is_updated(events: list[Event]):
    _products(3)
    assert Product.objects.filter(stock__lt=2).update(stock=F("stock") + 5) == 2
    assert sorted((c or {})["stock"] for c in _updates(events).values()) == [[0, 5], [1, 6]]


@pytest.mark.parametrize(
    "chosen",
    [
        lambda rows: rows.filter(category__name="c"),
        lambda rows: rows.exclude(category__name="other").distinct(),
        lambda rows: rows.filter(tags__name="t").order_by("-stock", "category__name"),
        lambda rows: rows.annotate(n=Count("tags")).filter(n__gt=0),
        lambda rows: rows.annotate(half=F("stock") / 2).filter(half__gte=0, tags__name="t"),
        lambda rows: rows.annotate(more=F("stock") + 1).filter(more__gt=0).order_by("more"),
        lambda rows: rows.only("name").select_related("category").filter(stock__gte=0),
        lambda rows: rows.values("name").filter(stock__gte=0),
        lambda rows: rows.select_for_update().defer("stock").reverse(),
        lambda rows: rows.extra(where=["stock >= 0"]),
        lambda rows: rows.filter(pk__in=Product.objects.filter(stock__gte=0)),
    ],
    ids=[
        "joined",
        "distinct",
        "ordered by a relation",
        "aggregated",
        "annotated and joined",
        "ordered by an annotation",
        "partly loaded",
        "values",
        "locked",
        "extra",
        "subquery",
    ],
)
def test_query_sets_of_every_make(events: list[Event], chosen: Any):
    tag = Tag.objects.create(name="t")
    rows = _products(3, category=Category.objects.create(name="c"))
    for row in rows:
        row.tags.add(tag)
    with transaction.atomic():
        assert chosen(Product.objects.all()).update(active=False) == 3
    assert _updates(events) == {str(row.pk): {"active": [True, False]} for row in rows}
    assert set(Product.objects.values_list("active", flat=True)) == {False}


def test_query_sets_that_cannot_be_updated_say_so_as_ever(events: list[Event]):
    _products(2)
    with pytest.raises(TypeError, match="slice"):
        Product.objects.all()[:1].update(stock=7)
    with pytest.raises(NotSupportedError, match="union"):
        Product.objects.all().union(Product.objects.all()).update(stock=7)
    unknown: dict[str, Any] = {"nothing": 7}
    with pytest.raises(FieldDoesNotExist, match="nothing"):
        Product.objects.update(**unknown)
    assert Product.objects.none().update(stock=7) == 0
    assert _updates(events) == {}


def test_labels_of_choices_and_relations(events: list[Event]):
    """C9, C14"""
    _products(1)
    category = Category.objects.create(name="Books")
    Product.objects.update(status="sale", category=category)
    assert events[-1].changes == {"status": ["draft", "sale"], "category": [None, category.pk]}
    assert events[-1].labels == {"status": ["Draft", "On sale"], "category": [None, "Books"]}
    Product.objects.update(category_id=None)
    assert events[-1].changes == {"category": [category.pk, None]}


def test_reverse_relation_that_updates(events: list[Event]):
    rows = _products(2)
    category = Category.objects.create(name="c")
    category.product_set.add(*rows)
    assert _updates(events) == {str(row.pk): {"category": [None, category.pk]} for row in rows}
    category.product_set.clear()
    assert [(e.changes or {})["category"] for e in events[-2:]] == [[category.pk, None]] * 2


def test_masked_and_sealed_and_excluded_fields(events: list[Event]):
    """H1, H2"""
    person = Person.objects.create(nickname="n", password="first-one", email="a@example.org")
    Person.objects.update(
        password="second-one", email="b@example.org", noise="hush", card_number="4111111111111111"
    )
    event = events[-1]
    changes = event.changes or {}
    assert "-one" not in repr(event)
    assert changes["password"][0] is not None
    assert changes["card_number"][1].endswith("1111")
    assert "411111" not in repr(event)
    assert "noise" not in changes
    assert changes["email"] == ["a@example.org", "b@example.org"]
    assert "changes.email" in event.sealed
    assert event.subject == f"shop.person:{person.pk}"
    del events[:]
    Person.objects.update(noise="quiet")
    assert events == []


def test_incidental_fields_alone_are_no_event(events: list[Event]):
    """C3"""
    _products(1)
    Product.objects.update(updated_at=timezone.now())
    assert events[1:] == []
    Product.objects.update(updated_at=timezone.now(), stock=9)
    assert set(events[-1].changes or {}) == {"updated_at", "stock"}


def test_inherited_models_and_proxies(events: list[Event]):
    """D3, D4"""
    first = Restaurant.objects.create(name="a", stars=1)
    Restaurant.objects.create(name="b", stars=2)
    del events[:]
    assert Restaurant.objects.filter(name="a").update(name="A", stars=3) == 1
    assert _updates(events) == {str(first.pk): {"name": ["a", "A"], "stars": [1, 3]}}
    del events[:]
    assert Restaurant.objects.update(name="same") == 2
    changes = [(event.changes or {})["name"] for event in events]
    assert sorted(changes) == [["A", "same"], ["b", "same"]]
    Place.objects.filter(pk=first.pk).update(name="x")
    assert events[-1].target is not None
    assert (events[-1].target.type, events[-1].target.id) == ("shop.place", str(first.pk))
    _products(1)
    CheapProduct.objects.update(stock=8)
    assert events[-1].data == {"proxy": "shop.cheapproduct"}


def test_update_of_the_key_tells_both(events: list[Event]):
    Country.objects.create(code="de", name="Germany")
    Country.objects.filter(code="de").update(code="DE", name=Concat(F("name"), Value("!")))
    event = events[-1]
    assert event.target is not None
    assert event.target.id == "de"
    assert event.data == {"key": ["de", "DE"]}
    assert event.changes == {"name": ["Germany", "Germany!"]}
    Country.objects.update(code=Concat(F("code"), Value("1")))
    assert events[-1].data == {"key": ["DE", None]}


def test_composite_and_related_keys(events: list[Event]):
    """D1, D2"""
    Shelf.objects.create(room="a", number=1)
    Shelf.objects.update(label="x")
    assert events[-1].target is not None
    assert (events[-1].target.id, events[-1].changes) == ('["a", 1]', {"label": ["", "x"]})
    Shelf.objects.filter(number=1).update(number=2, label=Concat(F("label"), Value("y")))
    assert events[-1].data == {"key": ['["a", 1]', '["a", 2]']}
    assert events[-1].changes == {"label": ["x", "xy"]}
    country = Country.objects.create(code="fr", name="France")
    Passport.objects.create(country=country)
    Passport.objects.filter(country__name="France").update(pages=F("pages") + 1)
    assert events[-1].changes == {"pages": [32, 33]}


def test_object_that_cannot_print_itself(events: list[Event]):
    """C17"""
    Broken.objects.create(name="a")
    assert Broken.objects.update(name="b") == 1
    assert events[-1].changes == {"name": ["a", "b"]}


def test_models_that_are_not_audited_and_suspension_cost_nothing(events: list[Event]):
    """A20"""
    Unlisted.objects.create(name="a")
    _products(1)
    del events[:]
    with statements() as seen:
        Unlisted.objects.update(name="b")
        with audit_log.suspended("test"):
            Product.objects.update(stock=7)
    assert [kind for kind in kinds(seen) if "SELECT" in kind] == []
    assert [event.action for event in events] == ["audit_log.suspended"]


def test_statements_do_not_grow_with_the_rows(events: list[Event]):
    """B1: nor with what their labels load."""
    country = Country.objects.create(code="de", name="Germany")
    passport = Passport.objects.create(country=country)
    counts = []
    for _ in range(2):
        for n in range(20):
            place = Place.objects.create(name=f"place {n}")
            Stamp.objects.create(passport=passport, place=place, note="a")
        with statements() as seen:
            Stamp.objects.update(note=Concat(F("note"), Value("b")))
        counts.append(len(seen))
    assert counts[0] == counts[1]
    assert events[-1].target is not None
    assert events[-1].target.label == "ab in place 19"


def test_async_update_is_captured(events: list[Event]):
    """A10"""
    _products(2)
    assert async_to_sync(Product.objects.all().aupdate)(stock=50) == 2
    assert len(_updates(events)) == 2


@committed
def test_update_in_autocommit_is_one_transaction_with_the_outbox_in_it():
    Tag.objects.create(name="t")
    Outbox.objects.all().delete()
    with statements() as seen:
        Tag.objects.update(name="u")
    assert kinds(seen)[0].split()[0] == "BEGIN"
    assert "COMMIT" in kinds(seen)[-1]
    assert sum("INSERT" in kind for kind in kinds(seen)) == 1
    assert Outbox.objects.count() == 1
    assert any(OUTBOX in text for text in seen)


@committed
def test_update_that_fails_leaves_nothing(events: list[Event]):
    """A11"""
    for name in "ab":
        Watched.objects.create(name=name)
    del events[:]
    with pytest.raises(IntegrityError):
        Watched.objects.update(name="same")
    assert events == []
    assert connection.get_autocommit()
    assert not connection.in_atomic_block
    with transaction.atomic():
        with pytest.raises(IntegrityError), transaction.atomic():
            Watched.objects.update(name="same")
        Watched.objects.update(number=1)
    assert len(_updates(events)) == 2


def test_rolled_back_update_is_no_event_and_leaves_the_rows_unknown(events: list[Event]):
    """A12"""
    _products(2)
    with transaction.atomic():
        Product.objects.update(stock=50)
        inside = Product.objects.all()[0]
        transaction.set_rollback(True)
    assert _updates(events) == {}
    inside.stock = 60
    inside.save()
    assert (events[-1].changes or {})["stock"] == [None, 60]
    assert Redaction("changes.stock.0", "not_loaded") in events[-1].redactions


def test_actor_flows_into_every_event(events: list[Event]):
    """B7"""
    _products(2)
    user = User.objects.create(username="ada")
    with audit_log.acting(user, reason="ticket 7"):
        Product.objects.update(stock=50)
    assert {(e.actor and e.actor.id, e.reason) for e in events[-2:]} == {(str(user.pk), "ticket 7")}


def test_old_values_come_from_the_database(events: list[Event]):
    stock = Stock.objects.create(name="s", amount=1)
    with audit_log.suspended():
        Stock.objects.update(amount=2)
    Stock.objects.filter(pk=stock.pk).update(amount=3)
    assert events[-1].changes == {"amount": [2, 3]}


def test_capture_that_fails_leaves_the_update_alone(
    events: list[Event], monkeypatch: pytest.MonkeyPatch
):
    """A14: and says that rows changed, which it cannot name."""
    _products(2)
    monkeypatch.setattr(
        updates, "rows_of", lambda *_, **__: Product.objects.extra(where=["nonsense"])
    )
    failed = losses.counts().get("capture_failed", 0)
    with transaction.atomic():
        assert Product.objects.update(stock=7) == 2
        assert Product.objects.filter(stock=7).count() == 2
    assert losses.counts()["capture_failed"] == failed + 1
    assert events[-1].data == {"bulk": {"count": 2, "fields": ["stock"]}}
    assert events[-1].changes == {"stock": [None, 7]}


@committed
@pytest.mark.parametrize("on_failure", ["allow", "block"])
def test_block_that_is_to_be_rolled_back_refuses_the_caller_and_nothing_is_lost(
    events: list[Event], settings: Any, on_failure: str
):
    """Our own SELECT is refused first, with the error that the UPDATE would have met."""
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "ON_FAILURE": on_failure}
    Watched.objects.create(name="w")
    lost = losses.counts()
    with transaction.atomic():
        transaction.set_rollback(True)
        with pytest.raises(TransactionManagementError):
            Watched.objects.update(number=1)
        with pytest.raises(TransactionManagementError):
            Watched.objects.all()._raw_delete("default")
    assert losses.counts() == lost
    assert len(events) == 1


@committed
def test_rows_that_match_only_in_between_are_counted_and_not_named(
    events: list[Event], monkeypatch: pytest.MonkeyPatch
):
    """Another connection commits a row after ours were read."""
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time.")
    rows = _products(2)
    find = updates.Update.find

    def find_and_wait(self: Any, *, queryset: Any) -> None:
        find(self, queryset=queryset)
        other = threading.Thread(target=_create_elsewhere)
        other.start()
        other.join()

    monkeypatch.setattr(updates.Update, "find", find_and_wait)
    if connection.vendor == "mysql":
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
    assert Product.objects.filter(active=True).update(stock=1, description=F("name")) == 3
    told = _updates(events)
    assert told.pop(None) == {"stock": [None, 1], "description": [None, None]}
    assert told == {
        str(rows[0].pk): {"stock": [0, 1], "description": ["", "p0"]},
        str(rows[1].pk): {"description": ["", "p1"]},
    }
    assert events[-1].data == {"bulk": {"count": 1, "fields": ["description", "stock"]}}
    assert events[-1].affected == 1


def _create_elsewhere() -> None:
    try:
        with audit_log.suspended():
            Product.objects.create(name="late", stock=9)
    finally:
        connection.close()


@pytest.fixture
def two_rows(settings: Any) -> None:
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "BULK_ROWS": 2}


def test_statement_over_more_rows_is_one_event(events: list[Event], two_rows: None):
    """With the keys, the fields, and the values that are the same for all."""
    rows = _products(5)
    rows[3].delete()
    del events[:]
    with statements() as seen:
        count = Product.objects.order_by("-stock").update(
            status="sale", stock=F("stock") + 1, description="secret plan", category=None
        )
    assert count == 4
    assert sum("SELECT" in kind for kind in kinds(seen)) == 2
    [event] = events
    assert event.target is not None
    assert (event.action, event.outcome, event.affected) == ("update", "success", 4)
    assert (event.target.type, event.target.id, event.target.label) == ("shop.product", None, None)
    first = rows[0].pk
    assert event.data == {
        "bulk": {
            "count": 4,
            "fields": ["description", "stock", "status", "category"],
            "keys": [f"{first}-{first + 2}", str(first + 4)],
        }
    }
    assert event.changes == {
        "description": [None, "secret plan"],
        "stock": [None, None],
        "status": [None, "sale"],
        "category": [None, None],
    }
    assert event.sealed == ("changes.description",)
    assert {(mark.path, mark.rule) for mark in event.redactions} == {
        ("changes.description.0", "not_loaded"),
        ("changes.stock.0", "not_loaded"),
        ("changes.stock.1", "not_loaded"),
        ("changes.status.0", "not_loaded"),
        ("changes.category.0", "not_loaded"),
    }


@committed
def test_many_rows_in_autocommit(events: list[Event], two_rows: None):
    rows = _products(3)
    del events[:]
    Product.objects.update(stock=50)
    keys = [f"{rows[0].pk}-{rows[2].pk}"]
    Product.objects.filter(stock=50).delete()
    Stock.objects.bulk_create([Stock(name=f"s{n}") for n in range(3)])
    Stock.objects.all().delete()
    assert [(e.action, e.affected) for e in events] == [
        ("update", 3),
        ("delete", 3),
        ("create", 3),
        ("delete", 3),
    ]
    assert [(e.data or {})["bulk"]["keys"] for e in events[:2]] == [keys, keys]


def test_as_many_rows_as_allowed_are_an_event_each(events: list[Event], two_rows: None):
    _products(2)
    Product.objects.update(stock=9)
    assert len(_updates(events)) == 2


def test_masked_values_stay_masked_in_one_event(events: list[Event], two_rows: None):
    """H1"""
    for n in range(3):
        Person.objects.create(nickname=f"n{n}")
    del events[:]
    Person.objects.update(password="first-one", card_number="4111111111111111", noise="hush")
    assert "first-one" not in repr(events)
    assert "411111" not in repr(events)
    assert set(events[0].changes or {}) == {"password", "card_number"}


def test_row_loaded_after_many_were_written_depends_on_them(events: list[Event], two_rows: None):
    """A12"""
    _products(3)
    with transaction.atomic():
        Product.objects.update(stock=50)
        inside = Product.objects.all()[0]
        transaction.set_rollback(True)
    assert events[1:] == []
    inside.stock = 60
    inside.save()
    assert (events[-1].changes or {})["stock"] == [None, 60]


def test_a_column_that_labels_say_is_loaded_for_all_rows_at_once(
    events: list[Event], monkeypatch: pytest.MonkeyPatch
):
    """Times and JSON are not read with the rows, until a label asks for them."""
    monkeypatch.setattr(Product, "__str__", lambda self: f"{self.attributes} {self.name}")
    monkeypatch.setattr(selections, "_spoken", defaultdict(set))
    _products(20, attributes={"a": [1]})
    asked = []
    for n in (1, 2):
        with statements() as seen:
            Product.objects.update(stock=100 * n)
        asked.append(sum("SELECT" in kind for kind in kinds(seen)))
    first, later = asked
    assert first == later + 1
    labels = [event.target.label for event in events if event.target and event.action == "update"]
    assert labels == [f"{{'a': [1]}} p{n}" for n in range(20)] * 2


def test_a_label_may_read_its_row_again(events: list[Event], monkeypatch: pytest.MonkeyPatch):
    def told(self: Product) -> str:
        self.refresh_from_db(fields=["name"])
        return f"{self.name} {self.attributes}"

    monkeypatch.setattr(Product, "__str__", told)
    _products(2, attributes={"a": 1})
    Product.objects.update(stock=100)
    assert [event.target.label for event in events if event.target] == [
        "p0 {'a': 1}",
        "p1 {'a': 1}",
    ]
