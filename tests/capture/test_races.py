"""What others do between our look at a row and the statement of the project."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction

from audit_log.capture import before, deletes, selections, updates
from audit_log.events import Event, Redaction
from audit_log.recording import losses
from tests.capture.folding import unseen
from tests.settings import DATABASE
from tests.shop.models import Restaurant, Stock

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(DATABASE == "sqlite", reason="SQLite has one writer at a time."),
]


def _elsewhere(call: Callable[[], object]) -> None:
    """Committed by another connection, and not on record."""

    def work() -> None:
        try:
            with unseen():
                call()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result(300)


def _then(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, call: Callable[[], object]
) -> None:
    """Let others do this as soon as we have looked."""
    look = getattr(owner, name)

    def look_and_wait(*args: Any, **options: Any) -> Any:
        found = look(*args, **options)
        monkeypatch.setattr(owner, name, look)
        _elsewhere(call)
        return found

    monkeypatch.setattr(owner, name, look_and_wait)


def _unknown(*names: str) -> set[Redaction]:
    return {Redaction(f"changes.{name}.0", "not_loaded") for name in names}


def test_save_of_a_row_that_came_in_after_we_looked_claims_no_old_values(
    events: list[Event], monkeypatch: pytest.MonkeyPatch, settings: Any
):
    """Deleted, and made again by others: what the instance had loaded was another row."""
    asked = {"shop.Restaurant": {"before": "database"}}
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "MODELS": ["*", asked]}
    row = Restaurant.objects.create(name="ours", stars=1)
    _elsewhere(Restaurant.objects.filter(pk=row.pk).delete)
    again = Restaurant(pk=row.pk, name="theirs", stars=7)
    _then(monkeypatch, before, "read_rows", again.save)
    row.stars = 2
    row.save()
    assert (events[-1].action, events[-1].changes) == (
        "update",
        {"name": [None, "ours"], "stars": [None, 2]},
    )
    assert set(events[-1].redactions) == _unknown("name", "stars")


def test_deletion_of_an_object_that_came_in_after_we_looked_is_recorded(
    events: list[Event], monkeypatch: pytest.MonkeyPatch
):
    """Of which object is certain; what it held nobody saw."""
    row = Stock.objects.create(name="ours")
    key = row.pk
    _elsewhere(Stock.objects.filter(pk=key).delete)
    _then(monkeypatch, deletes._Rows, "collect", Stock(pk=key, name="theirs").save)
    assert row.delete() == (1, {"shop.Stock": 1})
    (event,) = events[1:]
    assert event.target is not None
    assert (event.action, event.target.id, event.outcome) == ("delete", str(key), "success")
    assert set(event.changes or {}) == {"name", "amount", "note"}
    assert set(event.redactions) == _unknown("name", "amount", "note")


def test_deleted_rows_that_came_in_after_we_looked_are_counted(
    events: list[Event], monkeypatch: pytest.MonkeyPatch
):
    row = Stock.objects.create(name="seen")
    _then(monkeypatch, deletes._Rows, "find", lambda: Stock.objects.create(name="late"))
    assert Stock.objects.all().delete() == (2, {"shop.Stock": 2})
    assert [(e.action, e.target and e.target.id, e.affected) for e in events[1:]] == [
        ("delete", str(row.pk), None),
        ("delete", None, 1),
    ]
    assert events[-1].data == {"bulk": {"count": 1, "fields": []}}


@contextmanager
def _held(key: int) -> Iterator[threading.Event]:
    """A row that another transaction has locked until the event is set, or the block ends."""
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            Stock.objects.filter(pk=key).update(note="held")
            held.set()
            let_go.wait(300)
            transaction.set_rollback(True)

    thread = threading.Thread(target=_elsewhere, args=(hold,))
    thread.start()
    assert held.wait(300)
    try:
        yield let_go
    finally:
        let_go.set()
        thread.join(300)


def _wait_briefly() -> None:
    sql = "SET SESSION innodb_lock_wait_timeout = 1"
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '50ms'" if DATABASE == "postgres" else sql)


@pytest.mark.parametrize("on_failure", ["allow", "block"])
def test_lock_that_is_not_to_be_had_is_the_callers_error(
    events: list[Event], monkeypatch: pytest.MonkeyPatch, settings: Any, on_failure: str
):
    """Went the UPDATE on without what we could not see, nobody could say what it did."""
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "ON_FAILURE": on_failure}
    row = Stock.objects.create(name="s")
    lost, loaded = losses.counts(), selections.loaded
    with _held(row.pk) as let_go:

        def loaded_or_let_go(*arguments: Any) -> Any:
            try:
                return loaded(*arguments)
            finally:
                let_go.set()  # from now on the UPDATE would find it free

        monkeypatch.setattr(updates, "loaded", loaded_or_let_go)
        with transaction.atomic():
            _wait_briefly()
            with pytest.raises(OperationalError):
                Stock.objects.filter(pk=row.pk).update(amount=5)
            assert connection.needs_rollback
    assert losses.counts() == lost
    assert len(events) == 1
    assert Stock.objects.get().amount == 0
    connection.close()  # and with it how long it waits
