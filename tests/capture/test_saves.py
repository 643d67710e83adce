from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core import serializers
from django.db import DatabaseError, IntegrityError, connection, connections, transaction
from django.db.models import F
from django.test.utils import CaptureQueriesContext

import audit_log
from audit_log import context
from audit_log.events import Event
from audit_log.exceptions import RecordingFailed
from audit_log.models import Outbox
from audit_log.recording import losses
from tests.capture.statements import OUTBOX, kinds, statements
from tests.shop.models import (
    Broken,
    Category,
    CheapProduct,
    Hidden,
    Place,
    Product,
    Rebuilt,
    Registered,
    Restaurant,
    Stamp,
    Step,
    Stock,
    Tag,
    Unlisted,
    Versioned,
    Watched,
    Wordy,
)

committed = pytest.mark.django_db(transaction=True)
pytestmark = pytest.mark.django_db

SAVED = ["BEGIN", "UPDATE", "INSERT", "COMMIT"]
SAVED_ON_POSTGRES = ["BEGIN", "UPDATE", "SAVEPOINT INSERT RELEASE COMMIT"]


def _saved() -> list[str]:
    return SAVED_ON_POSTGRES if connection.vendor == "postgresql" else SAVED


def _changes(event: Event, *but: str) -> dict[str, Any]:
    return {name: pair for name, pair in (event.changes or {}).items() if name not in but}


def test_create_is_one_event_with_every_field_that_is_set(events: list[Event]):
    """A1, C5: and nothing is said to have changed from null to null."""
    category = Category.objects.create(name="Books")
    product = Product.objects.create(name="Novel", price="9.9", category=category, stock=3)
    event = events[-1]
    assert [e.action for e in events] == ["create", "create"]
    assert event.target is not None
    assert (event.target.type, event.target.id, event.target.label) == (
        "shop.product",
        str(product.pk),
        "Novel",
    )
    assert _changes(event, "updated_at") == {
        "name": [None, "Novel"],
        "description": [None, ""],
        "price": [None, "9.90"],
        "stock": [None, 3],
        "active": [None, True],
        "status": [None, "draft"],
        "attributes": [None, {}],
        "category": [None, category.pk],
    }
    assert event.labels == {"status": [None, "Draft"], "category": [None, "Books"]}


def test_save_after_one_change_names_that_field_alone(events: list[Event]):
    """A2"""
    Category.objects.create(name="old")
    category = Category.objects.get()
    category.name = "new"
    category.save()
    assert events[-1].action == "update"
    assert events[-1].changes == {"name": ["old", "new"]}


def test_save_of_an_unchanged_row_is_no_event_and_no_statement_of_ours(events: list[Event]):
    """A3"""
    Product.objects.create(name="same", attributes={"a": [1, {"b": None}]}, price="1.10")
    product = Product.objects.get()
    del events[:]
    with (
        CaptureQueriesContext(
            connection,
        ) as queries,
        statements() as seen,
    ):
        product.save()
    assert events == []
    assert len(queries) == 1
    assert kinds(seen) == ["UPDATE"]


@committed
def test_save_of_an_unchanged_row_opens_no_transaction():
    """A3"""
    Category.objects.create(name="same")
    category = Category.objects.get()
    with statements() as seen:
        category.save()
    assert kinds(seen) == ["UPDATE"]


@committed
def test_unchanged_row_with_before_database_costs_one_query(events: list[Event]):
    """A3"""
    Stock.objects.create(name="same")
    stock = Stock.objects.get()
    del events[:]
    with transaction.atomic(), statements() as seen:
        stock.save()
    assert events == []
    # PostgreSQL returns the old values from the UPDATE.
    asked = [] if connection.vendor == "postgresql" else ["SELECT"]
    assert [kind for kind in kinds(seen) if kind != "BEGIN"] == [*asked, "UPDATE"]


@committed
def test_save_in_autocommit_is_one_transaction_with_the_outbox_in_it():
    category = Category.objects.create(name="old")
    category.name = "new"
    with CaptureQueriesContext(connection) as queries, statements() as seen:
        category.save()
    assert kinds(seen) == _saved()
    assert [query["sql"].split()[0] for query in queries] == ["UPDATE"]
    assert Outbox.objects.count() == 2


@committed
def test_ten_saves_in_a_transaction_are_one_insert_at_commit(events: list[Event]):
    """Nothing of ours before COMMIT, and one INSERT then."""
    category = Category.objects.create(name="old")
    del events[:]
    with statements() as seen:
        with transaction.atomic():
            for number in range(10):
                category.name = str(number)
                category.save()
            before = kinds(seen)
        after = kinds(seen[len(before) :])
    assert before == ["BEGIN", *["UPDATE"] * 10]
    assert " ".join(after) == " ".join(_saved()[2:])
    assert sum(OUTBOX in text for text in seen) == 1
    assert len(events) == 10


def test_update_fields_leaves_a_dirty_field_out_of_event_and_snapshot(events: list[Event]):
    """A4"""
    Stock.objects.create(name="n")
    Product.objects.create(name="a", description="b")
    product = Product.objects.get()
    product.name, product.description = "a2", "b2"
    product.save(update_fields=["name"])
    assert events[-1].changes == {"name": ["a", "a2"]}
    product.save()
    assert _changes(events[-1], "updated_at") == {"description": ["b", "b2"]}


def test_update_fields_takes_attribute_names_too(events: list[Event]):
    """A4"""
    first, second = (Category.objects.create(name=name) for name in "ab")
    product = Product.objects.create(name="p", category=first)
    product.category_id = second.pk
    product.save(update_fields=["category_id"])
    assert events[-1].changes == {"category": [first.pk, second.pk]}


def test_empty_update_fields_is_no_event(events: list[Event]):
    """A5"""
    category = Category.objects.create(name="a")
    del events[:]
    category.name = "b"
    category.save(update_fields=[])
    assert events == []
    category.save(update_fields=None)
    assert events[-1].changes == {"name": ["a", "b"]}


def test_get_or_create_and_update_or_create_are_recorded(events: list[Event]):
    """A10"""
    Category.objects.get_or_create(name="a")
    Category.objects.get_or_create(name="a")
    Category.objects.update_or_create(name="a", defaults={"name": "b"})
    Category.objects.update_or_create(name="b", defaults={"name": "b"})
    Category.objects.update_or_create(name="c")
    assert [(e.action, e.changes) for e in events] == [
        ("create", {"name": [None, "a"]}),
        ("update", {"name": ["a", "b"]}),
        ("create", {"name": [None, "c"]}),
    ]


@committed
def test_async_forms_are_recorded_as_the_sync_ones_are(events: list[Event]):
    """A10"""

    async def work() -> None:
        category = await Category.objects.acreate(name="a")
        category.name = "b"
        await category.asave()
        await category.arefresh_from_db()
        await Category.objects.aget_or_create(name="b")
        await Category.objects.aupdate_or_create(name="b", defaults={"name": "c"})
        await category.adelete()
        await sync_to_async(connections.close_all)()  # this thread's own

    asyncio.run(work())
    assert [(e.action, e.changes) for e in events] == [
        ("create", {"name": [None, "a"]}),
        ("update", {"name": ["a", "b"]}),
        ("update", {"name": ["b", "c"]}),
        ("delete", {"name": ["b", None]}),
    ]


@committed
def test_update_that_the_database_refuses_is_no_event(events: list[Event]):
    """A11"""
    Watched.objects.create(name="taken")
    watched = Watched.objects.create(name="free")
    del events[:]
    watched.name = "taken"
    with pytest.raises(IntegrityError):
        watched.save()
    assert events == []
    assert Outbox.objects.count() == 2
    watched.name, watched.number = "free", 1
    watched.save()
    assert events[-1].changes == {"number": [0, 1]}


@committed
def test_what_is_rolled_back_leaves_no_event_and_the_rest_stays(events: list[Event]):
    """A12, savepoint_partial"""
    with transaction.atomic():
        Category.objects.create(name="1")
        with contextlib.suppress(ValueError), transaction.atomic():
            Category.objects.create(name="2")
            with transaction.atomic():
                Category.objects.create(name="3")
            raise ValueError
        Category.objects.create(name="4")
    assert [e.changes for e in events] == [{"name": [None, "1"]}, {"name": [None, "4"]}]
    assert [row.event_count for row in Outbox.objects.all()] == [2]


def test_bookkeeping_is_never_audited(events: list[Event]):
    """A15: nor our own tables, so nothing recurses."""
    from django.contrib.admin.models import LogEntry
    from django.contrib.auth.models import User
    from django.contrib.contenttypes.models import ContentType
    from django.contrib.sessions.models import Session
    from django.utils import timezone

    user = User.objects.create(username="u")
    del events[:]
    LogEntry.objects.create(user=user, action_flag=1, object_repr="x")
    ContentType.objects.create(app_label="x", model="y").delete()
    Session.objects.create(session_key="k", session_data="d", expire_date=timezone.now()).delete()
    Outbox.objects.create(created_at=timezone.now(), event_count=0, payload=b"").delete()
    Unlisted.objects.create(name="x").delete()
    assert events == []


def test_loaddata_is_recorded_as_an_import_and_touches_nothing_that_is_not_there(
    events: list[Event],
):
    """A16, loaddata_raw: the stamp's passport comes after it."""
    rows = [
        {"model": "shop.stamp", "pk": 5, "fields": {"passport": "XX", "place": 99, "note": "n"}},
        {"model": "shop.restaurant", "pk": 7, "fields": {"stars": 3}},
        {"model": "shop.place", "pk": 7, "fields": {"name": "Inn"}},
    ]
    # As `loaddata` does it: MariaDB checks foreign keys at once, the others at COMMIT.
    with transaction.atomic(), connection.constraint_checks_disabled():
        for row in serializers.deserialize("python", rows):
            row.save()
        transaction.set_rollback(True)  # the stamp's keys refer to nothing
        assert [(e.action, e.source) for e in events] == [("create", "import")] * 3
        assert [e.changes for e in events] == [
            {"passport": [None, "XX"], "place": [None, 99], "note": [None, "n"]},
            {"stars": [None, 3]},
            {"name": [None, "Inn"]},
        ]
        assert events[0].target is not None
        assert events[0].target.label == "<Stamp: DoesNotExist>"


def test_row_that_the_default_manager_hides_is_audited(events: list[Event]):
    """A17"""
    Hidden.objects.create(name="n")
    hidden = Hidden.objects.get()
    hidden.deleted = True
    hidden.save()
    assert not Hidden.objects.exists()
    hidden = Hidden._base_manager.get()
    hidden.deleted = False
    hidden.save()
    assert [e.changes for e in events[1:]] == [
        {"deleted": [False, True]},
        {"deleted": [True, False]},
    ]


def test_suspended_captures_nothing_inside_and_all_after_an_exception(events: list[Event]):
    """A20, E4: and the old values of what follows are true."""
    category = Category.objects.create(name="1")
    product = Product.objects.create(name="p")
    tag = Tag.objects.create(name="t")
    del events[:]
    with contextlib.suppress(ValueError), audit_log.suspended():
        category.name = "2"
        category.save()
        product.tags.add(tag)
        product.tags.clear()
        tag.delete()
        Product.objects.filter(pk=product.pk).delete()
        raise ValueError
    assert [e.action for e in events] == ["audit_log.suspended"]
    category.name = "1"
    category.save()
    assert events[-1].changes == {"name": ["2", "1"]}


def test_suspended_is_of_one_thread(events: list[Event]):
    """A20"""
    seen: list[bool] = []
    with audit_log.suspended():
        thread = threading.Thread(target=lambda: seen.append(context.current().suspended))
        thread.start()
        thread.join()
        assert context.current().suspended
    assert seen == [False]


def test_expression_saved_under_suspension_is_never_an_old_value(events: list[Event]):
    """Django 6.1 says what became of it; before, nobody knows."""
    watched = Watched.objects.create(name="w", number=1)
    with audit_log.suspended():
        watched.number = F("number") + 1
        watched.save()
    known = isinstance(watched.number, int)
    watched.number = 9
    watched.save()
    assert events[-1].changes == {"number": [2 if known else None, 9]}
    assert [mark.rule for mark in events[-1].redactions] == ([] if known else ["not_loaded"])


def test_proxy_is_recorded_as_its_model_and_says_that_it_was_one(events: list[Event]):
    """D3"""
    proxy = CheapProduct.objects.create(name="p")
    proxy.stock = 1
    proxy.save()
    Product.objects.get().delete()
    targets = {(e.target.type, e.target.id) for e in events if e.target is not None}
    assert len(targets) == 1
    assert targets.pop()[0] == "shop.product"
    assert [e.data for e in events] == [{"proxy": "shop.cheapproduct"}] * 2 + [None]


def test_child_of_a_parent_table_is_one_event_with_both_tables_fields(events: list[Event]):
    """D4"""
    Restaurant.objects.create(name="Inn", stars=1)
    assert [e.changes for e in events] == [{"name": [None, "Inn"], "stars": [None, 1]}]
    restaurant = Restaurant.objects.get()
    restaurant.name = "Hotel"
    restaurant.save()
    assert len(events) == 2
    assert events[1].changes == {"name": ["Inn", "Hotel"]}
    place = Place.objects.get()
    place.name = "Ruin"
    place.save()
    assert events[2].target is not None
    assert events[2].target.type == "shop.place"


def test_abstract_registration_holds_for_its_child(events: list[Event]):
    """D5"""
    Registered.objects.create(name="n")
    assert [e.changes for e in events] == [{"name": [None, "n"]}]
    assert events[0].sealed == ()


def test_copy_by_a_cleared_key_is_a_create_in_the_same_transaction(events: list[Event]):
    Product.objects.create(name="original", stock=4)
    product = Product.objects.get()
    first = product.pk
    del events[:]
    with statements() as seen:
        product.pk = None
        product.save()
    assert [e.action for e in events] == ["create"]
    assert events[0].target is not None
    assert events[0].target.id == str(product.pk) != str(first)
    assert (events[0].changes or {})["stock"] == [None, 4]
    assert kinds(seen) == ["INSERT"]


def test_row_overwritten_under_another_key_is_not_taken_for_the_first(events: list[Event]):
    first, second = (Category.objects.create(name=name) for name in ("same", "other"))
    loaded = Category.objects.get(pk=first.pk)
    loaded.pk = second.pk
    loaded.save()
    assert events[-1].target is not None
    assert events[-1].target.id == str(second.pk)
    assert events[-1].changes == {"name": [None, "same"]}
    assert events[-1].redactions[0].rule == "not_loaded"


@committed
def test_row_that_vanished_is_a_create_again(events: list[Event]):
    """A7: unchanged, but inserted, for somebody else deleted it."""
    category = Category.objects.create(name="n")
    Category.objects.get().delete()
    category.save()
    assert [e.action for e in events] == ["create", "delete", "create"]
    assert Category.objects.get().pk == category.pk


@committed
def test_row_recreated_after_its_delete_is_one_transaction(events: list[Event]):
    """A7"""
    category = Category.objects.create(name="n")
    key = category.pk
    category.delete()
    category.pk = key
    with statements() as seen:
        category.save()
    assert [e.action for e in events] == ["create", "delete", "create"]
    if connection.vendor == "postgresql":  # the UPDATE took its batch along, in vain
        assert kinds(seen) == ["WITH", "BEGIN UPDATE", "INSERT", *_saved()[2:]]
    else:
        assert " ".join(kinds(seen)) == " ".join([*_saved()[:2], "INSERT", *_saved()[2:]])


def test_force_insert_of_a_loaded_row_is_refused_as_without_us(events: list[Event]):
    category = Category.objects.create(name="n")
    del events[:]
    with pytest.raises(IntegrityError), transaction.atomic():
        category.save(force_insert=True)
    with pytest.raises(DatabaseError), transaction.atomic():
        Category(pk=category.pk + 1, name="x").save(force_update=True)
    assert events == []


def test_explicit_key_of_an_existing_row_has_old_values_unknown(events: list[Event]):
    category = Category.objects.create(name="first")
    Category(pk=category.pk, name="second").save()
    assert (events[-1].action, events[-1].changes) == ("update", {"name": [None, "second"]})


def test_order_and_select_on_save_are_as_ever(events: list[Event]):
    category = Category.objects.create(name="c")
    steps = [Step.objects.create(category=category, name=name) for name in "ab"]
    assert [(e.changes or {})["_order"] for e in events[1:]] == [[None, 0], [None, 1]]
    del events[:]
    steps[0].name = "z"
    steps[0].save()
    steps[0].save()
    assert [e.changes for e in events] == [{"name": ["a", "z"]}]


def test_field_that_counts_the_saves_itself_is_recorded_each_time(events: list[Event]):
    """Its value is known only while the row is written."""
    versioned = Versioned.objects.create(name="n")
    versioned.save()
    versioned.save()
    seen = [(e.changes or {})["version"] for e in events]
    first = seen[0][1]
    assert seen == [[None, first], [first, first + 1], [first + 1, first + 2]]
    assert Versioned.objects.get().version == first + 2


def test_value_that_changes_in_place_is_seen_to_change(events: list[Event]):
    Wordy.objects.create(words=["one"])
    wordy = Wordy.objects.get()
    wordy.save()
    wordy.words.append("two")
    wordy.save()
    wordy.words.append("three")
    wordy.save()
    assert [(e.changes or {})["words"] for e in events] == [
        [None, ["one"]],
        [["one"], ["one", "two"]],
        [["one", "two"], ["one", "two", "three"]],
    ]


def test_from_db_that_does_not_call_ours_leaves_old_values_unknown(events: list[Event]):
    Rebuilt.objects.create(name="n")
    rebuilt = Rebuilt.objects.get()
    rebuilt.number = 1
    rebuilt.save()
    assert events[-1].changes == {"name": [None, "n"], "number": [None, 1]}
    assert {m.rule for m in events[-1].redactions} == {"not_loaded"}
    rebuilt.number = 2
    rebuilt.save()
    assert events[-1].changes == {"number": [1, 2]}


def test_str_that_raises_gives_a_placeholder(events: list[Event]):
    """C17"""
    Broken.objects.create(name="n").delete()
    assert [e.target and e.target.label for e in events] == ["<Broken: DoesNotExist>"] * 2


def test_str_that_queries_is_neither_counted_nor_remembered(events: list[Event]):
    from tests.shop.models import Country, Passport

    passport = Passport.objects.create(country=Country.objects.create(code="XX", name="X"))
    stamp = Stamp.objects.create(passport=passport, place=Place.objects.create(name="Rome"))
    stamp = Stamp.objects.get()
    stamp.note = "visa"
    with CaptureQueriesContext(connection) as queries:
        stamp.save()
    assert len(queries) == 1
    assert events[-1].target is not None
    assert events[-1].target.label == "visa in Rome"
    with CaptureQueriesContext(connection) as queries:
        assert stamp.place is not None
    assert len(queries) == 1


def test_str_whose_query_fails_does_not_end_the_transaction(
    events: list[Event], monkeypatch: pytest.MonkeyPatch
):
    """C17: on PostgreSQL a failed query would take the caller's change with it."""

    def query(self: Any) -> str:
        return str(Category.objects.extra(where=["no_such_column = 1"]).count())

    monkeypatch.setattr(Category, "__str__", query)
    with transaction.atomic():
        category = Category.objects.create(name="n")
        category.name = "m"
        category.save()
        category.delete()
        Category.objects.create(name="last")
    assert Category.objects.get().name == "last"
    label = events[-1].target and events[-1].target.label
    assert label in {"<Category: OperationalError>", "<Category: ProgrammingError>"}
    assert len(events) == 4


def test_capture_that_fails_lets_the_save_go_on_and_counts_it(
    events: list[Event], monkeypatch: pytest.MonkeyPatch
):
    """A14"""
    from audit_log.capture import changes

    category = Category.objects.create(name="1")
    del events[:]

    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    before = losses.counts().get("capture_failed", 0)
    with monkeypatch.context() as patch:
        patch.setattr(changes, "row_event", fail)
        category.name = "2"
        category.save()
    assert losses.counts()["capture_failed"] == before + 1
    assert events == []
    category.name = "3"
    category.save()
    assert events[-1].changes == {"name": ["1", "3"]}


@committed
def test_capture_that_fails_fails_the_save_where_that_is_asked_for(
    settings: Any, monkeypatch: pytest.MonkeyPatch
):
    """A14: and who catches the error cannot commit the change."""
    from audit_log.capture import changes

    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "ON_FAILURE": "block"}

    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(changes, "row_event", fail)
    with pytest.raises(RecordingFailed):
        Category.objects.create(name="alone")
    with transaction.atomic():
        with pytest.raises(RecordingFailed):
            Category.objects.create(name="caught")
        assert transaction.get_rollback()
    assert not Category.objects.exists()


def test_deferred_fields_cost_no_query_and_are_not_mentioned(events: list[Event]):
    """C18"""
    Product.objects.create(name="n", description="long")
    product = Product.objects.only("name").get()
    product.name = "m"
    with CaptureQueriesContext(connection) as queries, statements() as seen:
        product.save()
    assert len(queries) == len(seen) == 1
    assert events[-1].changes == {"name": ["n", "m"]}
    product = Product.objects.defer("description").get()
    product.description = "short"
    product.save()
    assert _changes(events[-1], "updated_at") == {"description": [None, "short"]}
    assert [m.rule for m in events[-1].redactions] == ["not_loaded"]


def test_deferred_field_that_was_loaded_later_has_its_old_value(events: list[Event]):
    """C18"""
    Product.objects.create(name="n", description="long")
    product = Product.objects.only("name").get()
    assert product.description == "long"
    product.description = "short"
    product.save()
    assert events[-1].changes == {"description": ["long", "short"]}


@pytest.mark.django_db(databases=["default", "other"])
def test_save_to_another_database_compares_with_the_row_there(events: list[Event]):
    """J4"""
    Category.objects.create(pk=70, name="here")
    Category.objects.using("other").create(pk=70, name="there")
    category = Category.objects.get(pk=70)
    category.save(using="other")
    assert events[-1].changes == {"name": ["there", "here"]}
    category.name = "there"
    category.save()
    assert events[-1].changes == {"name": ["here", "there"]}
    category.save(using="default")
    assert events[-1].changes == {"name": ["here", "there"]}
    assert len(events) == 5
