"""The outbox cannot be written to: the change commits and its batch is spooled, or it does not."""

from __future__ import annotations

import base64
import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from audit_log.delivery.relay import relay
from audit_log.exceptions import RecordingFailed
from audit_log.models import Outbox, Record
from audit_log.reading.contents import contents
from audit_log.recording import losses, spool
from tests.shop.models import Category, Product

SECRET = "a name nobody may read in a file"


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


def _autocommit(name: str) -> Category:
    return Category.objects.create(name=name)


def _in_atomic(name: str) -> Category:
    with transaction.atomic():
        return Category.objects.create(name=name)


def _by_hand(name: str) -> Category:
    transaction.set_autocommit(False)
    try:
        category = Category.objects.create(name=name)
        transaction.commit()
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)
    return category


WAYS = pytest.mark.parametrize("way", [_autocommit, _in_atomic, _by_hand])


@pytest.fixture
def blocking(settings: Any, spool_dir: Path) -> None:
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "ON_FAILURE": "block"}


@pytest.fixture(autouse=True)
def fresh_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "_warned", {})


def _spooled() -> bytes:
    return b"".join(path.read_bytes() for path in spool.waiting())


@WAYS
@pytest.mark.django_db(transaction=True)
def test_allowed_change_is_committed_and_its_event_spooled(
    way: Callable[[str], Category], spool_dir: Path, settle, caplog
):
    """flush_fails_allow."""
    before = losses.counts().get("flush_failed", 0)
    with _without_outbox(), caplog.at_level(logging.ERROR, "audit_log"):
        category = way(SECRET)
        assert Category.objects.filter(pk=category.pk).exists()
    assert losses.counts()["flush_failed"] == before + 1
    assert "Cannot write to the outbox of 'default'." in caplog.text
    assert len(spool.waiting()) == 1
    assert SECRET.encode() not in _spooled()
    assert b"create" not in _spooled()
    settle()
    assert spool.waiting() == []
    record = Record.objects.get(action="create")
    assert record.target_id == str(category.pk)
    assert contents(record)["changes"]["name"] == [None, SECRET]
    relay()
    assert Record.objects.filter(action="create").count() == 1


@pytest.mark.django_db(transaction=True)
def test_spool_stays_as_it_is_while_the_outbox_is_away(spool_dir: Path, settle):
    with _without_outbox():
        _in_atomic(SECRET)
        content = _spooled()
        assert spool.replay() == 0
        assert _spooled() == content
    assert spool.replay() == 1
    settle()
    assert Record.objects.filter(action="create").count() == 1


@pytest.mark.django_db(transaction=True)
def test_allowed_failure_changes_nothing_for_the_transaction(spool_dir: Path):
    called = []
    with _without_outbox(), transaction.atomic():
        with transaction.atomic():
            Category.objects.create(name="kept")
        transaction.on_commit(lambda: called.append("on_commit"))
    assert called == ["on_commit"]
    assert not connection.needs_rollback
    assert list(Category.objects.values_list("name", flat=True)) == ["kept"]


@WAYS
@pytest.mark.django_db(transaction=True)
def test_blocked_change_is_rolled_back(way: Callable[[str], Category], blocking, spool_dir, settle):
    """flush_fails_block."""
    with _without_outbox(), pytest.raises(RecordingFailed, match="refused the batch"):
        way(SECRET)
    assert not Category.objects.exists()
    assert not connection.in_atomic_block
    assert connection.get_autocommit()
    assert spool.waiting() == []
    # The connection can be used afterwards, and the next change is recorded.
    way("after")
    settle()
    assert [contents(row)["changes"]["name"][1] for row in Record.objects.all()] == ["after"]


@pytest.mark.django_db(transaction=True)
def test_blocked_change_rolls_back_all_of_its_transaction(blocking):
    def write() -> None:
        with transaction.atomic():
            Category.objects.create(name="first")
            with transaction.atomic():
                Category.objects.create(name="second")

    with _without_outbox(), pytest.raises(RecordingFailed):
        write()
    assert not Category.objects.exists()


@pytest.mark.parametrize("in_atomic", [True, False])
@pytest.mark.django_db(transaction=True)
def test_constraint_that_fails_at_commit_raises_as_without_us(in_atomic: bool, spool_dir: Path):
    """Foreign keys are deferred on both databases."""
    with pytest.raises(IntegrityError), transaction.atomic() if in_atomic else nullcontext():
        Product.objects.create(name="orphan", category_id=987654)
    assert not Product.objects.exists()
    assert not Outbox.objects.exists()
    assert spool.waiting() == []
    Category.objects.create(name="after")
    assert Outbox.objects.count() == 1


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_commit_that_silently_rolls_back_leaves_no_event(spool_dir: Path, settle):
    """On PostgreSQL, COMMIT after an error that somebody caught is a ROLLBACK."""
    if connection.vendor != "postgresql":
        pytest.skip("PostgreSQL only")
    with transaction.atomic():
        Category.objects.create(name="never")
        with connection.connection.cursor() as cursor, pytest.raises(Exception, match="no_such"):
            cursor.execute("SELECT no_such_column")
    assert not Category.objects.exists()
    assert spool.waiting() == []
    settle()
    assert not Record.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_events_too_large_for_one_row_fill_several(settle):
    count = 450 if connection.vendor == "mysql" else 60  # 18 MB, more than it takes at once
    text = base64.b85encode(random.Random(1).randbytes(40_000)).decode()  # hard to deflate
    with transaction.atomic():
        Category.objects.bulk_create([Category(name=f"{n}") for n in range(3)])
        for n in range(count):
            Product.objects.create(name=f"{n}", description=f"{n} {text}")
    assert Outbox.objects.count() > 1
    settle()
    assert Record.objects.filter(target_type="shop.product").count() == count
