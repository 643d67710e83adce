"""Which events leave with which COMMIT, on each way that a transaction can go."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from django.db import DatabaseError, IntegrityError, connection, connections, transaction

import audit_log
from audit_log import testing
from audit_log.events import Event, decode_batch
from audit_log.exceptions import RecordingFailed
from audit_log.models import Outbox, Record
from audit_log.privacy.encryption import key_ring
from audit_log.recording import outbox, pending, works
from audit_log.recording.spool import waiting
from tests.capture.statements import OUTBOX, savepoint, statements
from tests.shop.models import Category, Passport, Watched

committed = pytest.mark.django_db(transaction=True)
both = pytest.mark.django_db(transaction=True, databases=["default", "other"])
pytestmark = committed


def _written(using: str = "default") -> list[str]:
    """The names of the categories that are in the outbox, in order."""
    rows = Outbox.objects.using(using).order_by("id")
    events = [
        event
        for row in rows
        for event in decode_batch(key_ring().decrypt(outbox.PURPOSE, bytes(row.payload)))
    ]
    return [(event.changes or {})["name"][1] for event in events if event.changes]


def _clean(using: str = "default") -> bool:
    work = pending.work_of(connections[using])
    return not (work.items or work.marks or work.written or work.refused)


def test_block_that_raises_writes_nothing():
    """rollback, A12"""
    with suppress(ZeroDivisionError), transaction.atomic():
        Category.objects.create(name="never")
        raise ZeroDivisionError
    assert _written() == []
    assert _clean()


def test_two_of_four_saves_survive():
    """savepoint_partial"""
    with transaction.atomic():
        Category.objects.create(name="1")
        sid = savepoint()
        Category.objects.create(name="2")
        Category.objects.create(name="3")
        transaction.savepoint_rollback(sid)
        Category.objects.create(name="4")
    assert _written() == ["1", "4"]
    assert Outbox.objects.count() == 1


def test_autocommit_off_writes_what_is_committed_and_nothing_else():
    """manual_autocommit: one, then none."""
    transaction.set_autocommit(False)
    try:
        Category.objects.create(name="1")
        transaction.commit()
        assert _written() == ["1"]
        transaction.commit()
        Category.objects.create(name="2")
        transaction.rollback()
        assert _written() == ["1"]
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)
    assert _written() == ["1"]
    assert _clean()


def test_autocommit_switched_on_with_work_open():
    """manual_autocommit: it commits without calling commit(), or PostgreSQL's driver refuses."""
    transaction.set_autocommit(False)
    try:
        Category.objects.create(name="1")
        if connection.vendor == "postgresql":
            with pytest.raises(DatabaseError):
                transaction.set_autocommit(True)
            assert not _clean()
            transaction.commit()
        transaction.set_autocommit(True)
    finally:
        if not transaction.get_autocommit():
            transaction.rollback()
            transaction.set_autocommit(True)
    assert _written() == ["1"]
    assert _clean()


def test_event_without_a_change_leaves_when_autocommit_is_switched_on():
    """manual_autocommit"""
    transaction.set_autocommit(False)
    try:
        audit_log.record("nothing.changed")
    finally:
        transaction.set_autocommit(True)
    assert Outbox.objects.count() == 1


def test_callback_that_commits_again_writes_nothing_twice():
    """manual_autocommit: the callbacks of one commit run when autocommit is switched on."""
    transaction.set_autocommit(False)
    try:
        with transaction.atomic():
            Category.objects.create(name="1")
            transaction.on_commit(lambda: Category.objects.create(name="callback"))
        transaction.commit()
        Category.objects.create(name="2")
        if connection.vendor == "postgresql":
            transaction.commit()
    finally:
        transaction.set_autocommit(True)
    assert _written() == ["1", "2", "callback"]
    assert _clean()


def test_save_in_a_callback_is_recorded():
    """A13"""
    with transaction.atomic():
        Category.objects.create(name="1")
        transaction.on_commit(lambda: Category.objects.create(name="2"))
    assert _written() == ["1", "2"]


def test_foreign_callback_that_raises_drops_nothing():
    """foreign_hook_raises"""
    with suppress(ZeroDivisionError), transaction.atomic():
        transaction.on_commit(lambda: 1 / 0)
        Category.objects.create(name="1")
    assert _written() == ["1"]
    testing.relay()
    assert Record.objects.count() == 1


@both
def test_each_database_has_its_own_outbox():
    """multi_db: the one that rolls back is not logged."""
    with transaction.atomic(using="other"):
        Category.objects.using("other").create(name="there")
        with suppress(ZeroDivisionError), transaction.atomic():
            Category.objects.create(name="here")
            raise ZeroDivisionError
    assert _written("other") == ["there"]
    assert _written() == []
    assert _clean()
    assert _clean("other")


@both
def test_events_of_one_database_do_not_wait_for_the_other():
    """multi_db"""
    with transaction.atomic(using="other"):
        Category.objects.using("other").create(name="there")
        Category.objects.create(name="here")
        assert _written() == ["here"]
        assert _written("other") == []
    assert _written("other") == ["there"]


def test_rollback_by_flag_writes_nothing():
    with transaction.atomic():
        Category.objects.create(name="never")
        transaction.set_rollback(True)
    assert _written() == []


def test_connection_closed_in_a_block_writes_nothing():
    with transaction.atomic():
        Category.objects.create(name="never")
        connection.close()
    assert _written() == []
    assert _clean()


def test_database_error_caught_inside_a_block_rolls_all_of_it_back():
    """A12: on PostgreSQL, COMMIT of a failed transaction rolls back and says nothing."""
    with transaction.atomic():
        row = Watched.objects.create(name="1", number=1)
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT no_such_column FROM shop_watched")
        except DatabaseError:
            pass  # swallowed, as some code does
    if connection.vendor == "postgresql":
        assert _written() == []
        assert not Watched.objects.exists()
        assert _clean()
        row.save()
    assert [event.action for event in _events()] == ["create"]


def _events() -> list[Event]:
    payloads = [bytes(row.payload) for row in Outbox.objects.order_by("id")]
    return [e for p in payloads for e in decode_batch(key_ring().decrypt(outbox.PURPOSE, p))]


def test_constraint_that_fails_at_commit_writes_nothing():
    """A11: a deferred foreign key is looked at by COMMIT itself."""
    with pytest.raises(IntegrityError), transaction.atomic():
        Passport.objects.create(country_id="none")
    assert Outbox.objects.count() == 0
    assert _clean()
    Category.objects.create(name="next")
    assert _written() == ["next"]


def test_commit_that_fails_may_be_tried_again():
    transaction.set_autocommit(False)
    try:
        Category.objects.create(name="1")
        with (
            mock.patch.object(connections["default"], "_commit", side_effect=DatabaseError("busy")),
            pytest.raises(DatabaseError, match="busy"),
        ):
            transaction.commit()
        transaction.commit()
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)
    assert _written() == ["1"]
    assert _clean()


def test_outbox_that_refuses_lets_the_change_commit_and_spools(settings: Any, tmp_path: Path):
    """flush_fails_allow"""
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "SPOOL_DIR": str(tmp_path / "spool")}
    with mock.patch.object(outbox, "into", return_value="INSERT INTO no_such_table"):
        Category.objects.create(name="1")
    assert Category.objects.count() == 1
    assert len(waiting()) == 1
    assert _clean()
    assert _written() == []


def test_outbox_that_refuses_fails_the_transaction_where_asked_for(settings: Any):
    """flush_fails_block"""
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "ON_FAILURE": "block"}
    with (
        mock.patch.object(outbox, "into", return_value="INSERT INTO no_such_table"),
        pytest.raises(RecordingFailed),
        transaction.atomic(),
    ):
        Category.objects.create(name="1")
    assert not Category.objects.exists()
    assert _clean()
    assert transaction.get_autocommit()
    Category.objects.create(name="2")
    assert _written() == ["2"]


def test_nothing_captured_is_nothing_sent():
    """F7: a transaction without a change of an audited row costs nothing."""
    with statements() as seen, transaction.atomic():
        list(Category.objects.all())
    assert not any(OUTBOX in text for text in seen)


def test_test_case_that_stores_early_and_rolls_back_drops_its_events(events: list[Event]):
    """L1: what `relay()` has stored falls with the transaction all the same."""
    with transaction.atomic():
        Category.objects.create(name="1")
        testing.relay()
        assert Record.objects.count() == 1
        transaction.set_rollback(True)
    assert events == []
    assert Record.objects.count() == 0
    assert _clean()


def test_work_of_a_connection_that_is_gone_is_forgotten():
    """A thread ends, and its connection with it, at any point."""
    work = works.Work()
    work.mark(0)
    number = id(work)
    assert number in works.uncommitted
    del work
    assert number not in works.uncommitted
