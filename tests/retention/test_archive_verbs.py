"""`manage.py audit_log archive`, `purge` and `retention`; the task; what `status` says."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from audit_log import health, schedule, tasks
from audit_log.conf import get_settings
from audit_log.delivery.relay import relay
from audit_log.models import ArchivePart, Record
from audit_log.retention import archive, brake, purge, waiting
from tests.ledger.building import sql
from tests.retention.old_records import days, noon, numbers, parts, states

pytestmark = pytest.mark.django_db


def run(*words: str) -> str:
    out, err = io.StringIO(), io.StringIO()
    call_command("audit_log", *words, stdout=out, stderr=err)
    assert err.getvalue() == ""
    return out.getvalue()


def run_json(*words: str) -> dict[str, Any]:
    (line,) = run(*words, "--json").splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def test_archive_prints_parts_rows_and_bytes(folder):
    days((3, 4), (2, 6))
    out = run("archive")
    size = sum(part.size for part in parts())
    assert f"{parts()[0].key}: 4 records, {parts()[0].size} bytes" in out
    assert f"2 parts archived, 10 records, {size} bytes; 2 parts became purgeable, 0" in out
    row = Record.objects.filter(action="audit_log.archived").latest("sequence")
    assert (row.actor_type, row.actor_id, row.source) == (
        *("system", "manage.py audit_log"),
        "command",
    )


def test_archive_in_json(folder):
    days((2, 6))
    found = run_json("archive")
    assert (found["planned"], found["purgeable"], found["failures"]) == (1, 1, [])
    (part,) = found["parts"]
    assert (part["first"], part["last"], part["key"]) == (0, 5, parts()[0].key)


def test_dry_run_of_archive_changes_nothing(folder):
    days((3, 4), (2, 6), (0, 1))
    out = run("archive", "--dry-run")
    assert "would archive default 4-9, 6 records" in out
    assert "2 parts, 10 records. Nothing was done." in out
    assert len(run_json("archive", "--dry-run")["would_archive"]) == 2
    assert (parts(), folder.exists()) == ([], False)


def test_archive_that_failed_exits_with_one(folder):
    days((3, 4), (2, 4))
    sql("DELETE FROM audit_log_record WHERE stream = 'default' AND sequence = 5")
    with pytest.raises(CommandError, match="record 5 is missing") as error:
        run("archive")
    assert error.value.returncode == 1


@pytest.mark.parametrize("verb", ["archive", "purge", "retention"])
def test_stream_that_is_not_there_is_an_error_that_lists_them(folder, verb):
    """J1, per stream."""
    days((2, 1))
    with pytest.raises(CommandError, match=r"no stream 'defualt' .* Streams: default"):
        run(verb, "--stream", "defualt")


@pytest.mark.parametrize("words", [("archive",), ("archive", "--dry-run"), ("purge", "--dry-run")])
def test_verbs_say_that_no_archive_is_set(words):
    days((400, 1))
    assert 'AUDIT_LOG["ARCHIVE"] is not set' in run(*words)
    assert 'AUDIT_LOG["ARCHIVE"] is not set' in run_json(*words)["off"]


def test_dry_run_of_purge_deletes_nothing(folder):
    """J1."""
    days((40, 4), (39, 3), (0, 1))
    archive.run()
    out = run("purge", "--dry-run")
    assert "would purge default 4-6, 3 records" in out
    assert "7 records due: 7 of default." in out
    assert run_json("purge", "--dry-run")["records"] == {"audit_log": 0, "default": 7}
    assert len(numbers()) == 8


def test_purge_wants_a_yes(folder):
    """J1: nobody can answer here, so it must be on the command line."""
    days((40, 4), (0, 1))
    archive.run()
    with pytest.raises(CommandError, match=r"4 records .* 4 of default.* say --yes"):
        run("purge")
    assert len(numbers()) == 5
    out = run("purge", "--yes")
    assert "purged default 0-3, 4 records" in out
    assert "4 records purged: 4 of default." in out
    assert numbers() == [4]
    assert "0 records due: none." in run("purge")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("answer", "left"), [("yes", 1), ("no", 5), ("", 5)])
def test_purge_asks_on_a_terminal(folder, process_environment, tmp_path, answer, left):
    """J1: a real terminal, and somebody who types."""
    days((40, 4), (0, 1))
    archive.run()
    options = {"ARCHIVE": f"file://{folder}", "RETENTION": {"database": "30d"}}
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "django", "audit_log", "purge"],
        env={
            **process_environment,
            "DJANGO_SETTINGS_MODULE": "tests.faults.settings",
            "FAULTS_SPOOL_DIR": str(tmp_path / "spool"),
            "FAULTS_AUDIT_LOG": json.dumps(options),
        },
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(theirs)
    os.write(ours, f"{answer}\n".encode())
    try:
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
        with suppress(OSError):
            os.close(ours)
    assert "4 records are to leave the database: 4 of default." in err
    assert len(numbers()) == left
    assert process.returncode == (0 if left == 1 else 1)
    assert ("4 records purged" in out) == (left == 1)
    assert ("Nothing was purged" in err) == (left == 5)


def test_purge_that_the_brake_holds_says_how_to_go_on(folder, monkeypatch):
    monkeypatch.setattr(brake, "MAX_RECORDS", 3)
    days((40, 4), (0, 4))
    archive.run()
    with pytest.raises(CommandError, match=r"The brake: 4 of the 8 records .*--override-brake"):
        run("purge", "--yes")
    with pytest.raises(CommandError, match="say --yes"):
        run("purge", "--override-brake")
    assert len(numbers()) == 8
    run("purge", "--override-brake", "--yes")
    assert len(numbers()) == 4


def test_purge_that_failed_exits_with_one(folder):
    days((40, 4), (0, 1))
    archive.run()
    (folder / parts()[0].key).unlink()
    with pytest.raises(CommandError, match="1 failed: Stream 'default'"):
        run("purge", "--yes")


def test_retention_says_in_words_what_becomes_of_records(folder):
    days((40, 4), (39, 2), (20, 3), (0, 1))
    archive.run()
    ArchivePart.objects.filter(first=9).update(state="recorded", error="the disk is full")
    out = run("retention")
    assert f"Parts go to file://{folder}." in out
    assert "default: 30 days in the database, cold after 180 days, deleted after 365 days." in out
    assert "10 records in the database, 0 purged." in out
    assert "3 parts purgeable, 9 records." in out
    assert "6 records could be purged now." in out
    purge.run()
    assert "4 records in the database, 6 purged." in run("retention")
    assert run_json("retention", "--stream", "default")["streams"][0]["purged"] == 6


@pytest.mark.parametrize(
    ("choice", "said"), [(None, "is not set"), ("none", "There is no archive")]
)
def test_retention_says_what_happens_without_an_archive(retained, choice, said):
    retained(choice)
    days((2, 1))
    assert said in run("retention")


def test_task_archives_then_purges_as_the_system(folder):
    days((40, 4), (2, 3), (0, 1))
    tasks.retention()
    assert states() == ["purged", "purgeable"]
    relay()
    rows = Record.objects.filter(action__in=["audit_log.archived", "audit_log.purged"])
    assert set(rows.values_list("actor_type", "actor_id", "source")) == {
        ("system", "audit_log.retention", "task")
    }


def test_task_that_the_brake_holds_leaves_word_and_does_not_fail(folder, monkeypatch, caplog):
    monkeypatch.setattr(brake, "MAX_RECORDS", 3)
    days((40, 4), (0, 4))
    tasks.retention()
    assert len(numbers()) == 8
    assert "The brake: 4 of the 8 records" in caplog.text
    assert any("The brake" in trouble for trouble in health.measure().troubles)


def test_task_after_days_of_silence_archives_but_does_not_purge(folder):
    """Its own archive records something: that must not hide that the clock may have jumped."""
    days((40, 4), (2, 3))
    _last_recorded(noon() - timedelta(days=5))
    tasks.retention()
    assert states() == ["purgeable", "purgeable"]
    tasks.retention()
    assert states() == ["purged", "purgeable"]


def _last_recorded(moment: Any) -> None:
    raw = Record._meta.get_field("recorded_at").get_db_prep_save(moment, connections["default"])
    sql("UPDATE audit_log_stream SET recorded_at = %s", raw)


def test_beat_runs_the_task_each_night_on_our_queue(settings: Any):
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "QUEUE": "audit"}
    entry = schedule.beat_schedule()["audit_log.retention"]
    assert entry["task"] == tasks.retention.name
    assert (entry["schedule"].hour, entry["schedule"].minute) == ({2}, {17})
    assert entry["options"]["queue"] == "audit"
    assert entry["options"]["expires"] < 24 * 3600


def _recorded_then(ago: int) -> Callable[[int], None]:
    def set_(sequence: int) -> None:
        moment = noon() - timedelta(days=ago)
        field = Record._meta.get_field("recorded_at")
        raw = field.get_db_prep_save(moment, connections["default"])
        sql("UPDATE audit_log_record SET recorded_at = %s WHERE sequence = %s", raw, sequence)

    return set_


@pytest.mark.parametrize(
    ("choice", "said"),
    [(None, 'AUDIT_LOG["ARCHIVE"] is not set'), ("none", "does beat run audit_log.retention")],
)
def test_what_is_past_its_days_is_counted_and_a_trouble(retained, choice, said):
    retained(choice)
    days((40, 7), (20, 3))
    assert health.measure().troubles == []  # recorded today: a backfill
    _recorded_then(40)(0)
    (trouble,) = health.measure().troubles
    assert "About 7 records of stream 'default'" in trouble
    assert "past their 30 days" in trouble
    assert said in trouble
    retained(choice, RETENTION={"database": "90d"})
    assert health.measure().troubles == []


def test_counting_what_is_past_its_days_counts_no_rows(retained, django_assert_max_num_queries):
    retained(None)
    days((40, 700), (20, 300))
    _recorded_then(40)(0)
    from audit_log.models import Stream

    head = Stream.objects.get(pk="default")
    with django_assert_max_num_queries(3) as queries:
        found = waiting.overdue(head, "default")
    assert found is not None
    assert found.records == 700
    assert not any("COUNT" in query["sql"].upper() for query in queries.captured_queries)
    assert get_settings().archive is None
