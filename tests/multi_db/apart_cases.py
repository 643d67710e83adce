"""The log at work with its ledger in another database. Run by `test_apart.py`, in a process of its
own: under these settings the business databases have no table of the ledger to fall back on.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
from celery import current_app
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import OperationalError, connections, transaction
from django.db.backends.utils import CursorWrapper
from django.test import Client, override_settings

import audit_log
import audit_log.tasks
from audit_log import context, health, testing
from audit_log.delivery import outboxes
from audit_log.delivery.relay import relay, relay_everywhere
from audit_log.ledger import checkpoints
from audit_log.ledger.verification import verify
from audit_log.models import Outbox, Record, Stream
from audit_log.recording import outbox
from audit_log.router import ledger_alias
from tests.shop.models import Category

BUSINESS = ["default", "other"]
ALL = [*BUSINESS, "audit"]

pytestmark = pytest.mark.django_db(transaction=True, databases=ALL)


@pytest.fixture(autouse=True)
def _look_again() -> None:
    outboxes.forget()


def _names() -> Counter[str]:
    rows = Record.objects.using("audit").filter(action="create", target_type="shop.category")
    return Counter(audit_log.contents(row)["changes"]["name"][1] for row in rows)


def _lines(*words: str) -> list[Any]:
    out = io.StringIO()
    call_command("audit_log", *words, "--json", stdout=out)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def _command(*words: str) -> Any:
    (line,) = _lines(*words)
    return line


def test_business_databases_hold_nothing_but_their_outbox():
    """J4. What the other tests here rely on."""
    for alias in BUSINESS:
        tables = connections[alias].introspection.table_names()
        assert [name for name in tables if name.startswith("audit_log_")] == ["audit_log_outbox"]
    assert ledger_alias() == "audit"
    assert Record.objects.db == "audit"


def test_only_what_was_committed_is_in_the_ledger():
    """multi_db: of two databases at once, one rolls back."""
    with transaction.atomic(using="other"):
        Category.objects.using("other").create(name="there")
        with suppress(ZeroDivisionError), transaction.atomic():
            Category.objects.create(name="never")
            raise ZeroDivisionError
    Category.objects.create(name="here")
    assert relay_everywhere().events == 2
    assert _names() == {"here": 1, "there": 1}
    assert verify().findings == []


def test_each_database_is_relayed_by_itself_too():
    for alias in BUSINESS:
        Category.objects.using(alias).create(name=alias)
    assert (relay("other").events, relay("default").events, relay().events) == (1, 1, 0)
    assert _names() == {"default": 1, "other": 1}


def test_ledger_that_rolls_back_leaves_the_batch(monkeypatch: pytest.MonkeyPatch):
    Category.objects.create(name="here")

    def failing(self: Stream, **_: Any) -> None:
        raise OperationalError("the ledger's disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(Stream, "save", failing)  # the last step: the records are inserted
        with pytest.raises(OperationalError):
            relay("default")
    assert not Record.objects.exists()
    assert Outbox.objects.using("default").get().attempts == 0
    relay("default")
    assert _names() == {"here": 1}


def test_poisoned_batch_is_parked_where_it_is():
    """K6."""
    Category.objects.create(name="behind")
    Outbox.objects.using("default").create(
        created_at="2026-01-01T00:00:00Z", event_count=1, payload=b"poison", attempts=9
    )
    relay_everywhere()
    assert Outbox.objects.using("default").filter(parked_at__isnull=False).count() == 1
    assert _names() == {"behind": 1}
    relay_everywhere()
    assert Record.objects.filter(action="audit_log.parked").count() == 1


def test_save_elsewhere_compares_with_the_row_there():
    """J4."""
    Category.objects.create(pk=70, name="here")
    Category.objects.using("other").create(pk=70, name="there")
    category = Category.objects.get(pk=70)
    with testing.capture_events() as events:
        category.save(using="other")
    assert [event.changes for event in events] == [{"name": ["there", "here"]}]


class FromReplica:
    """A project's own router: reads come from a replica."""

    def db_for_read(self, model: Any, **_: Any) -> str | None:
        return "replica" if model._meta.app_label == "shop" else None

    def db_for_write(self, model: Any, **_: Any) -> str | None:
        return "default" if model._meta.app_label == "shop" else None

    def allow_migrate(self, db: str, app_label: str, **_: Any) -> bool | None:
        return False if db == "replica" else None


@pytest.mark.django_db(transaction=True, databases=[*ALL, "replica"])
@override_settings(DATABASE_ROUTERS=["audit_log.router.AuditRouter", FromReplica()])
def test_instance_of_a_replica_is_compared_and_recorded():
    """J4."""
    Category.objects.create(name="before")
    category = Category.objects.get()
    assert category._state.db == "replica"
    category.name = "after"
    with testing.capture_events() as events:
        category.save()
        audit_log.record("category.looked_at", target=category)
        category.delete()
    assert [(event.action, event.changes) for event in events] == [
        ("update", {"name": ["before", "after"]}),
        ("category.looked_at", None),
        ("delete", {"name": ["after", None], **(events[2].changes or {})}),
    ]
    assert relay_everywhere().events == 4
    assert outboxes.aliases() == ["audit", "default", "other"]


def test_history_search_and_contents_ask_the_ledger():
    category = Category.objects.create(name="here")
    category.name = "elsewhere"
    category.save()
    relay_everywhere()
    newest, oldest = audit_log.history(category)
    assert newest._state.db == "audit"
    assert audit_log.contents(newest)["changes"] == {"name": ["here", "elsewhere"]}
    assert audit_log.search("action:create").get() == oldest


@pytest.mark.urls("tests.admin.urls")
def test_admin_shows_the_ledger():
    User.objects.create_superuser("root")
    client = Client()
    client.force_login(User.objects.get())
    category = Category.objects.create(name="here")
    relay_everywhere()
    row = audit_log.history(category).get()
    for page in (
        "/admin/audit_log/record/",
        "/admin/audit_log/record/?stream=default&action=create",
        f"/admin/audit_log/record/{row.pk}/change/",
        f"/admin/shop/category/{category.pk}/history/",
    ):
        answer = client.get(page)
        assert answer.status_code == 200, page
        assert "here" in answer.content.decode(), page
    relay_everywhere()
    looked = Record.objects.filter(action="audit_log.viewed")
    assert looked.count() >= 3
    assert {row.stream for row in looked} == {"audit_log"}


@pytest.mark.django_db(databases=ALL)
def test_helper_relays_to_the_ledger_inside_a_test_case():
    """L1."""
    Category.objects.create(name="here")
    assert connections["default"].in_atomic_block
    assert testing.relay().events == 1
    assert _names() == {"here": 1}


def test_commands_find_outboxes_and_ledger():
    Category.objects.create(name="here")
    Category.objects.using("other").create(name="there")
    assert _command("status")["outbox_batches"] == 2
    assert _command("status", "--database", "other")["outbox_batches"] == 1
    assert _command("relay")["waiting"] == 0
    assert len(_lines("search", "action:create")) == 2
    checkpoints.sign_all()
    assert _command("verify", "--no-record")["verified"] is True
    found = _command("status")
    assert [(stream["name"], stream["signed"]) for stream in found["streams"]] == [("default", 2)]


def test_baseline_reads_where_the_objects_are_and_asks_the_ledger():
    """J3, J4."""
    for alias in BUSINESS:
        with context.changed(suspended=True):
            Category.objects.using(alias).bulk_create([Category(pk=5 + len(alias), name=alias)])
    Category.objects.create(pk=80, name="known")
    words = ("baseline", "shop.Category")
    for outcome in ((1, 1), (0, 2)):
        found = _command(*words)
        assert (found["written"], found["known"]) == outcome
    assert _command(*words, "--database", "other")["written"] == 1
    relay_everywhere()
    for database in ([], ["--database", "other"]):
        assert _command(*words, *database)["written"] == 0
    snapshots = Record.objects.using("audit").filter(action="snapshot")
    assert sorted(audit_log.contents(row)["changes"]["name"][1] for row in snapshots) == BUSINESS
    assert Record.objects.filter(action="audit_log.baselined").count() == 2


def test_every_task_works_on_the_ledger():
    Category.objects.create(name="here")
    names = sorted(name for name in current_app.tasks if name.startswith("audit_log."))
    assert "audit_log.relay" in names
    for _ in range(2):  # what the first run records is there for the second
        for name in names:
            current_app.tasks[name]()
    assert _names() == {"here": 1}
    assert health.measure_everywhere().unreachable == {}


def test_ledger_that_is_down_is_named_and_hides_no_outbox(monkeypatch: pytest.MonkeyPatch):
    """K9."""
    Category.objects.create(name="here")
    execute = CursorWrapper.execute

    def down(self: CursorWrapper, *arguments: Any) -> Any:
        if self.db.alias == "audit":
            raise OperationalError("connection refused")
        return execute(self, *arguments)

    outboxes.aliases()
    monkeypatch.setattr(CursorWrapper, "execute", down)
    found = health.measure_everywhere()
    assert found.unreachable == {"audit": "connection refused"}
    assert found.outbox_batches == 1
    assert "'audit' cannot be asked: connection refused" in found.troubles[0]
    with pytest.raises(CommandError, match="cannot be asked"):
        call_command("audit_log", "status", "--check", stdout=io.StringIO())


def test_batch_is_encrypted_and_its_purpose_is_the_outbox():
    """The ledger's keys open it, wherever it was made."""
    from audit_log.privacy.encryption import key_ring

    Category.objects.using("other").create(name="there")
    payload = bytes(Outbox.objects.using("other").get().payload)
    assert b"there" not in payload
    assert b"there" in key_ring().decrypt(outbox.PURPOSE, payload)
