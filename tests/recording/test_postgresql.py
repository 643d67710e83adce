"""BEGIN that travels with the first statement, and statements without a cursor."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import Any

import django
import msgspec
import pytest
from django.db import DatabaseError, IntegrityError, OperationalError, connection, transaction
from django.db.models import Value
from django.db.models.functions import Upper
from django.test.utils import CaptureQueriesContext

import audit_log
from audit_log.events import Event, decode_batch
from audit_log.exceptions import RecordingFailed
from audit_log.models import Outbox
from audit_log.privacy.encryption import key_ring
from audit_log.recording import outbox, pending, postgresql, spool
from tests.capture.statements import kinds, statements
from tests.faults.workers import wait_until
from tests.settings import DATABASE
from tests.shop.models import Category, Country, Passport, Place, Stamp, Stock

pytestmark = [
    pytest.mark.skipif(DATABASE != "postgres", reason="PostgreSQL's own"),
    pytest.mark.django_db(transaction=True),
]
FLUSH = "SAVEPOINT INSERT RELEASE COMMIT"


def _stored() -> list[Event]:
    """The events of the outbox, as they were before they went in."""
    found = []
    for row in Outbox.objects.order_by("id"):
        batch = decode_batch(key_ring().decrypt(outbox.PURPOSE, bytes(row.payload)))
        found += [
            msgspec.structs.replace(event, service=None, emitter=None, emitter_seq=None)
            for event in batch
        ]
    return found


@pytest.fixture(autouse=True)
def _nothing_is_left_behind() -> Iterator[None]:
    yield
    assert connection.execute_wrappers == []
    assert not hasattr(connection, "_start_transaction_under_autocommit")
    assert connection.get_autocommit()
    assert not postgresql.has_work(connection)


def test_update_in_autocommit_is_one_statement_with_its_batch(events: list[Event]):
    category = Category.objects.create(name="old")
    category.name = "new"
    with statements() as seen:
        category.save()
    assert kinds(seen) == ["WITH"]
    assert Category.objects.get().name == "new"
    assert _stored() == events
    assert events[-1].changes == {"name": ["old", "new"]}


def test_update_by_an_expression_is_read_back_in_its_transaction(events: list[Event]):
    category = Category.objects.create(name="old")
    category.name = Upper(Value("new"))
    with statements() as seen:
        category.save()
    asked = [] if django.VERSION >= (6, 0) else ["SELECT"]  # Django has it returned since
    assert kinds(seen) == ["BEGIN UPDATE", *asked, FLUSH]
    assert events[-1].changes == {"name": ["old", "NEW"]}


def test_update_of_a_row_that_is_gone_says_so_and_records_nothing(events: list[Event]):
    category = Category.objects.create(name="old")
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM shop_category")
    category.name = "new"
    del events[:]
    with pytest.raises(DatabaseError):
        category.save(force_update=True)
    assert events == []
    assert len(_stored()) == 1


def test_row_that_is_gone_is_inserted_again_and_is_a_creation(events: list[Event]):
    category = Category.objects.create(name="old")
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM shop_category")
    category.name = "new"
    with statements() as seen:
        category.save()
    assert kinds(seen) == ["WITH", "BEGIN UPDATE", "INSERT", FLUSH]
    assert [event.action for event in events] == ["create", "create"]
    assert _stored() == events


def test_update_that_the_database_refuses_is_sent_once_and_raises_its_error():
    Category.objects.create(name="taken")
    category = Category.objects.create(name="free")
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE shop_category ADD CONSTRAINT only_one UNIQUE (name)")
    try:
        category.name = "taken"
        with statements() as seen, pytest.raises(IntegrityError, match="only_one"):
            category.save()
        assert kinds(seen) == ["WITH"]
        assert len(_stored()) == 2
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE shop_category DROP CONSTRAINT only_one")
    assert Category.objects.filter(name="free").exists()


@pytest.mark.parametrize("on_failure", ["allow", "block"])
def test_outbox_that_refuses_the_batch_has_the_update_sent_again(
    on_failure: str, settings: Any, tmp_path: Path
):
    settings.AUDIT_LOG = {
        **settings.AUDIT_LOG,
        "ON_FAILURE": on_failure,
        "SPOOL_DIR": str(tmp_path / "spool"),
    }
    category = Category.objects.create(name="old")
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE audit_log_outbox RENAME TO elsewhere")
    try:
        category.name = "new"
        if on_failure == "allow":
            category.save()
        else:
            with pytest.raises(RecordingFailed):
                category.save()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE elsewhere RENAME TO audit_log_outbox")
    assert Category.objects.get().name == ("new" if on_failure == "allow" else "old")
    assert len(spool.waiting()) == (1 if on_failure == "allow" else 0)


def test_update_that_waited_for_the_row_is_later_than_what_it_waited_for(events: list[Event]):
    """Its event is made when the row is ours, or the history would say who won was overwritten."""
    category = Category.objects.create(name="old")
    category.name = "new"
    other = connection.copy()
    saving = Thread(target=_saved_and_closed, args=(category,))
    try:
        with other.cursor() as cursor:
            cursor.execute("BEGIN; SELECT 1 FROM shop_category FOR UPDATE")
            saving.start()
            wait_until(_somebody_waits, "nobody waits for the row")
            released = datetime.now(UTC)
            cursor.execute("COMMIT")
    finally:
        other.close()
        saving.join()
    assert [event.action for event in events] == ["create", "update"]
    assert events[-1].occurred_at > released
    assert _stored() == events


def _saved_and_closed(category: Category) -> None:
    category.save()
    connection.close()


def _somebody_waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return bool(cursor.fetchone()[0])


def test_update_that_a_lock_keeps_waiting_waits_once(events: list[Event]):
    category = Category.objects.create(name="old")
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("BEGIN; SELECT 1 FROM shop_category FOR UPDATE")
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '50ms'")
        category.name = "new"
        with statements() as seen, pytest.raises(OperationalError):
            category.save()
        assert kinds(seen) == ["WITH", "BEGIN UPDATE", "ROLLBACK"]
        with connection.cursor() as cursor:
            cursor.execute("RESET lock_timeout")
    finally:
        other.close()
    assert Category.objects.get().name == "old"
    assert [event.action for event in events] == ["create"]


def test_label_that_queries_makes_an_update_wait_for_its_transaction(events: list[Event]):
    passport = Passport.objects.create(country=Country.objects.create(code="fr"))
    here, there = (Place.objects.create(name=name) for name in ("here", "there"))
    Stamp.objects.create(passport=passport, place=here)
    stamp = Stamp.objects.get()
    stamp.place_id = there.pk
    with statements() as seen:
        stamp.save()
    words = " ".join(kinds(seen)).split()
    assert words.count("BEGIN") == 1
    assert words.count("UPDATE") == 1
    assert words[-1] == "COMMIT"
    assert _stored() == events
    assert Stamp.objects.get().place == there


def test_create_reads_its_key_from_the_second_result():
    with statements() as seen:
        category = Category.objects.create(name="n")
    assert kinds(seen) == ["BEGIN INSERT", FLUSH]
    assert Category.objects.get() == category


def test_logged_queries_are_those_of_the_project_as_they_were():
    category = Category.objects.create(name="old")
    category.name = "new"
    with CaptureQueriesContext(connection) as queries, statements() as seen:
        category.save()
    assert kinds(seen) == ["BEGIN", "UPDATE", FLUSH]
    assert [query["sql"].split()[0] for query in queries] == ["UPDATE"]


def test_wrapper_of_the_project_sees_its_statement_as_it_was():
    sql: list[str] = []

    def wrapper(execute: Any, text: str, *arguments: Any) -> Any:
        sql.append(text)
        return execute(text, *arguments)

    category = Category.objects.create(name="old")
    category.name = "new"
    with connection.execute_wrapper(wrapper):
        category.save()
    assert [text.split()[0] for text in sql] == ["UPDATE"]


def test_refused_write_rolls_back_and_the_connection_goes_on():
    category = Category.objects.create(name="n")
    before = Outbox.objects.count()
    with pytest.raises(IntegrityError):
        Category(pk=category.pk, name="again").save(force_insert=True)
    assert not postgresql.has_work(connection)
    assert Outbox.objects.count() == before
    category.name = "after"
    category.save()
    assert Outbox.objects.count() == before + 1


def test_lock_on_the_old_values_is_in_the_same_transaction():
    stock = Stock.objects.create(name="s", amount=1)
    stock.amount = 2
    with statements() as seen:
        stock.save()
    assert kinds(seen) == ["BEGIN UPDATE", FLUSH]
    assert "FOR NO KEY UPDATE" in seen[0]


def test_event_without_a_change_is_one_round_trip():
    with statements() as seen:
        audit_log.record("report.printed")
    assert kinds(seen) == [f"BEGIN {FLUSH}"]
    assert Outbox.objects.count() == 1


def test_event_alone_in_a_transaction_begins_it_as_the_project_asked():
    with statements() as seen, transaction.atomic():
        audit_log.record("report.printed")
    assert kinds(seen) == ["BEGIN", FLUSH]
    assert Outbox.objects.count() == 1


@pytest.fixture
def binding_on_the_server() -> Iterator[None]:
    options = connection.settings_dict["OPTIONS"]
    connection.close()
    connection.settings_dict["OPTIONS"] = {**options, "server_side_binding": True}
    yield
    connection.close()
    connection.settings_dict["OPTIONS"] = options


@pytest.mark.usefixtures("binding_on_the_server")
def test_binding_on_the_server_begins_by_itself():
    Category.objects.create(name="old")
    category = Category.objects.get()
    category.name = "new"
    category.save()
    assert Category.objects.get().name == "new"
    assert Outbox.objects.count() == 2


def test_error_of_a_statement_without_a_cursor_is_the_drivers():
    with transaction.atomic():
        Category.objects.create(name="n")
        with pytest.raises(DatabaseError), connection.wrap_database_errors:
            postgresql.execute(connection, "SELECT 1; SELECT nothing_like_it")
        transaction.set_rollback(True)
    assert not Category.objects.exists()


def test_savepoint_inside_such_a_transaction_begins_it():
    with pending.bracket(connection), statements() as seen, transaction.atomic():
        Category.objects.filter(name="none").exists()
    assert kinds(seen)[0] == "BEGIN SAVEPOINT"


def test_label_that_queries_first_begins_the_transaction_once():
    passport = Passport.objects.create(country=Country.objects.create(code="fr"))
    Stamp.objects.create(passport=passport, place=Place.objects.create(name="here"))
    stamp = Stamp.objects.get()  # it loads its place to print itself
    with statements() as seen:
        stamp.delete()
    words = " ".join(kinds(seen)).split()
    assert words.count("BEGIN") == 1
    assert words.index("BEGIN") < words.index("SAVEPOINT") < words.index("SELECT")
