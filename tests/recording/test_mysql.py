"""Transactions of ours that begin by BEGIN, on MariaDB and MySQL."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction

from audit_log.models import Outbox
from tests.capture.statements import kinds, statements
from tests.settings import DATABASE
from tests.shop.models import Category

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
    assert kinds(seen) == ["BEGIN", "UPDATE", "INSERT", "COMMIT"]
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

    def gone(*_: Any) -> None:
        raise OperationalError(2006, "Server has gone away")

    driver = type(connection.connection)
    with monkeypatch.context() as patched:
        patched.setattr(driver, "begin", gone)
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
    assert kinds(seen)[:3] == ["INSERT", "INSERT", "COMMIT"]
    assert Category.objects.count() == 1
