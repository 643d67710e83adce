"""Out of the database: only what is proved elsewhere, and what is left still proves."""

from __future__ import annotations

import os
import re
import threading
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from django.db import connection, connections
from django.db.models.signals import post_delete, pre_delete
from django.test.utils import CaptureQueriesContext

from audit_log import health, testing
from audit_log.delivery.relay import relay
from audit_log.exceptions import RetentionRefused, StoreError
from audit_log.ledger import checkpoints, heads
from audit_log.ledger.merkle import Frontier
from audit_log.ledger.verification import verify
from audit_log.models import ArchivePart, Checkpoint, Outbox, Record, Stream, Tile
from audit_log.retention import archive, purge
from audit_log.retention.parts import manifest_key
from tests.ledger.building import head, sql, write
from tests.retention.old_records import (
    bookkept,
    days,
    event_of,
    files,
    noon,
    numbers,
    parts,
    states,
)

pytestmark = [pytest.mark.slow, pytest.mark.django_db]


def archived(*counts: tuple[int, int]) -> None:
    days(*counts)
    result = archive.run()
    assert result.failures == []


def assert_proved(stream: str = "default") -> None:
    """Nothing is found, and the last checkpoint that holds covers the whole stream."""
    result = verify()
    assert result.findings == []
    assert result.signed[stream] == result.streams[stream]


def grow(count: int = 1) -> None:
    """More records, and a checkpoint that has to be consistent with the one before."""
    write([event_of(noon(), changes={"n": [None, n]}) for n in range(count)])
    checkpoints.sign_all()


def test_what_is_past_its_days_leaves_and_the_rest_stays(folder):
    archived((40, 10), (31, 5), (20, 7), (0, 3))
    result = purge.run()
    assert (result.total, result.records, result.failures) == (15, {"default": 15}, [])
    assert numbers() == list(range(15, 25))
    assert states() == ["purged", "purged", "purgeable"]
    assert head().purged == 15
    assert (folder / parts()[0].key).exists()
    assert_proved()
    grow()
    assert_proved()
    assert purge.run().total == 0


def test_purge_is_on_record_with_how_far_every_stream_is_purged(folder):
    days((35, 4), stream=heads.BOOKKEEPING)
    archived((40, 10), (31, 5), (0, 3))
    purge.run()
    relay()
    first, second, third = bookkept("audit_log.purged")
    part = parts()[1]
    assert third == {
        "stream": "default",
        "first": 10,
        "last": 14,
        "count": 5,
        "day": part.day.isoformat(),
        "store": f"file://{folder}",
        "key": part.key,
        "manifest_sha256": part.manifest_sha256,
        "boundaries": {"audit_log": 4, "default": 15},
    }
    assert first["boundaries"] == {"audit_log": 4, "default": 0}
    assert second["boundaries"] == {"audit_log": 4, "default": 10}
    row = Record.objects.filter(action="audit_log.purged").latest("sequence")
    assert (row.redactions, row.actor_type, row.actor_id) == (None, "system", "audit_log.retention")


def test_purge_is_accounted_for_before_its_record_is_relayed(folder):
    archived((40, 10), (0, 3))
    purge.run()
    assert Outbox.objects.exists()
    assert_proved()
    relay()
    assert not Outbox.objects.exists()
    assert_proved()


def test_purge_is_accounted_for_also_by_a_parked_batch(folder):
    archived((40, 10), (0, 3))
    purge.run()
    Outbox.objects.update(parked_at=noon(), parked_reason="for a test")
    assert_proved()


def test_late_events_are_parked_once_their_time_is_purged(folder):
    archived((40, 3), (0, 3))
    purge.run()
    through = head().purged_through
    assert through == noon() - timedelta(days=40) + timedelta(milliseconds=2)
    late, on_time = event_of(through), event_of(through + timedelta(milliseconds=3))
    written = write([late, on_time])
    assert [(event, why[:4]) for event, why in written.refused] == [(late, "late")]
    assert numbers() == [3, 4, 5, 6]


def test_record_that_came_from_the_future_does_not_make_all_others_late(folder, monkeypatch):
    """Nor does it keep its part, and all behind it, in the database until then."""
    then = noon() - timedelta(days=40)

    class Then(datetime):
        @classmethod
        def now(cls, tz=None):
            return then + timedelta(hours=1)

    with monkeypatch.context() as patched:
        patched.setattr("audit_log.ledger.writer.datetime", Then)
        write([event_of(then), event_of(noon() + timedelta(days=400)), event_of(then)])
    archived((38, 3), (0, 3))
    assert purge.run().total == 6
    assert head().purged_through == noon() - timedelta(days=38) + timedelta(milliseconds=2)
    assert_proved()


@pytest.mark.parametrize("signed_later", [False, True])
@pytest.mark.parametrize("purged", [1, 2, 254, 255, 256, 257, 300, 511, 512, 513, 600])
def test_every_size_of_what_is_purged_leaves_a_tree_that_proves(folder, purged, signed_later):
    """The last checkpoint may end right where the purge does, in a tile that goes or that stays."""
    days((40, purged))
    if signed_later:
        grow(20)
    assert archive.run(stream="default").failures == []
    assert purge.run(stream="default", override_brake=True).failures == []
    assert head().purged == purged
    left = Tile.objects.filter(stream="default", level=0).order_by("index")
    assert list(left.values_list("index", flat=True)) == list(
        range(purged // 256, head().size // 256)
    )
    assert_proved()
    for count in (1, 255, 300):
        grow(count)
        assert_proved()


def test_two_purges_one_after_the_other_leave_a_tree_that_proves(folder):
    archived((40, 300), (39, 300), (38, 200), (0, 10))
    for purged in (300, 600, 800):
        ArchivePart.objects.filter(first__gte=purged).update(state="recorded")
        purge.run(override_brake=True)
        assert head().purged == purged
        assert_proved()
        ArchivePart.objects.filter(state="recorded").update(state="purgeable")
        grow(77)
        assert_proved()


@pytest.mark.parametrize("more", [0, 10, 250, 256])
def test_above_the_leaves_the_tree_stays_whole(folder, more):
    """A level of the tree that has full tiles of its own, behind 65,536 leaves."""
    purged = 65_536 + more
    tree = Frontier()
    tiles = [t for t in tree.extend([os.urandom(32) for _ in range(purged)]) if t.level]
    assert [(t.level, t.index) for t in tiles] == [(1, 0)]
    Stream.objects.create(name="default", size=purged, purged=purged, partial=tree.partial)
    Tile.objects.create(stream="default", level=1, index=0, hashes=tiles[0].hashes)
    said = {"boundaries": {"default": purged}}
    write([event_of(noon(), action="audit_log.purged", data=said)], heads.BOOKKEEPING)
    checkpoints.sign_all()
    assert_proved()
    archived((40, 300), (0, 3))
    assert purge.run().total == 300
    assert head().purged == purged + 300
    assert Tile.objects.filter(stream="default", level=1).count() == 1
    for count in (1, 255, 300):
        assert_proved()
        grow(count)
    assert_proved()


def test_only_the_beginning_of_a_stream_is_purged(folder):
    archived((40, 5), (39, 5), (38, 5))
    second = parts()[1]
    ArchivePart.objects.filter(pk=second.pk).update(state="recorded")
    assert purge.run().total == 5
    assert numbers() == list(range(5, 15))
    assert states() == ["purged", "recorded", "purgeable"]


def test_younger_part_keeps_older_ones_behind_it(folder):
    """A backfill behind younger records goes when they go."""
    archived((20, 5), (400, 5), (0, 1))
    assert [p.day for p in parts()] == [(noon() - timedelta(days=d)).date() for d in (20, 400)]
    assert purge.due().parts == []


def test_rows_are_deleted_in_batches_each_a_transaction(folder, monkeypatch):
    """J1."""
    monkeypatch.setattr(purge, "BATCH", 4)
    archived((40, 10), (0, 1))
    seen: list[tuple[str, int, int, int]] = []
    purge.run(progress=lambda *step: seen.append((*step, head().purged)))
    assert seen == [("default", n, 10, n) for n in (4, 8, 10)]


def test_ledger_holds_before_during_and_after_a_purge(folder, monkeypatch):
    monkeypatch.setattr(purge, "BATCH", 100)
    archived((40, 700), (0, 50))
    looks = 0

    def look(*_: object) -> None:
        nonlocal looks
        looks += 1
        assert_proved()
        if looks % 2:
            relay()
        grow(10)
        assert_proved()

    look()
    purge.run(override_brake=True, progress=look)
    assert looks == 8
    look()


def test_verification_that_a_purge_overtakes_goes_on_behind_it(folder, monkeypatch):
    """It has read the first tile when the purge takes what comes next."""
    monkeypatch.setattr(purge, "BATCH", 150)
    archived((40, 1_300), (0, 50))
    purged: list[int] = []

    def overtake(_name: str, done: int, _size: int) -> None:
        if not purged:
            purged.append(done)
            purge.run(override_brake=True)
        elif len(purged) == 1:
            purged.append(done)

    result = verify(stream="default", progress=overtake)
    assert result.findings == []
    assert result.purged == {"default": 1_300}
    assert result.signed == {"default": 1_350}
    assert purged[0] == 256
    assert purged[1] > 1_300


@pytest.mark.django_db(transaction=True)
def test_verification_beside_a_purge_finds_nothing(folder, monkeypatch):
    monkeypatch.setattr(purge, "BATCH", 60)
    archived((40, 3_000), (39, 2_000), (0, 300))
    failures: list[BaseException] = []

    def delete() -> None:
        try:
            purge.run(override_brake=True)
        except BaseException as error:
            failures.append(error)
            raise
        finally:
            connections.close_all()

    thread = threading.Thread(target=delete)
    thread.start()
    purged = []
    while thread.is_alive():
        result = verify()
        assert result.findings == []
        purged.append(result.purged["default"])
    thread.join()
    assert failures == []
    assert numbers() == list(range(5_000, 5_300))
    assert purged == sorted(purged)
    assert_proved()


def test_purge_stopped_half_way_goes_on_with_the_next_run(folder, monkeypatch):
    """J1, restartable."""
    monkeypatch.setattr(purge, "BATCH", 4)
    archived((40, 10), (0, 1))

    class Stop(Exception):
        pass

    def stop(_name: str, done: int, _total: int) -> None:
        if done == 8:
            raise Stop

    with pytest.raises(Stop):
        purge.run(progress=stop)
    assert states() == ["purging"]
    assert numbers() == [8, 9, 10]
    assert_proved()
    assert purge.due().records == {"audit_log": 0, "default": 2}
    assert purge.run().total == 2
    assert (states(), numbers()) == (["purged"], [10])
    relay()
    assert len(bookkept("audit_log.purged")) == 1
    assert_proved()


@pytest.mark.parametrize("gone", ["part", "manifest"])
def test_records_stay_whose_part_is_gone_from_the_store(folder, gone):
    """s3_deleted_after_verify."""
    archived((40, 5), (0, 1))
    key = parts()[0].key
    (folder / (key if gone == "part" else manifest_key(key))).unlink()
    result = purge.run()
    assert result.total == 0
    assert "is not there: it was moved or deleted" in result.failures[0]
    assert (states(), len(numbers())) == (["purgeable"], 6)
    assert any("is not there" in trouble for trouble in health.measure().troubles)


@pytest.mark.parametrize("pattern", ["*.ndjson.gz", "*.manifest.json"])
def test_records_stay_whose_part_was_altered_in_the_store(folder, pattern):
    archived((40, 5), (39, 5), (0, 1))
    path = files(folder / "default", pattern)[1]
    path.write_bytes(path.read_bytes().replace(b"1", b"2", 1)[:-1] + b"x")
    result = purge.run()
    assert result.total == 5
    assert len(result.failures) == 1
    assert states() == ["purged", "purgeable"]
    assert numbers() == list(range(5, 11))


def test_records_stay_whose_part_is_in_another_store(folder, retained, tmp_path):
    archived((40, 5), (0, 1))
    retained(f"file://{tmp_path / 'elsewhere'}")
    (failure,) = purge.run().failures
    assert f"is in file://{folder}" in failure
    assert len(numbers()) == 6


def test_records_stay_that_no_checkpoint_covers(folder):
    archived((40, 5), (0, 1))
    sql("DELETE FROM audit_log_checkpoint WHERE stream = 'default'")
    assert purge.due().parts == []


def test_record_that_somebody_deleted_stops_the_purge(folder):
    archived((40, 5), (0, 1))
    sql("DELETE FROM audit_log_record WHERE stream = 'default' AND sequence = 3")
    (failure,) = purge.run().failures
    assert "somebody deleted or added some" in failure
    assert numbers() == [0, 1, 2, 4, 5]


def test_nothing_is_purged_unless_an_archive_is_set(retained):
    retained(None)
    days((400, 3))
    assert 'AUDIT_LOG["ARCHIVE"] is not set' in purge.run().off
    assert numbers() == [0, 1, 2]


def test_without_an_archive_what_is_past_its_days_is_purged_on_record(retained):
    retained("none")
    archived((40, 5), (2, 5))
    assert purge.run().total == 5
    relay()
    (said,) = bookkept("audit_log.purged")
    assert "key" not in said
    assert said["boundaries"]["default"] == 5
    assert_proved()


def test_what_was_to_go_without_an_archive_does_not_once_there_is_one(retained, tmp_path):
    retained("none")
    archived((40, 5), (2, 5))
    retained(f"file://{tmp_path}")
    assert "is in no archive" in purge.run().failures[0]
    archive.run()
    assert purge.run().total == 5


@pytest.mark.parametrize("step", ["steps.write", "steps.verify", "bookkeeping.archived"])
def test_what_was_released_on_its_way_is_archived_after_all(retained, tmp_path, monkeypatch, step):
    """A folder in trouble, a night of "none", the folder again: no part is stuck for it."""
    retained(f"file://{tmp_path}")
    days((40, 5), (2, 5))
    with monkeypatch.context() as patch:
        patch.setattr(f"audit_log.retention.{step}", _out_of_order)
        assert len(archive.run().failures) == 1
    retained("none")
    archive.run()
    assert set(states()) == {"purgeable"}
    retained(f"file://{tmp_path}")
    assert archive.run().failures == []
    assert len(bookkept("audit_log.archived")) == len(states())
    assert (purge.run().total, verify().findings) == (5, [])


def _out_of_order(*_: Any) -> Any:
    raise StoreError("Out of order.")


def test_streams_have_retentions_of_their_own(retained, tmp_path):
    retained(f"file://{tmp_path}", STREAMS={"audit_log": {"retention": {"database": "50d"}}})
    days((40, 2), (0, 1), stream=heads.BOOKKEEPING)
    archived((40, 2), (0, 1))
    assert purge.run().records == {"default": 2}


def test_one_stream_can_be_purged_alone(folder):
    """J1."""
    days((40, 2), (0, 1), stream=heads.BOOKKEEPING)
    archived((40, 2), (0, 1))
    assert purge.run(stream="default").records == {"default": 2}
    assert purge.run().records == {"audit_log": 2}


def test_bookkeeping_that_is_purged_leaves_all_accounted_for(folder, retained):
    """The record of an old purge goes; the record of its going says all that it said."""
    archived((40, 5), (0, 1))
    purge.run()
    relay()
    old = noon() - timedelta(days=35)
    sql("DELETE FROM audit_log_checkpoint WHERE stream = 'audit_log'")
    _age_bookkeeping(old)
    archive.run()
    assert purge.run(override_brake=True).records["audit_log"] > 0
    assert not Record.objects.filter(action="audit_log.purged").exists()
    assert_proved()
    relay()
    assert_proved()
    assert bookkept("audit_log.purged")[-1]["boundaries"]["default"] == 5


def _age_bookkeeping(moment) -> None:
    """The bookkeeping so far happened then: written anew, with other times."""
    rows = list(Record.objects.filter(stream="audit_log").order_by("sequence"))
    sql("DELETE FROM audit_log_record WHERE stream = 'audit_log'")
    Stream.objects.filter(pk="audit_log").update(size=0, partial=b"")
    write([event_of(moment, action=row.action, data=row.data) for row in rows], "audit_log")
    checkpoints.sign_all()


def test_purge_sends_no_signals_and_records_no_deletes(folder):
    archived((40, 5), (0, 1))
    heard: list[object] = []

    def hear(**kwargs: object) -> None:
        heard.append(kwargs)

    pre_delete.connect(hear)
    post_delete.connect(hear)
    try:
        with testing.capture_events() as events:
            purge.run()
    finally:
        pre_delete.disconnect(hear)
        post_delete.disconnect(hear)
    assert (heard, events) == ([], [])


def _explained(statement: str) -> str:
    """The plan of a statement, with a full scan made as costly as it is on a large table."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")
        explain = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
        cursor.execute(f"{explain} {statement.replace('%', '%%')}")
        return "\n".join(str(row) for row in cursor.fetchall())


def test_every_statement_of_a_batch_uses_an_index(folder):
    """J1: EXPLAIN."""
    archived((40, 600), (39, 600), (0, 300))
    with CaptureQueriesContext(connection) as queries:
        purge.run(override_brake=True)
    of_records = [
        query["sql"]
        for query in queries
        if "audit_log_record" in query["sql"]
        and "sequence" in query["sql"]
        and query["sql"].startswith(("SELECT", "DELETE"))
    ]
    deletes = [
        re.sub(r" IN \(([^,)]+)[^)]*\)", r" IN (\1)", query["sql"])
        for query in queries
        if query["sql"].startswith("DELETE")
    ]
    assert len(of_records) >= 2
    assert len(deletes) >= 2
    for statement in of_records + deletes:
        plan = _explained(statement)
        assert _uses_an_index(plan), f"{statement}\n{plan}"


def _uses_an_index(plan: str) -> bool:
    if connection.vendor == "sqlite":
        return "SEARCH" in plan and "SCAN" not in plan
    if connection.vendor == "postgresql":
        return "Index" in plan and "Seq Scan" not in plan
    return "'ALL'" not in plan


def test_brake_holds_a_purge_of_too_much_at_once(folder, monkeypatch):
    monkeypatch.setattr("audit_log.retention.brake.MAX_RECORDS", 20)
    archived((40, 30), (0, 30))
    with pytest.raises(RetentionRefused, match=r"30 of the 60 records .* \(50%") as refusal:
        purge.run()
    assert "--override-brake" in str(refusal.value)
    assert len(numbers()) == 60
    assert any("The brake" in trouble for trouble in health.measure().troubles)
    assert purge.run(override_brake=True).total == 30
    assert health.measure().troubles == []


@pytest.mark.parametrize(("old", "young"), [(20, 5), (30, 91)])
def test_brake_lets_pass_what_is_little_or_a_small_share(folder, monkeypatch, old, young):
    monkeypatch.setattr("audit_log.retention.brake.MAX_RECORDS", 20)
    archived((40, old), (0, young))
    assert purge.run().total == old


def _set_clock(days_ahead: int) -> None:
    """The database's own clock, for this session; 0 sets it right again."""
    if connection.vendor == "mysql":
        ahead = f"UNIX_TIMESTAMP() + {days_ahead * 86_400}" if days_ahead else "DEFAULT"
        sql(f"SET timestamp = {ahead}")
    elif connection.vendor == "postgresql":
        sql("CREATE SCHEMA IF NOT EXISTS skewed")
        sql(
            "CREATE OR REPLACE FUNCTION skewed.statement_timestamp() RETURNS timestamptz LANGUAGE "
            f"SQL AS $$ SELECT pg_catalog.statement_timestamp() + interval '{days_ahead} days' $$"
        )
        sql("SET search_path = skewed, pg_catalog, public" if days_ahead else "RESET search_path")
    else:
        skewed = partial(_strftime, timedelta(days=days_ahead))
        for _ in range(2):  # only what replaces another function makes SQLite compile anew
            connection.connection.create_function("strftime", 2, skewed)


def _strftime(ahead: timedelta, form: str, _now: str) -> str:
    return (datetime.now(UTC) + ahead).strftime(form.replace("%f", "%S.%f"))


@pytest.fixture
def clock():
    yield _set_clock
    _set_clock(0)


def test_brake_holds_when_the_database_clock_jumped(folder, clock):
    """clock_skew."""
    archived((20, 5), (2, 5), (0, 1))
    assert purge.due().total == 0
    clock(400)
    assert purge.due().total == 10
    with pytest.raises(RetentionRefused, match="Set them right"):
        purge.run()
    assert len(numbers()) == 11
    clock(0)
    assert purge.run().total == 0


def test_brake_holds_when_nothing_was_recorded_for_days(folder):
    """Database and worker on one host, whose clock jumped: only the records tell."""
    archived((40, 5), (2, 5), (0, 1))
    seen = noon() - timedelta(days=4)
    with pytest.raises(RetentionRefused, match="nothing was recorded since"):
        purge.run(seen=seen)
    assert purge.run(seen=seen, override_brake=True).total == 5


@pytest.mark.parametrize("days_off", [-1, 1])
def test_clock_of_the_worker_decides_nothing(folder, monkeypatch, days_off):
    """clock_skew: by a worker's clock that is a day off, as by one that is right."""

    class Skewed(datetime):
        @classmethod
        def now(cls, tz=None):
            return super().now(tz) + timedelta(days=days_off)

    archived((31, 5), (30, 5), (29, 5), (0, 1))
    expected = [str(part) for part in purge.due().parts]
    for module in ("brake", "clock", "cutting", "policy"):
        monkeypatch.setattr(f"audit_log.retention.{module}.datetime", Skewed)
    assert [str(part) for part in purge.due().parts] == expected
    assert purge.run().parts == [part for part in parts() if str(part) in expected]


def test_checkpoints_of_what_is_purged_are_still_verified(folder):
    for _ in range(3):
        write([event_of(noon() - timedelta(days=40), changes={"n": [1, 2]}) for _ in range(128)])
        checkpoints.sign_all()
    archived((0, 5))
    purge.run(override_brake=True)
    assert verify().checkpoints >= 4
    assert_proved()
    old = Checkpoint.objects.filter(stream="default", size=256).get()
    sql("UPDATE audit_log_checkpoint SET note = %s WHERE id = %s", old.note + "x", old.pk)
    assert [finding.kind for finding in verify().findings] == ["checkpoint"]
