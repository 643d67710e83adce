"""Whatever isolation the project asked for, the relay is in nobody's way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection

from audit_log import checks
from audit_log.delivery.claims import Relayed
from audit_log.delivery.relay import relay
from audit_log.ledger import writer
from audit_log.models import Outbox, Record
from tests.shop.models import Category

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "mysql", reason="Only there do gaps have locks."),
]


@pytest.fixture(params=["repeatable read", "serializable", None])
def isolation(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """What the project has in OPTIONS; None leaves it to the server."""
    options = connection.settings_dict["OPTIONS"]
    before = options["isolation_level"]
    connection.close()
    options["isolation_level"] = request.param
    yield request.param
    options["isolation_level"] = before
    connection.close()


def test_isolation_that_locks_gaps_is_warned_of(isolation: str | None):
    """repeatable_read_mysql"""
    (warning,) = checks.check_isolation()
    assert warning.id == "audit_log.W004"
    assert "'default' run under" in warning.msg
    assert '"read committed"' in str(warning.hint)


def test_read_committed_is_not_warned_of():
    assert checks.check_isolation() == []


def test_relay_under_repeatable_read_lets_others_insert(
    isolation: str | None, monkeypatch: pytest.MonkeyPatch, settle
):
    """repeatable_read_mysql: the gaps between the claimed rows stay free."""
    claimed, go_on = threading.Event(), threading.Event()
    original = writer.write

    def paused(prepared: Any, using: str) -> Any:
        claimed.set()
        assert go_on.wait(300)
        return original(prepared, using)

    def work() -> Relayed:
        try:
            return relay()
        finally:
            connection.close()

    for n in range(3):
        Category.objects.create(name=f"before {n}")
    monkeypatch.setattr(writer, "write", paused)
    with ThreadPoolExecutor(1) as pool:
        relaying = pool.submit(work)
        try:
            assert claimed.wait(300)
            with connection.cursor() as cursor:
                cursor.execute("SET SESSION innodb_lock_wait_timeout = 1")
            Category.objects.create(name="meanwhile")  # 1205 if it had to wait for the relay
            assert Outbox.objects.count() == 4
        finally:
            go_on.set()
        assert relaying.result(300).events >= 3
    settle()
    assert Record.objects.filter(action="create").count() == 4
