"""BEGIN that travels with the first statement, COMMIT with the last, on MariaDB and MySQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

import audit_log
from audit_log.models import Outbox
from audit_log.recording import spool
from tests.capture.statements import kinds, statements
from tests.settings import DATABASE
from tests.shop.models import Category, Stock

pytestmark = [
    pytest.mark.skipif(DATABASE != "mysql", reason="MariaDB's and MySQL's own"),
    pytest.mark.django_db(transaction=True),
]


def _in_transaction() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@in_transaction")
        return bool(cursor.fetchone()[0])


def test_save_in_autocommit_turns_nothing_off_and_on():
    category = Category.objects.create(name="old")
    category.name = "new"
    with statements() as seen:
        category.save()
        assert connection.connection.get_autocommit()
    assert kinds(seen) == ["BEGIN UPDATE", "INSERT COMMIT"]
    assert connection.get_autocommit()
    assert not _in_transaction()
    assert not hasattr(connection, "_start_transaction_under_autocommit")


def test_refused_write_rolls_back_and_the_connection_goes_on():
    category = Category.objects.create(name="n")
    before = Outbox.objects.count()
    with pytest.raises(IntegrityError):
        Category(pk=category.pk, name="again").save(force_insert=True)
    assert connection.get_autocommit()
    assert not _in_transaction()
    assert Outbox.objects.count() == before
    category.name = "after"
    category.save()
    assert Outbox.objects.count() == before + 1


def test_begin_that_fails_leaves_the_connection_as_it_was(monkeypatch: pytest.MonkeyPatch):
    from MySQLdb import OperationalError

    category = Category.objects.create(name="n")

    driver = type(connection.connection)
    query = driver.query

    def gone(self: Any, text: Any) -> Any:
        if bytes(text).startswith(b"BEGIN"):
            raise OperationalError(2006, "Server has gone away")
        return query(self, text)

    with monkeypatch.context() as patched:
        patched.setattr(driver, "query", gone)
        category.name = "never"
        with pytest.raises(DatabaseError):
            category.save()
    assert connection.get_autocommit()
    assert not hasattr(connection, "_start_transaction_under_autocommit")
    category.name = "after"
    category.save()
    assert Category.objects.get(pk=category.pk).name == "after"


def test_where_the_project_is_out_of_autocommit_nothing_is_begun():
    connection.set_autocommit(False)
    try:
        with statements() as seen:
            Category.objects.create(name="n")
            assert kinds(seen) == ["INSERT"]
            transaction.commit()
    finally:
        connection.set_autocommit(True)
    assert kinds(seen)[:2] == ["INSERT", "INSERT COMMIT"]
    assert Category.objects.count() == 1


def test_create_reads_its_key_from_the_second_result():
    with statements() as seen:
        category = Category.objects.create(name="n")
    assert kinds(seen) == ["BEGIN INSERT", "INSERT COMMIT"]
    assert Category.objects.get() == category


def test_event_without_a_change_is_one_message():
    with statements() as seen:
        audit_log.record("report.printed")
    assert kinds(seen) == ["BEGIN INSERT COMMIT"]
    assert Outbox.objects.count() == 1


def test_event_alone_that_the_outbox_refuses_is_spooled(settings: Any, tmp_path: Path):
    """An error that does not say whether anything had begun."""
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "SPOOL_DIR": str(tmp_path / "spool")}
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TRIGGER full BEFORE INSERT ON audit_log_outbox FOR EACH ROW"
            " SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'full'"
        )
    try:
        audit_log.record("report.printed")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TRIGGER full")
    assert len(spool.waiting()) == 1
    assert not _in_transaction()


def test_write_that_fails_before_it_is_sent_leaves_nothing_due():
    """Else the next transaction would be committed by a BEGIN in its middle."""
    with pytest.raises(ValueError, match="expected a number"):
        Stock(name="s", amount="many").save()
    assert "audit_log_begin_due" not in connection.__dict__


def test_commit_after_ours_is_sent_again():
    connection.set_autocommit(False)
    try:
        Category.objects.create(name="1")
        connection.set_autocommit(True)
        with statements() as seen, transaction.atomic():
            Category.objects.filter(name="none").exists()
        assert kinds(seen)[-1] == "COMMIT"
    finally:
        connection.set_autocommit(True)


def test_logged_queries_are_those_of_the_project_as_they_were():
    category = Category.objects.create(name="old")
    category.name = "new"
    with CaptureQueriesContext(connection) as queries, statements() as seen:
        category.save()
    assert kinds(seen) == ["BEGIN", "UPDATE", "INSERT", "COMMIT"]
    assert [query["sql"].split()[0] for query in queries] == ["UPDATE"]


def test_constraint_that_the_second_statement_breaks_is_djangos_error():
    with pytest.raises(IntegrityError):  # the driver's OperationalError 1048
        Category.objects.create(name=None)  # type: ignore[misc]
    assert not _in_transaction()
    assert not Outbox.objects.exists()


@pytest.fixture
def one_statement_a_message() -> Iterator[None]:
    options = connection.settings_dict["OPTIONS"]
    connection.close()
    connection.settings_dict["OPTIONS"] = {**options, "multi_statements": False}
    yield
    connection.close()
    connection.settings_dict["OPTIONS"] = options


@pytest.mark.usefixtures("one_statement_a_message")
def test_driver_that_takes_one_statement_gets_one_at_a_time():
    category = Category.objects.create(name="old")
    category.name = "new"
    with statements() as seen:
        category.save()
    assert kinds(seen) == ["BEGIN", "UPDATE", "INSERT", "COMMIT"]
    assert Outbox.objects.count() == 2
