"""`viewed()`: what it records, when it is written, and what happens when it cannot be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import SynchronousOnlyOperation
from django.db import OperationalError, connection, transaction
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext
from django.utils.functional import SimpleLazyObject

import audit_log
from audit_log import testing
from audit_log.events import Event
from audit_log.exceptions import RecordingFailed
from audit_log.models import Outbox, Record
from audit_log.recording import losses, spool
from tests.capture.statements import statements
from tests.shop.models import (
    Broken,
    Category,
    CheapProduct,
    Country,
    Person,
    Product,
    Shelf,
    Unlisted,
)

Views = Callable[[], list[Event]]


@pytest.fixture(autouse=True)
def _fresh_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "_warned", {})


@pytest.fixture
def spool_dir(tmp_path: Path, settings: Any) -> Path:
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "SPOOL_DIR": str(tmp_path / "spool")}
    return tmp_path / "spool"


@contextmanager
def _without_outbox() -> Iterator[None]:
    table = Outbox._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO {table}_away")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {table}_away RENAME TO {table}")


# --- what it says ---


def test_view_has_actor_object_and_request_and_no_changes(
    client: Client, lamp: Product, views: Views
):
    """G2"""
    user = User.objects.create_user("anna")
    client.force_login(user)
    client.get(f"/product/{lamp.pk}/")
    [event] = views()
    assert event.changes is None
    assert event.actor is not None
    assert (event.actor.type, event.actor.id) == ("user", str(user.pk))
    assert event.target is not None
    assert (event.target.type, event.target.id) == ("shop.product", str(lamp.pk))
    assert event.target.label == "lamp"
    assert event.request is not None
    assert event.request.path == f"/product/{lamp.pk}/"
    assert (event.source, event.outcome) == ("explicit", "success")


def test_nobody_logged_in_is_anonymous_with_an_address(client: Client, lamp: Product, views: Views):
    """G2, F1"""
    client.get(f"/product/{lamp.pk}/", REMOTE_ADDR="203.0.113.9")
    [event] = views()
    assert event.actor is not None
    assert event.actor.type == "anonymous"
    assert event.request is not None
    assert event.request.ip == "203.0.113.9"


def test_request_that_showed_something_is_notable(
    client: Client, lamp: Product, views: Views, events: list[Event]
):
    """G3"""
    client.get(f"/product/{lamp.pk}/")
    [view] = views()
    [request] = [event for event in events if event.action == "request"]
    assert view.request is not None
    assert request.request is not None
    assert request.request.id == view.request.id
    assert events.index(view) < events.index(request)


@pytest.mark.parametrize("setting", [{"REQUESTS": "off"}, {"EXCLUDE_PATHS": ["/product/*"]}])
def test_view_is_recorded_where_its_request_is_not(
    client: Client, lamp: Product, views: Views, events: list[Event], settings: Any, setting: Any
):
    """G3"""
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, **setting}
    client.get(f"/product/{lamp.pk}/")
    assert len(views()) == 1
    assert [event for event in events if event.action == "request"] == []


def test_object_seen_twice_in_a_request_is_one_view_for_each_actor(
    client: Client, lamp: Product, views: Views
):
    """G2, D3: also by way of its proxy."""
    client.get(f"/twice/{lamp.pk}/")
    client.get(f"/product/{lamp.pk}/")
    first, robot, later = views()
    assert robot.actor is not None
    assert robot.actor.label == "robot"
    assert first.actor == later.actor != robot.actor


def test_reason_is_told(lamp: Product, views: Views):
    audit_log.viewed(lamp, reason="emergency")
    with audit_log.acting("robot", reason="nightly"):
        audit_log.viewed(lamp)
    assert [event.reason for event in views()] == ["emergency", "nightly"]


def test_rows_are_one_event_with_their_number_and_keys(views: Views):
    rows = [Product.objects.create(name=str(n)) for n in range(4)]
    audit_log.viewed([rows[3], rows[0], rows[1]])
    [event] = views()
    assert event.target is not None
    assert (event.target.type, event.target.id) == ("shop.product", None)
    assert event.affected == 3
    keys = [f"{rows[0].pk}-{rows[1].pk}", str(rows[3].pk)]
    assert event.data == {"bulk": {"count": 3, "keys": keys}}


def test_rows_of_several_models_are_an_event_each(lamp: Product, views: Views):
    category = Category.objects.get()
    audit_log.viewed([lamp, category, CheapProduct.objects.get(pk=lamp.pk), Unlisted(pk=1)])
    found = {event.target.type: event.affected for event in views() if event.target}
    assert found == {"shop.product": 2, "shop.category": 1}


def test_query_set_is_evaluated_once_for_both(lamp: Product, views: Views):
    rows = Product.objects.all()
    with CaptureQueriesContext(connection) as queries:
        audit_log.viewed(rows)
        assert [row.name for row in rows] == ["lamp"]
    assert len(queries) == 1
    assert views()[0].affected == 1


def test_keys_of_too_many_rows_are_counted(views: Views):
    rows = [Shelf(room=f"{n:06}" * 3, number=1) for n in range(1_000)]
    audit_log.viewed(rows)
    [event] = views()
    assert event.data is not None
    bulk = event.data["bulk"]
    assert len(bulk["keys"]) + bulk["keys_omitted"] == bulk["count"] == 1_000


@pytest.mark.parametrize("rows", [[], Product.objects.none()])
def test_empty_list_shows_nothing(lamp: Product, views: Views, rows: Any):
    audit_log.viewed(rows)
    assert views() == []


def test_model_that_is_not_audited_and_unsaved_object_give_no_event(lamp: Product, views: Views):
    audit_log.viewed(Unlisted.objects.create(name="x"))
    audit_log.viewed([Unlisted(pk=1)])
    audit_log.viewed(Unlisted.objects.all())
    audit_log.viewed(Product(name="not saved"))
    assert views() == []


@pytest.mark.parametrize("wrong", [None, 7, AnonymousUser(), Product])
def test_what_is_no_object_is_refused(wrong: Any):
    with pytest.raises(TypeError, match="viewed"):
        audit_log.viewed(wrong)


def test_lazy_object_is_the_object(db: None, views: Views):
    user = User.objects.create_user("anna")
    lazy: Any = SimpleLazyObject(lambda: User.objects.get(pk=user.pk))
    audit_log.viewed(lazy)
    [event] = views()
    assert event.target is not None
    assert (event.target.type, event.target.label) == ("auth.user", "anna")


def test_composite_key_is_a_json_array(lamp: Product, views: Views):
    """D2"""
    audit_log.viewed(Shelf.objects.create(room="a", number=1))
    target = views()[0].target
    assert target is not None
    assert target.id == '["a", 1]'


def test_object_that_cannot_say_its_name_is_viewed_all_the_same(lamp: Product, views: Views):
    """C17"""
    audit_log.viewed(Broken.objects.create(name="x"))
    target = views()[0].target
    assert target is not None
    assert target.label == "<Broken: DoesNotExist>"


def test_label_follows_the_field_policies_and_is_stored_sealed(lamp: Product, views: Views):
    """H1: the label of a person holds a masked password; the record's is encrypted."""
    person = Person.objects.create(nickname="ann", password="hunter2-secret")
    audit_log.viewed(person)
    [event] = views()
    assert event.target is not None
    assert "hunter2" not in str(event.target.label)
    assert event.subject == f"shop.person:{person.pk}"
    testing.relay()
    record = Record.objects.get(action="view")
    assert b"ann" not in bytes(record.sealed_data or b"")
    assert str(audit_log.contents(record)["target_label"]).startswith("ann")
    assert [row.action for row in audit_log.history(person)] == ["view", "create"]


def test_suspended_sees_nothing(client: Client, lamp: Product, views: Views):
    """A20"""
    client.get(f"/suspended/{lamp.pk}/")
    with audit_log.suspended():
        audit_log.viewed(lamp)
    assert views() == []


def test_disabled_sees_nothing(client: Client, lamp: Product, views: Views, settings: Any):
    """L10"""
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "ENABLED": False}
    client.get(f"/product/{lamp.pk}/")
    audit_log.viewed(lamp)
    assert views() == []


# --- when it is written ---


@pytest.mark.django_db(transaction=True)
def test_view_is_in_the_outbox_when_the_response_is(client: Client, lamp: Product, views: Views):
    before = Outbox.objects.count()
    response = client.get(f"/product/{lamp.pk}/")
    assert response.content == b"lamp"
    assert Outbox.objects.count() == before + 1


@pytest.mark.django_db(transaction=True)
def test_streamed_response_is_recorded_before_its_first_byte(
    client: Client, lamp: Product, views: Views
):
    """G5"""
    before = Outbox.objects.count()
    response: Any = client.get("/export/")
    assert Outbox.objects.count() == before + 1
    assert [event.affected for event in views()] == [1]
    assert b"".join(response.streaming_content) == b"lamp"
    assert len(views()) == 1


@pytest.mark.django_db(transaction=True)
def test_rollback_takes_no_view_back(client: Client, lamp: Product, views: Views):
    """What somebody has read stays read."""
    client.get(f"/rolled-back/{lamp.pk}/")
    assert [event.action for event in views()] == ["view"]
    testing.relay()
    assert Record.objects.filter(action="view").count() == 1
    assert not Record.objects.filter(action="create", target_type="shop.category")[1:].exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", ["product", "rolled-back", "failing"])
def test_transaction_of_the_request_makes_no_difference(
    client: Client, lamp: Product, views: Views, path: str
):
    """With ATOMIC_REQUESTS, which a failing view rolls back."""
    client.raise_request_exception = False
    connection.settings_dict["ATOMIC_REQUESTS"] = True
    try:
        client.get(f"/{path}/{lamp.pk}/")
    finally:
        connection.settings_dict["ATOMIC_REQUESTS"] = False
    assert len(views()) == 1
    testing.relay()
    assert Record.objects.filter(action="view").count() == 1


@pytest.mark.django_db(transaction=True)
def test_outside_of_a_request_it_stands_or_falls_with_the_open_transaction(
    lamp: Product, views: Views
):
    with transaction.atomic():
        audit_log.viewed(lamp)
        transaction.set_rollback(True)
    assert views() == []
    before = Outbox.objects.count()
    audit_log.viewed(lamp)
    assert Outbox.objects.count() == before + 1


@pytest.mark.django_db(transaction=True)
def test_project_sees_no_query_of_a_view(client: Client, lamp: Product, views: Views):
    """L1: nor a callback."""
    with CaptureQueriesContext(connection) as queries:
        client.get(f"/product/{lamp.pk}/")
    assert len(queries) == 1
    assert len(views()) == 1


@pytest.mark.django_db
def test_view_costs_one_insert_however_many_objects(lamp: Product, views: Views):
    """E3"""
    rows = [lamp, *(Product.objects.create(name=str(n)) for n in range(20))]
    with statements() as sent:
        audit_log.viewed(rows)
    assert sent == []  # the test's own transaction never commits
    assert len(views()) == 1


def test_response_of_a_view_has_no_vary_header_more(client: Client, lamp: Product, views: Views):
    """F7"""
    client.force_login(User.objects.create_user("anna"))
    response = client.get(f"/product/{lamp.pk}/")
    assert "Cookie" not in response.headers.get("Vary", "")
    actor = views()[0].actor
    assert actor is not None
    assert actor.label == "anna"


# --- async ---


@pytest.mark.django_db(transaction=True)
def test_async_view_calls_it_without_waiting(lamp: Product, views: Views):
    """F5"""
    user = User.objects.create_user("anna")
    client = AsyncClient()

    async def run() -> Any:
        await client.aforce_login(user)
        return await client.get(f"/awaited/{lamp.pk}/")

    before = Outbox.objects.count()
    assert async_to_sync(run)().content == b"lamp"
    [event] = views()
    assert event.actor is not None
    assert (event.actor.label, event.reason) == ("anna", "asked for")
    assert event.target is not None
    assert event.target.label == "lamp"
    assert Outbox.objects.count() > before


@pytest.mark.django_db(transaction=True)
def test_async_code_outside_of_a_request_is_told_to_use_a_thread(lamp: Product, views: Views):
    async def wrong() -> None:
        audit_log.viewed(lamp)

    with pytest.raises(SynchronousOnlyOperation, match="sync_to_async"):
        asyncio.run(wrong())
    assert views() == []
    async_to_sync(sync_to_async(audit_log.viewed))(lamp)
    assert len(views()) == 1


# --- when it cannot be written ---


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", ["product", "awaited"])
def test_allowed_view_that_cannot_be_written_is_spooled(
    lamp: Product, views: Views, spool_dir: Path, path: str, client: Client
):
    """flush_fails_allow"""
    with _without_outbox():
        response: Any
        if path == "awaited":
            response = async_to_sync(AsyncClient().get)(f"/{path}/{lamp.pk}/")
        else:
            response = client.get(f"/{path}/{lamp.pk}/")
    assert response.status_code == 200
    [file] = spool.waiting()
    assert b"lamp" not in file.read_bytes()
    testing.relay()
    spool.replay()
    testing.relay()
    assert Record.objects.filter(action="view").count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", ["product", "awaited"])
def test_blocked_view_that_cannot_be_written_is_not_shown(
    lamp: Product, views: Views, settings: Any, spool_dir: Path, path: str, client: Client
):
    """flush_fails_block"""
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "ON_FAILURE": "block"}
    client = Client(raise_request_exception=False)
    asynchronous = AsyncClient(raise_request_exception=False)
    with _without_outbox():
        response: Any
        if path == "awaited":
            response = async_to_sync(asynchronous.get)(f"/{path}/{lamp.pk}/")
        else:
            response = client.get(f"/{path}/{lamp.pk}/")
    assert response.status_code == 500
    assert b"lamp" not in response.content
    assert list(spool.waiting()) == []


@pytest.mark.django_db(transaction=True)
def test_blocked_view_outside_of_a_request_is_an_error(
    lamp: Product, settings: Any, spool_dir: Path
):
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "ON_FAILURE": "block"}
    with _without_outbox(), pytest.raises(RecordingFailed):
        audit_log.viewed(lamp)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("policy", ["allow", "block"])
def test_database_that_does_not_answer_is_as_an_outbox_that_refuses(
    lamp: Product,
    settings: Any,
    spool_dir: Path,
    policy: str,
    monkeypatch: pytest.MonkeyPatch,
):
    """K5: there is not even a transaction to begin."""
    from audit_log.recording import pending

    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "ON_FAILURE": policy}

    def refuse(self: Any) -> None:
        raise OperationalError("no route to host")

    monkeypatch.setattr(pending.Bracket, "__enter__", refuse)
    if policy == "block":
        with pytest.raises(RecordingFailed):
            audit_log.viewed(lamp)
    else:
        audit_log.viewed(lamp)
    assert len(list(spool.waiting())) == (1 if policy == "allow" else 0)


@pytest.mark.django_db(transaction=True)
def test_view_whose_label_cannot_be_asked_for_is_recorded_without(
    lamp: Product, views: Views, monkeypatch: pytest.MonkeyPatch
):
    from audit_log.capture import views as module

    def refuse(*_: Any) -> str:
        raise OperationalError("no route to host")

    monkeypatch.setattr(module, "label", refuse)
    audit_log.viewed(lamp)
    target = views()[0].target
    assert target is not None
    assert (target.id, target.label) == (str(lamp.pk), "")


def test_test_that_may_not_use_the_database_leaves_no_file(
    spool_dir: Path, monkeypatch: pytest.MonkeyPatch
):
    """L4: what Django's SimpleTestCase and pytest-django do about it."""
    from audit_log.recording import pending

    def refuse(self: Any) -> None:
        raise AssertionError("Database connections are not allowed")

    monkeypatch.setattr(pending.Bracket, "__enter__", refuse)

    def lost() -> int:
        # On PostgreSQL the label asks whether there is a transaction, which is refused already.
        counts = losses.counts()
        return counts.get("events_lost", 0) + counts.get("capture_failed", 0)

    before = lost()
    audit_log.viewed(Country(code="DE", name="Germany"))
    assert lost() == before + 1
    assert not spool_dir.exists() or list(spool.waiting()) == []
