"""Models of every shape: composite keys, inheritance, proxies, generic relations, hidden rows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
import pytest
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.core.files.base import ContentFile
from django.core.management import call_command
from django.db import models
from django.test.utils import isolate_apps

import audit_log
from audit_log import context, registry, signals, testing
from audit_log.capture import changes
from audit_log.capture.plans import plan_of
from audit_log.events import Event
from audit_log.models import Record
from audit_log.recording import losses
from audit_log.recording.people import actor_of
from tests.shop.models import (
    Category,
    CheapProduct,
    Country,
    Hidden,
    Passport,
    Person,
    Place,
    Product,
    Registered,
    Remark,
    Restaurant,
    Review,
    Shelf,
    Stamp,
    Tag,
    Thing,
    Values,
)

pytestmark = pytest.mark.django_db


def _said(events: list[Event]) -> list[tuple[Any, ...]]:
    return [(e.action, e.target and e.target.type, e.target and e.target.id) for e in events]


# --- D: keys and shapes ---


def test_composite_key_is_one_text_through_the_life_of_a_row(events: list[Event]):
    """D2"""
    shelf = Shelf.objects.create(room="a/b", number=1, label="x")
    key = '["a/b", 1]'
    assert json.loads(key) == list(shelf.pk)
    shelf.label = "y"
    shelf.save()
    Shelf.objects.filter(pk=("a/b", 1)).update(label="z")
    Shelf.objects.bulk_create([Shelf(room="c", number=2)])
    again = Shelf.objects.get(pk=("a/b", 1))
    testing.relay()
    assert [row.action for row in audit_log.history(again)] == ["update", "update", "create"]
    again.delete()
    assert _said(events) == [
        ("create", "shop.shelf", key),
        ("update", "shop.shelf", key),
        ("update", "shop.shelf", key),
        ("create", "shop.shelf", '["c", 2]'),
        ("delete", "shop.shelf", key),
    ]
    assert [e.changes for e in events[:3]] == [
        {"label": [None, "x"]},
        {"label": ["x", "y"]},
        {"label": ["y", "z"]},
    ]


def test_history_is_the_same_from_a_proxy_and_its_model(events: list[Event]):
    """D3"""
    cheap = CheapProduct.objects.create(name="c")
    product = Product.objects.get(pk=cheap.pk)
    product.name = "d"
    product.save()
    CheapProduct.objects.filter(pk=cheap.pk).update(stock=3)
    testing.relay()
    for each in (cheap, product):
        assert [row.action for row in audit_log.history(each)] == ["update", "update", "create"]
    assert {event.target.type for event in events if event.target} == {"shop.product"}
    assert [(event.data or {}).get("proxy") for event in events] == [
        "shop.cheapproduct",
        None,
        "shop.cheapproduct",
    ]


@pytest.mark.parametrize("by", ["save", "update", "bulk_update"])
def test_child_row_that_changes_in_both_tables_is_one_event(by: str, events: list[Event]):
    """D4"""
    Restaurant.objects.create(name="Inn", stars=1)
    row = Restaurant.objects.get()
    del events[:]
    row.name, row.stars = "Bar", 2
    if by == "save":
        row.save()
    elif by == "update":
        Restaurant.objects.update(name="Bar", stars=2)
    else:
        Restaurant.objects.bulk_update([row], ["name", "stars"])
    [event] = events
    assert event.changes == {"name": ["Inn", "Bar"], "stars": [1, 2]}
    assert _said(events) == [("update", "shop.restaurant", str(row.pk))]


def test_parent_of_a_child_that_is_saved_alone_is_an_event_of_the_parent(events: list[Event]):
    """D4"""
    pk = Restaurant.objects.create(name="Inn", stars=1).pk
    del events[:]
    place = Place.objects.get(pk=pk)
    place.name = "Bar"
    place.save()
    assert _said(events) == [("update", "shop.place", str(pk))]
    assert events[0].changes == {"name": ["Inn", "Bar"]}


def test_child_made_of_a_parent_that_is_there_is_one_creation(events: list[Event]):
    """D4"""
    place = Place.objects.create(name="Inn")
    del events[:]
    Restaurant(place_ptr=place, name="Inn", stars=3).save()
    assert [(action, kind) for action, kind, _ in _said(events)] == [("create", "shop.restaurant")]


def test_abstract_registration_is_one_event_a_save(events: list[Event]):
    """D5"""
    row = Registered.objects.create(name="a")
    row.name = "b"
    row.save()
    assert _said(events) == [
        ("create", "shop.registered", str(row.pk)),
        ("update", "shop.registered", str(row.pk)),
    ]
    assert {event.sealed for event in events} == {()}


def test_row_that_turns_into_its_child_class_can_be_saved(events: list[Event]):
    """D6: as polymorphic libraries do, which load parents and change their class."""
    pk = Restaurant.objects.create(name="Inn", stars=1).pk
    del events[:]
    place: Any = Place.objects.get(pk=pk)
    place.__class__ = Restaurant
    place.place_ptr_id = pk
    place.stars, place.name = 2, "Bar"
    place.save()
    [event] = events
    assert (event.changes or {})["name"] == ["Inn", "Bar"]
    assert (event.changes or {})["stars"][1] == 2
    child: Any = Restaurant.objects.get(pk=pk)
    child.__class__ = Place
    child.name = "Pub"
    child.save()
    assert events[-1].changes == {"name": ["Bar", "Pub"]}


def test_user_model_of_the_project_is_named_by_its_username_field():
    """D7: it has neither username nor e-mail."""

    class Badge:
        is_authenticated = True
        pk = 17
        USERNAME_FIELD = "number"
        number = "B-17"

        def get_username(self) -> str:
            return self.number

    actor = actor_of(Badge())
    assert (actor.type, actor.id, actor.label, actor.email) == ("user", "17", "B-17", None)


# --- E: relations ---


def test_change_of_a_generic_foreign_key_is_told_once(events: list[Event]):
    """E5: type and id, in one event."""
    first, other = Thing.objects.create(name="a"), Category.objects.create(name="b")
    remark = Remark.objects.create(about=first, text="t")
    del events[:]
    remark.about = other
    remark.save()
    [event] = events
    types = [ContentType.objects.get_for_model(model).pk for model in (Thing, Category)]
    assert event.changes == {"content_type": types, "object_id": [first.pk, other.pk]} or (
        first.pk == other.pk and event.changes == {"content_type": types}
    )


def test_member_added_through_a_generic_relation_is_one_event(events: list[Event]):
    """E5"""
    thing = Thing.objects.create(name="a")
    del events[:]
    remark = Remark(text="t")
    thing.remarks.add(remark, bulk=False)
    thing.remarks.create(text="u")
    assert [(action, kind) for action, kind, _ in _said(events)] == [
        ("create", "shop.remark"),
        ("create", "shop.remark"),
    ]


# --- A: fixtures, hidden rows, suspension, signals ---


def _load(folder: Path, rows: list[dict[str, Any]]) -> None:
    file = folder / "rows.json"
    file.write_text(json.dumps(rows))
    call_command("loaddata", str(file), verbosity=0)


def test_fixture_that_changes_rows_and_members_is_an_import(events: list[Event], tmp_path: Path):
    """A16: `loaddata` itself, over rows that are there, in any order."""
    tag = Tag.objects.create(name="t")
    product = Product.objects.create(name="old")
    del events[:]
    fields = {"name": "new", "category": 4711, "tags": [tag.pk], "updated_at": "2026-01-01T00:00Z"}
    _load(
        tmp_path,
        [
            {"model": "shop.product", "pk": product.pk, "fields": fields},
            {"model": "shop.category", "pk": 4711, "fields": {"name": "later"}},
        ],
    )
    # Before 6.1, Django does not say that members come from a fixture.
    members = "import" if django.VERSION >= (6, 1) else "command"
    *changes, command = events
    assert [event.source for event in changes] == ["import", members, "import"]
    assert (command.action, command.source) == ("command", "command")
    assert _said(changes) == [
        ("update", "shop.product", str(product.pk)),
        ("m2m.add", "shop.product", str(product.pk)),
        ("create", "shop.category", "4711"),
    ]
    assert (events[0].changes or {})["name"][1] == "new"
    assert (events[0].changes or {})["category"][1] == 4711


def test_fixture_with_generic_and_foreign_keys_to_what_is_not_there_yet(
    events: list[Event], tmp_path: Path
):
    """A16: labels are not looked for where there is nothing."""
    kind = ContentType.objects.get_for_model(Thing)
    _load(
        tmp_path,
        [
            {
                "model": "shop.remark",
                "pk": 1,
                "fields": {"content_type": kind.pk, "object_id": 77, "text": "t"},
            },
            {"model": "shop.stamp", "pk": 1, "fields": {"passport": "XX", "note": "n"}},
            {"model": "shop.passport", "pk": "XX", "fields": {"pages": 8}},
            {"model": "shop.country", "pk": "XX", "fields": {"name": "X"}},
            {"model": "shop.thing", "pk": 77, "fields": {"name": "thing"}},
        ],
    )
    assert [action for action, _, _ in _said(events)] == ["create"] * 5 + ["command"]
    assert Stamp.objects.get().passport == Passport.objects.get(pk="XX")
    assert Country.objects.get().name == "X"


def test_hidden_row_is_seen_through_every_way_to_write_it(events: list[Event]):
    """A17: restored by a query set, saved by name, deleted."""
    pk = Hidden.objects.create(name="n", deleted=True).pk
    del events[:]
    Hidden._base_manager.filter(pk=pk).update(name="m")
    row = Hidden._base_manager.get(pk=pk)
    row.name = "o"
    row.save(update_fields=["name"])
    row.refresh_from_db(from_queryset=Hidden._base_manager.all())
    row.deleted = False
    row.save()
    row.deleted = True
    row.save()
    row.delete()
    assert [event.action for event in events] == ["update"] * 4 + ["delete"]
    assert [event.changes for event in events[:4]] == [
        {"name": ["n", "m"]},
        {"name": ["m", "o"]},
        {"deleted": [True, False]},
        {"deleted": [False, True]},
    ]
    assert events[-1].changes == {"name": ["o", None], "deleted": [True, None]}


def test_suspended_is_of_one_task():
    """A20: and of those it starts, which copy its context."""
    seen: dict[str, bool] = {}

    async def look(name: str) -> None:
        await asyncio.sleep(0)
        seen[name] = context.current().suspended

    async def inside(entered: asyncio.Event, over: asyncio.Event) -> None:
        with context.changed(suspended=True):
            entered.set()
            await asyncio.create_task(look("child"))
            await over.wait()
        await look("after")

    async def run() -> None:
        entered, over = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(inside(entered, over))
        await entered.wait()
        await look("beside")
        over.set()
        await task

    asyncio.run(run())
    assert seen == {"child": True, "beside": False, "after": False}


def test_nested_suspension_ends_with_the_outermost(events: list[Event]):
    """A20: recorded once, and over after the inner block has failed."""
    with audit_log.suspended("outer"):
        with pytest.raises(ZeroDivisionError), audit_log.suspended("inner"):
            raise ZeroDivisionError
        Category.objects.create(name="still quiet")
    Category.objects.create(name="heard")
    assert [(event.action, event.reason) for event in events] == [
        ("audit_log.suspended", "outer"),
        ("create", None),
    ]


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Event, str]]]:
    monkeypatch.setattr(losses, "_warned", {})
    found: list[tuple[Event, str]] = []

    def hear(sender: Any, event: Event, using: str, **_: Any) -> None:
        found.append((event, using))
        if (event.changes or {}).get("name") == [None, "boom"]:
            raise ZeroDivisionError

    signals.captured.connect(hear)
    try:
        yield found
    finally:
        signals.captured.disconnect(hear)


def test_receiver_of_captured_gets_the_event_with_old_and_new_values(
    heard: list[tuple[Event, str]],
):
    """A21"""
    category = Category.objects.create(name="a")
    category.name = "b"
    category.save()
    category.delete()
    assert [(event.action, using) for event, using in heard] == [
        ("create", "default"),
        ("update", "default"),
        ("delete", "default"),
    ]
    assert [event.changes for event, _ in heard] == [
        {"name": [None, "a"]},
        {"name": ["a", "b"]},
        {"name": ["b", None]},
    ]


def test_receiver_of_captured_that_raises_is_counted_and_not_felt(
    heard: list[tuple[Event, str]], events: list[Event]
):
    """A21: others hear it, the row is written, the event is recorded."""
    before = losses.counts().get("receiver_failed", 0)
    Category.objects.create(name="boom")
    assert Category.objects.filter(name="boom").exists()
    assert [event.action for event in events] == ["create"]
    assert losses.counts()["receiver_failed"] == before + 1


@pytest.fixture
def failures(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, Any]]]:
    found: list[tuple[str, Any]] = []

    def hear(sender: Any, reason: str, error: Any, **_: Any) -> None:
        found.append((reason, error))
        raise ZeroDivisionError

    signals.failed.connect(hear)
    try:
        yield found
    finally:
        signals.failed.disconnect(hear)


def test_receiver_of_failed_gets_the_error_of_each_event_that_is_lost(
    events: list[Event], failures: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
):
    """A21: not felt by the caller either, whatever the receiver does."""
    rows = [Category.objects.create(name=name) for name in "ab"]
    before = losses.counts().get("receiver_failed", 0)
    error = RuntimeError("no event today")

    def broken(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(changes, "row_event", broken)
    for row in rows:
        row.delete()
    assert not Category.objects.exists()
    assert failures == [("capture_failed", error)] * 2
    assert losses.counts()["receiver_failed"] == before + 2
    assert {event.action for event in events} == {"create"}


def test_all_models_leaves_out_what_is_not_the_project_s_to_write():
    """A19: tables that Django does not manage, and those that fields make for themselves."""
    with isolate_apps("tests.shop"):

        class View(models.Model):
            name = models.CharField(max_length=9)

            class Meta:
                app_label = "shop"
                managed = False

            def __str__(self) -> str:
                return self.name

    View._meta.apps = Category._meta.apps
    assert registry.decide(View).rule == "unmanaged"
    assert registry.decide(Product.tags.through).rule == "through"
    assert plan_of(Product.tags.through) is None
    assert plan_of(Product) is not None


# --- C: long text, labels that outlive what they name, files, deferred fields ---


def test_long_text_is_stored_whole(events: list[Event]):
    """C13: `RecordAdmin.value_length` shortens what is shown; stored is what was written."""
    long = "word " * 2_000
    Product.objects.create(name="p", description=long)
    assert (events[0].changes or {})["description"] == [None, long]
    testing.relay()
    record = Record.objects.get(action="create")
    assert audit_log.contents(record)["changes"]["description"] == [None, long]


def test_label_of_a_relation_outlives_what_it_names(events: list[Event]):
    """C15"""
    author = User.objects.create_user("anna")
    product = Product.objects.create(name="p")
    review = Review.objects.create(product=product, author=author, text="t")
    author.delete()
    review.refresh_from_db()
    assert review.author is None
    testing.relay()
    record = Record.objects.get(action="create", target_type="shop.review")
    assert audit_log.contents(record)["labels"]["author"] == [None, "anna"]


def test_file_of_a_deleted_row_is_its_name_and_is_not_opened(
    events: list[Event], settings: Any, tmp_path: Path
):
    """C10: nor when it is gone from the storage."""
    settings.MEDIA_ROOT = str(tmp_path)
    row = Values.objects.create()
    row.document.save("a.txt", ContentFile(b"content"), save=False)
    row.title = "with a file"
    row.save()
    assert (events[-1].changes or {})["document"] == ["", "documents/a.txt"]
    (tmp_path / "documents" / "a.txt").unlink()
    row = Values.objects.get()
    row.document = "elsewhere/b.txt"
    row.save()
    assert (events[-1].changes or {})["document"] == ["documents/a.txt", "elsewhere/b.txt"]
    Values.objects.update(document="")
    assert (events[-1].changes or {})["document"] == ["elsewhere/b.txt", ""]
    Values.objects.all().delete()
    assert (events[-1].changes or {})["document"] == ["", None]


def test_deferred_field_that_is_assigned_unread_says_so(events: list[Event]):
    """C18: its old value was never loaded, and is not loaded for us."""
    Person.objects.create(nickname="ann", notes="old")
    row = Person.objects.only("nickname").get()
    row.notes = "new"
    row.save()
    [mark] = [mark for mark in events[-1].redactions if mark.rule == "not_loaded"]
    assert events[-1].changes == {"notes": [None, "new"]}
    assert mark.path == "changes.notes.0"
    assert "full_name" in row.get_deferred_fields()


def test_deferred_instances_are_deleted_with_what_was_in_the_rows(events: list[Event]):
    """C18: by a query set that loads a single column, too."""
    Category.objects.create(name="c")
    Product.objects.create(name="p", description="whole")
    Product.objects.only("name").get().delete()
    Product.objects.create(name="q", description="whole")
    Product.objects.defer("description").delete()
    deleted = [event.changes or {} for event in events if event.action == "delete"]
    assert [changes["description"] for changes in deleted] == [["whole", None]] * 2
