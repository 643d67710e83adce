"""On MariaDB and MySQL a deadlock rolls back everything, and COMMIT afterwards says nothing."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from django.db import OperationalError, connection, transaction

from audit_log import testing
from audit_log.models import Outbox, Record
from audit_log.recording import mysql, spool
from tests.shop.models import Category, Stock, Unlisted

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "mysql", reason="Only MariaDB and MySQL go on."),
]


class _Rival:
    """Another session: takes a lock, and later asks for a second one, which closes the circle."""

    def __init__(self) -> None:
        self._go_on = threading.Event()
        self._holds = threading.Event()
        self._pool = ThreadPoolExecutor(1)
        self._done: Future[None] | None = None

    def take(self, first: str, second: str) -> None:
        """Run `first` in a transaction now, and `second` in it when we wait for the other."""
        self._done = self._pool.submit(self._run, first, second)
        assert self._holds.wait(300)

    def go_on(self) -> None:
        self._go_on.set()

    def close(self) -> None:
        self._go_on.set()
        if self._done is not None:
            self._done.result(300)
        self._pool.shutdown()

    def _run(self, first: str, second: str) -> None:
        try:
            with connection.cursor() as cursor:
                # The gaps as well: an INSERT into them waits.
                cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            with transaction.atomic(), connection.cursor() as cursor:
                # The server gives up the transaction that has done less.
                Unlisted.objects.bulk_create(Unlisted(name="x") for _ in range(500))
                cursor.execute(first)
                self._holds.set()
                self._go_on.wait(300)
                cursor.execute(second)
        finally:
            connection.close()


@pytest.fixture
def rival() -> Iterator[_Rival]:
    session = _Rival()
    yield session
    session.close()


_WAITING = """
    SELECT COUNT(*) FROM information_schema.innodb_trx
    JOIN information_schema.processlist ON id = trx_mysql_thread_id
    WHERE trx_state = 'LOCK WAIT' AND db = DATABASE()
"""


def _once_it_waits(rival: _Rival) -> None:
    """Let the rival ask for what we hold; come back when it waits for us."""
    rival.go_on()
    deadline = time.monotonic() + 20
    with connection.cursor() as cursor:
        while time.monotonic() < deadline:
            cursor.execute(_WAITING)
            if cursor.fetchone()[0]:
                return
            # Whoever asks within 0.1 s of the last answer, to anybody, gets the same again.
            time.sleep(random.uniform(0.12, 0.4))
    pytest.fail("The rival does not wait.")


def _targets() -> list[str | None]:
    rows = Record.objects.filter(target_type="shop.category").order_by("sequence")
    return list(rows.values_list("target_id", flat=True))


def test_deadlock_in_our_own_insert_is_the_projects_error(rival: _Rival, spool_dir: Path, settle):
    """deadlock: the change is gone, so nobody may be told that it was made."""
    stock = Stock.objects.create(name="contended")
    settle()
    rival.take(
        "SELECT * FROM audit_log_outbox FOR UPDATE",  # an empty table: all of its gaps
        f"UPDATE shop_stock SET amount = 2 WHERE id = {stock.pk}",
    )

    def write() -> None:
        stock.amount = 1
        stock.save()
        _once_it_waits(rival)

    with pytest.raises(OperationalError, match="1213"):
        _in_a_block(write)
    rival.close()
    assert spool.waiting() == []
    settle()
    assert Stock.objects.get().amount == 2
    assert list(Record.objects.values_list("action", flat=True)) == ["create"]
    stock.refresh_from_db()
    stock.amount = 3
    stock.save()
    settle()
    assert Record.objects.filter(action="update").count() == 1


def _caught(rival: _Rival, stock: Stock) -> None:
    """A deadlock in SQL of the project's own, which catches it and goes on."""
    rival.take(
        f"SELECT * FROM shop_stock WHERE id = {stock.pk} FOR UPDATE",
        "SELECT * FROM shop_category FOR UPDATE",
    )
    Category.objects.create(name="gone")
    _once_it_waits(rival)
    with connection.cursor() as cursor, pytest.raises(OperationalError, match="1213"):
        cursor.execute("SELECT * FROM shop_stock WHERE id = %s FOR UPDATE", [stock.pk])
    Category.objects.create(name="kept")


def _in_a_block(call: Callable[[], None]) -> None:
    with transaction.atomic():
        call()


def _by_hand(call: Callable[[], None]) -> None:
    transaction.set_autocommit(False)
    try:
        call()
        transaction.commit()
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)


@pytest.mark.parametrize("way", [_in_a_block, _by_hand])
def test_what_a_deadlock_took_back_leaves_no_event(way, rival: _Rival, settle):
    """deadlock: who catches it commits what came after it, and no more."""
    stock = Stock.objects.create(name="contended")
    with testing.capture_events() as events:
        way(lambda: _caught(rival, stock))
    rival.close()
    assert [row.name for row in Category.objects.all()] == ["kept"]
    assert [e.target.id for e in events if e.target] == [str(Category.objects.get().pk)]
    settle()
    assert _targets() == [str(Category.objects.get().pk)]


def test_lock_that_is_waited_for_too_long_takes_back_one_statement(rival: _Rival, settle):
    stock = Stock.objects.create(name="contended")
    rival.take(f"SELECT * FROM shop_stock WHERE id = {stock.pk} FOR UPDATE", "SELECT 1")
    with transaction.atomic():
        Category.objects.create(name="kept")
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION innodb_lock_wait_timeout = 1")
            with pytest.raises(OperationalError, match="1205"):
                cursor.execute("SELECT * FROM shop_stock WHERE id = %s FOR UPDATE", [stock.pk])
            cursor.execute("SET SESSION innodb_lock_wait_timeout = DEFAULT")
    rival.close()
    settle()
    assert _targets() == [str(Category.objects.get().pk)]


@pytest.mark.parametrize("statement", ["SELECT nothing", "SELECT * FROM no_such_table"])
def test_refused_statement_ends_no_transaction(statement: str):
    with transaction.atomic(), connection.cursor() as cursor:
        for _ in range(2):  # before the transaction has done anything, and after
            with pytest.raises(Exception, match=r"1054|1146") as caught:
                cursor.execute(statement)
            assert not mysql.has_ended(connection, caught.value)
            assert mysql.is_open(connection, caught.value)
            Category.objects.create(name="x")
    assert Outbox.objects.count() == 1


def test_transaction_of_a_session_that_was_killed_is_not_open():
    def write() -> None:
        Category.objects.create(name="gone")
        with connection.cursor() as cursor:
            cursor.execute("SELECT CONNECTION_ID()")
            with pytest.raises(OperationalError) as caught:
                cursor.execute(f"KILL {cursor.fetchone()[0]}")
            assert not mysql.is_open(connection, caught.value)

    with pytest.raises(OperationalError):
        _in_a_block(write)
    connection.close()
    assert not Category.objects.exists()
    assert not Outbox.objects.exists()
