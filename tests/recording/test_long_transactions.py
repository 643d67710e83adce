"""A transaction of any length keeps a bounded part of its events in memory, and loses none."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction

import audit_log
from audit_log import testing
from audit_log.models import Outbox, Record
from audit_log.recording import losses, outbox, pending, spool, works
from tests.capture.statements import savepoint
from tests.shop.models import Category

pytestmark = pytest.mark.django_db(transaction=True)
LIMIT = 20


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few events are many."""
    monkeypatch.setattr(works, "MAX_WAITING", LIMIT)
    monkeypatch.setattr(pending, "MAX_WAITING", LIMIT)
    monkeypatch.setattr(works, "MAX_NAMED", LIMIT)
    pending.work_of(connection).settle()


def _make(first: int, end: int) -> None:
    for n in range(first, end):
        Category.objects.create(name=f"category {n}")


def _fail_after(first: int, end: int) -> None:
    """A block that is rolled back: a transaction, or a savepoint of one."""
    with suppress(ZeroDivisionError), transaction.atomic():
        _make(first, end)
        raise ZeroDivisionError


def _names() -> list[str]:
    testing.relay()
    rows = Record.objects.filter(target_type="shop.category", action="create").order_by("sequence")
    return [str(audit_log.contents(row)["target_label"]) for row in rows]


def _expected(*ranges: tuple[int, int]) -> list[str]:
    return [f"category {n}" for first, end in ranges for n in range(first, end)]


def test_long_transaction_is_recorded_in_full_and_in_order():
    work = pending.work_of(connection)
    most = 0
    with transaction.atomic():
        for n in range(5 * LIMIT + 3):
            _make(n, n + 1)
            most = max(most, len(work.items))
        assert Outbox.objects.count() == 5
    assert most < LIMIT
    assert work.written == []  # nobody asked for the events themselves
    assert sum(Outbox.objects.values_list("event_count", flat=True)) == 5 * LIMIT + 3
    assert _names() == _expected((0, 5 * LIMIT + 3))


def test_what_was_written_early_falls_with_the_transaction():
    _fail_after(0, 3 * LIMIT)
    assert Outbox.objects.count() == 0
    assert _names() == []
    _make(0, 1)
    assert _names() == _expected((0, 1))


@pytest.mark.parametrize("before", [0, 5, LIMIT, LIMIT + 5])
def test_what_was_written_early_falls_with_its_savepoint(before: int):
    """And what waited when the savepoint was made does not, nor does it change its place."""
    with transaction.atomic():
        _make(0, before)
        _fail_after(100, 100 + 2 * LIMIT + 1)
        with transaction.atomic():
            _make(200, 200 + 2 * LIMIT)
        _make(300, 300 + LIMIT)
    assert _names() == _expected((0, before), (200, 200 + 2 * LIMIT), (300, 300 + LIMIT))


def test_savepoint_of_the_projects_own():
    with transaction.atomic():
        _make(0, LIMIT + 5)
        sid = savepoint()
        _make(100, 100 + 3 * LIMIT)
        transaction.savepoint_rollback(sid)
        _make(200, 200 + 3 * LIMIT)
    assert _names() == _expected((0, LIMIT + 5), (200, 200 + 3 * LIMIT))


def test_transaction_that_goes_on_after_the_outbox_refused_loses_nothing(spool_dir: Any):
    """ON_FAILURE="allow": asked again now and then, and spooled after COMMIT."""
    with _broken_outbox():
        with transaction.atomic():
            _make(0, 3 * LIMIT)
        assert Category.objects.count() == 3 * LIMIT
        assert len(spool.waiting()) == 1
    assert losses.counts()["flush_failed"] >= 2
    assert _names() == _expected((0, 3 * LIMIT))


def test_outbox_that_is_back_by_then_takes_everything(monkeypatch: pytest.MonkeyPatch):
    original = outbox._insert_only
    refused: list[int] = []

    def refuse_once(*arguments: Any) -> None:
        if not refused:
            refused.append(1)
            raise DatabaseError("not now")
        original(*arguments)

    monkeypatch.setattr(outbox, "_insert_only", refuse_once)
    with transaction.atomic():
        _make(0, 4 * LIMIT)
    assert refused
    assert not spool.waiting()
    assert _names() == _expected((0, 4 * LIMIT))


class _broken_outbox:  # noqa: N801 - reads as what it is
    """The outbox under another name."""

    def __enter__(self) -> None:
        self._rename("audit_log_outbox", "away")

    def __exit__(self, *_: object) -> None:
        self._rename("away", "audit_log_outbox")

    def _rename(self, old: str, new: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {old} RENAME TO {new}")


@pytest.fixture
def spool_dir(settings: Any, tmp_path: Any) -> Any:
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "SPOOL_DIR": str(tmp_path / "spool")}
    return tmp_path / "spool"


def test_old_values_hold_though_rows_are_too_many_to_name():
    """A mark that grew too large says "any row": what was read behind it is taken back with it."""
    row = Category.objects.create(name="first")
    with suppress(ZeroDivisionError), transaction.atomic():
        Category.objects.filter(pk=row.pk).update(name="second")
        row = Category.objects.get(pk=row.pk)
        _make(0, 3 * LIMIT)
        again = Category.objects.get(pk=row.pk)
        raise ZeroDivisionError
    again.name = "third"
    again.save()
    testing.relay()
    update = Record.objects.get(action="update")
    assert audit_log.contents(update)["changes"]["name"][1] == "third"
    assert audit_log.contents(update)["changes"]["name"][0] != "second"


def test_taps_hear_of_what_was_dropped():
    with testing.capture_events() as events:
        _fail_after(0, 2 * LIMIT + 1)
        assert events == []
        with transaction.atomic():
            _make(0, 2 * LIMIT + 1)
    assert len(events) == 2 * LIMIT + 1


def test_failed_transaction_of_postgresql_is_left_alone(settle_error: Callable[[], None]):
    """`record()` in a transaction that can only roll back writes nothing and raises nothing."""
    with suppress(ZeroDivisionError), transaction.atomic():
        settle_error()
        for _ in range(2 * LIMIT):
            audit_log.record("probe.fired")
        raise ZeroDivisionError
    assert Outbox.objects.count() == 0


@pytest.fixture
def settle_error() -> Callable[[], None]:
    def fail() -> None:
        if connection.vendor != "postgresql":
            return
        with connection.cursor() as cursor, pytest.raises(DatabaseError):
            cursor.execute("SELECT nothing FROM nowhere")

    return fail
