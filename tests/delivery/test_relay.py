"""The relay itself: bounds, isolation, deadlocks, several databases."""

from __future__ import annotations

import gc
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import OperationalError, connection, connections, transaction
from django.test.utils import CaptureQueriesContext

from audit_log import context, schedule, tasks
from audit_log.delivery import claims, outboxes
from audit_log.delivery import relay as delivery
from audit_log.delivery.claims import Relayed
from audit_log.delivery.relay import relay, relay_everywhere, waiting
from audit_log.ledger import heads, writer
from audit_log.models import Outbox, Record, Stream
from audit_log.reading.contents import contents
from audit_log.recording import buffer, losses, outbox
from tests.shop.models import Category, Unlisted

BOTH = ["default", "other"]


def _names() -> list[str]:
    rows = Record.objects.filter(action="create").order_by("sequence")
    return [contents(row)["changes"]["name"][1] for row in rows]


def test_claim_is_bounded_and_never_empty():
    within = claims._within_bounds
    assert within([(1, 1, 9_000_000), (2, 1, 10)]) == [1]
    assert within([(1, 1, 10), (2, 1, 9_000_000)]) == [1]
    assert within([(n, 500, 10) for n in range(6)]) == [0, 1, 2, 3]
    assert within([(n, 1, 1_000_000) for n in range(6)]) == [0, 1, 2, 3]
    assert within([]) == []


@pytest.mark.django_db(transaction=True)
def test_batch_larger_than_a_claim_is_relayed_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(outbox, "_ROW_BYTES", 10_000_000)
    events = [
        context.new_event("probe.big", source="explicit", data={"n": hex_, "key": "x"})
        for hex_ in _incompressible(90)
    ]
    (row,) = outbox.rows_of(events)
    Outbox.objects.create(created_at=datetime.now(UTC), event_count=90, payload=row.payload)
    assert len(row.payload) > claims.MAX_BYTES / 2
    monkeypatch.setattr(claims, "MAX_BYTES", 1_000)
    Category.objects.create(name="behind")
    moved = relay()
    assert (moved.batches, moved.events) == (2, 91)


def _incompressible(count: int) -> Iterator[str]:
    chance = random.Random(1)
    for _ in range(count):
        yield "".join(chance.choices("abcdefghijklmnopqrstuvwxyzABCDEFGHIJ0123456789", k=50_000))


@pytest.mark.django_db(transaction=True)
def test_seconds_bound_a_call_and_progress_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(claims, "MAX_ROWS", 1)
    for n in range(4):
        Category.objects.create(name=str(n))
    seen: list[int] = []

    def note(total: Relayed) -> None:
        seen.append(total.events)

    assert relay(seconds=0, progress=note).events == 1
    assert waiting() == 3
    assert relay(progress=note).events == 3
    assert seen == [1, 1, 2, 3, 3]
    assert _names() == ["0", "1", "2", "3"]


@pytest.mark.django_db(transaction=True)
def test_relay_that_fails_after_storing_leaves_batch_and_ledger_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
):
    Category.objects.create(name="once")

    def failing(self: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(claims.Claim, "_put_failures_apart", failing)
        with pytest.raises(KeyboardInterrupt):
            relay()
    assert not Record.objects.exists()
    assert Outbox.objects.count() == 1
    assert Stream.objects.filter(size__gt=0).count() == 0
    relay()
    assert _names() == ["once"]


@pytest.mark.parametrize("on", [True, False])
@pytest.mark.django_db(transaction=True)
def test_garbage_collector_is_left_as_it_was(on: bool, monkeypatch: pytest.MonkeyPatch):
    seen: list[bool] = []

    def failing(prepared: Any, using: str) -> Any:
        seen.append(gc.isenabled())
        raise KeyboardInterrupt

    monkeypatch.setattr(writer, "write", failing)
    Category.objects.create(name="once")
    was_on = gc.isenabled()
    try:
        gc.enable() if on else gc.disable()
        with pytest.raises(KeyboardInterrupt):
            relay()
        assert (seen, gc.isenabled()) == ([False], on)
    finally:
        gc.enable() if was_on else gc.disable()


@pytest.mark.django_db(transaction=True)
def test_transient_error_is_retried(monkeypatch: pytest.MonkeyPatch):
    original, failures = writer.write, ["deadlock detected", "database is locked"]

    def failing(prepared: Any, using: str) -> Any:
        if failures:
            raise OperationalError(failures.pop())
        return original(prepared, using)

    monkeypatch.setattr(writer, "write", failing)
    Category.objects.create(name="once")
    assert relay().events == 1
    assert failures == []
    assert _names() == ["once"]


@pytest.mark.django_db(transaction=True)
def test_victim_of_a_real_deadlock_tries_again(monkeypatch: pytest.MonkeyPatch):
    """deadlock."""
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one lock")
    heads.ensure([heads.DEFAULT], "default")
    Category.objects.create(name="contended")
    holds_head, go_on = threading.Event(), threading.Event()
    original, met = writer.write, []

    def write(prepared: Any, using: str) -> Any:
        met.append(True)
        go_on.set()  # the relay holds the batch by now
        return original(prepared, using)

    monkeypatch.setattr(writer, "write", write)
    with ThreadPoolExecutor(1) as pool, connection.cursor() as cursor:
        rival = pool.submit(_lock_head_then_batch, holds_head, go_on)
        assert holds_head.wait(300)
        if connection.vendor == "postgresql":
            cursor.execute("SET deadlock_timeout = '50ms'")
        try:
            assert relay().events == 1
        finally:
            go_on.set()
            if connection.vendor == "postgresql":
                cursor.execute("RESET deadlock_timeout")
        rival.result(300)
    assert len(met) > 1, "there was no deadlock"
    assert _names() == ["contended"]


def _lock_head_then_batch(holds_head: threading.Event, go_on: threading.Event) -> None:
    """The other way round than the relay, and not to be the victim."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute("SET LOCAL deadlock_timeout = '600s'")  # the less patient gives up
            else:
                Unlisted.objects.bulk_create(Unlisted(name="x") for _ in range(500))  # the lighter
            heads.lock([heads.DEFAULT], "default")
            holds_head.set()
            go_on.wait(300)
            list(Outbox.objects.select_for_update())
    finally:
        connection.close()


@contextmanager
def _isolation(level: Any) -> Iterator[None]:
    options = connection.settings_dict["OPTIONS"]
    before = {name: options[name] for name in ["isolation_level"] if name in options}
    connection.close()
    options["isolation_level"] = level
    try:
        yield
    finally:
        del options["isolation_level"]
        options.update(before)
        connection.close()


def _level(name: str) -> Any:
    if connection.vendor == "mysql":
        return name
    from psycopg import IsolationLevel

    return IsolationLevel[name.replace(" ", "_").upper()]


def _write_apart() -> None:
    try:
        Unlisted.objects.create(name="meanwhile")
    finally:
        connection.close()


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
@pytest.mark.django_db(transaction=True)
def test_stricter_isolation_of_the_project_is_not_the_relays(level: str):
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has no levels of isolation")
    with _isolation(_level(level)):
        Category.objects.create(name="strict")
        seen = []
        original = writer.write

        def write(prepared: Any, using: str) -> Any:
            with ThreadPoolExecutor(1) as pool:
                seen.append(Unlisted.objects.count())
                pool.submit(_write_apart).result(300)
                seen.append(Unlisted.objects.count())  # what others commit is seen at once
            return original(prepared, using)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(writer, "write", write)
            relay()
        assert seen == [0, 1]
        assert _names() == ["strict"]


@pytest.mark.django_db(transaction=True)
def test_relay_skips_what_another_has_claimed(monkeypatch: pytest.MonkeyPatch):
    """While one relay is between claim and commit, another neither waits nor takes its rows."""
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one relay at a time")
    Category.objects.create(name="claimed")
    with transaction.atomic():
        assert len(claims._claim("default", None, locked=True)) == 1

        def other() -> Relayed:
            try:
                return relay()
            finally:
                connection.close()

        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(other).result(300) == Relayed()
    relay()
    assert _names() == ["claimed"]


@pytest.mark.django_db(transaction=True)
def test_buffered_events_of_this_process_go_first():
    buffer.enqueue(context.new_event("probe.buffered", source="request"))
    assert relay().events == 1
    assert Record.objects.get().action == "probe.buffered"


@pytest.mark.django_db(transaction=True)
def test_buffer_that_cannot_be_written_keeps_its_events_and_stops_no_relay(
    monkeypatch: pytest.MonkeyPatch,
):
    Category.objects.create(name="waiting")
    buffer.enqueue(context.new_event("probe.buffered", source="request"))

    def failing(events: Any) -> None:
        raise OperationalError("not now")

    with monkeypatch.context() as patched:
        patched.setattr(buffer, "_write", failing)
        assert relay().events == 1
    assert _names() == ["waiting"]
    assert relay().events == 1
    assert Record.objects.filter(action="probe.buffered").count() == 1


@pytest.mark.django_db(transaction=True, databases=BOTH)
def test_batches_of_another_database_reach_the_ledger():
    """multi_db."""
    outboxes.forget()
    with transaction.atomic(using="other"), transaction.atomic():
        Category.objects.using("other").create(name="there")
        Category.objects.create(name="never")
        transaction.set_rollback(True)
    assert Outbox.objects.using("other").count() == 1
    assert not Outbox.objects.exists()
    assert outboxes.aliases() == BOTH
    assert relay_everywhere().events == 1
    assert _names() == ["there"]
    assert not Record.objects.using("other").exists()
    assert not Outbox.objects.using("other").exists()


@pytest.mark.django_db(transaction=True, databases=BOTH)
def test_kill_between_the_two_databases_repeats_what_the_ledger_drops(
    monkeypatch: pytest.MonkeyPatch,
):
    """worker_kill_between_dbs."""
    Category.objects.using("other").create(name="there")

    def killed(self: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(claims.Claim, "_put_failures_apart", killed)
        with pytest.raises(KeyboardInterrupt):
            relay("other")
    assert _names() == ["there"]
    assert Outbox.objects.using("other").count() == 1
    moved = relay("other")
    assert (moved.events, moved.repeated) == (0, 1)
    assert _names() == ["there"]
    assert not Outbox.objects.using("other").exists()


@pytest.mark.django_db(transaction=True, databases=BOTH)
def test_kill_in_the_middle_of_the_ledger_leaves_none_of_a_foreign_batch(
    monkeypatch: pytest.MonkeyPatch,
):
    Category.objects.using("other").create(name="there")

    def killed(self: Any, **_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Stream, "save", killed)  # the last step: the records are inserted
        with pytest.raises(KeyboardInterrupt):
            relay("other")
    assert not Record.objects.exists()
    relay("other")
    assert _names() == ["there"]


@pytest.mark.django_db(transaction=True, databases=BOTH)
def test_database_that_is_down_stops_no_other(monkeypatch: pytest.MonkeyPatch):
    outboxes.forget()
    Category.objects.create(name="here")
    original = delivery._round

    def failing(using: str) -> Relayed:
        if using == "other":
            raise OperationalError("other is down")
        return original(using)

    monkeypatch.setattr(delivery, "_round", failing)
    before = losses.counts().get("relay_failed", 0)
    assert relay_everywhere().events == 1
    assert losses.counts()["relay_failed"] == before + 1


@pytest.mark.django_db(transaction=True, databases=BOTH)
def test_database_without_an_outbox_and_a_replica_are_left_alone(
    monkeypatch: pytest.MonkeyPatch,
):
    outboxes.forget()
    try:
        monkeypatch.setitem(connections["other"].settings_dict["TEST"], "MIRROR", "default")
        assert outboxes.aliases() == ["default"]
        monkeypatch.undo()
        outboxes.forget()
        table = Outbox._meta.db_table
        with connections["other"].cursor() as cursor:
            cursor.execute(f"ALTER TABLE {table} RENAME TO {table}_away")
        try:
            assert outboxes.aliases() == ["default"]
            with CaptureQueriesContext(connections["other"]) as queries:
                assert outboxes.aliases() == ["default"]
            assert len(queries) == 0
        finally:
            with connections["other"].cursor() as cursor:
                cursor.execute(f"ALTER TABLE {table}_away RENAME TO {table}")
    finally:
        outboxes.forget()


@pytest.mark.django_db(transaction=True, databases=BOTH)
def test_task_takes_nothing_and_moves_everything():
    """forged_task: there is no argument to forge."""
    Category.objects.create(name="here")
    Category.objects.using("other").create(name="there")
    outboxes.forget()
    task: Any = tasks.relay
    with pytest.raises(TypeError):
        task("anything")
    task()
    assert sorted(_names()) == ["here", "there"]


@pytest.mark.parametrize("queue", [None, "audit"])
def test_beat_sweeps_and_its_messages_do_not_pile_up(queue: str | None, settings: Any):
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "QUEUE": queue}
    entries = schedule.beat_schedule()
    assert {entry["task"] for entry in entries.values()} == {
        tasks.relay.name,
        tasks.checkpoint.name,
        tasks.alerts.name,
        tasks.retention.name,
    }
    assert entries["audit_log.relay"]["schedule"] == 5.0
    for entry in entries.values():
        nightly = entry["task"] == tasks.retention.name
        assert entry["options"]["expires"] <= (86_400 if nightly else 60)
        assert entry["options"].get("queue") == queue
        assert "args" not in entry


@pytest.mark.django_db(transaction=True)
def test_concurrent_writers_and_a_relay_are_exact():
    """sqlite_busy: nobody sees "locked"."""
    done = threading.Event()

    def write(n: int) -> None:
        try:
            for m in range(25):
                Category.objects.create(name=f"{n}.{m}")
        finally:
            connection.close()

    def relay_on() -> None:
        try:
            while not done.wait(0.01):
                relay()
        finally:
            connection.close()

    with ThreadPoolExecutor(5) as pool:
        relaying = pool.submit(relay_on)
        try:
            list(pool.map(write, range(4), timeout=300))
        finally:
            done.set()
        relaying.result(300)
    relay()
    assert sorted(_names()) == sorted(f"{n}.{m}" for n in range(4) for m in range(25))
