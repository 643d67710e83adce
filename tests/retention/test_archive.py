"""Into the archive: step by step, proved, each record in exactly one part."""

from __future__ import annotations

import gzip
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from audit_log import health
from audit_log.conf.retention import Archive
from audit_log.delivery import relay
from audit_log.exceptions import StoreError
from audit_log.ledger import checkpoints, heads
from audit_log.ledger.verification import verify
from audit_log.models import ArchivePart, Checkpoint, Record
from audit_log.reading.contents import contents
from audit_log.retention import archive, planning, policy
from audit_log.retention.cutting import Cut
from audit_log.retention.manifests import Manifest
from audit_log.retention.parts import manifest_key, read_part, verify_part
from audit_log.retention.stores.directory import Directory
from tests.ledger.building import overwrite, sql, write
from tests.retention.old_records import (
    bookkept,
    days,
    files,
    full_event_of,
    noon,
    numbers,
    parts,
    ranges,
    states,
)

pytestmark = pytest.mark.django_db


def sequences_in(folder: Path) -> list[int]:
    """The records that all parts of the folder hold, in the order of the files."""
    found: list[int] = []
    for path in files(folder / "default", "*.ndjson.gz"):
        with path.open("rb") as source:
            found += [line.sequence for line in read_part(source)]
    return found


def the_error() -> str:
    (text,) = ArchivePart.objects.exclude(error="").values_list("error", flat=True)
    return text


def test_closed_days_become_parts_that_prove_themselves(folder):
    for ago in (4, 3, 2, 0):
        moment = noon() - timedelta(days=ago)
        write([full_event_of(moment + timedelta(milliseconds=n), n) for n in range(5)])
    result = archive.run()
    assert (result.planned, len(result.parts), result.purgeable) == (3, 3, 3)
    assert (result.waiting, result.failures) == (0, [])
    assert ranges() == [(0, 4), (5, 9), (10, 14)]
    assert states() == ["purgeable"] * 3
    assert numbers() == list(range(20))
    assert sequences_in(folder) == list(range(15))
    for part in parts():
        manifest = Manifest.parse((folder / manifest_key(part.key)).read_bytes())
        assert manifest.digest == part.manifest_sha256
        with (folder / part.key).open("rb") as source:
            verify_part(manifest, source, checkpoints.verifiers())
        note = folder / "default" / "checkpoints" / f"{part.checkpoint_size:020d}"
        assert note.read_text() == manifest.checkpoint
    assert verify().ok


def test_next_run_has_nothing_to_do(folder):
    days((3, 4), (2, 4))
    archive.run()
    before = {path: path.read_bytes() for path in files(folder)}
    result = archive.run()
    assert (result.planned, result.parts, result.purgeable, result.failures) == (0, [], 0, [])
    assert {path: path.read_bytes() for path in files(folder)} == before


def test_manifests_of_a_stream_are_a_chain(folder):
    days((4, 2), (3, 2), (2, 2))
    archive.run()
    before = None
    for part in parts():
        manifest = Manifest.parse((folder / manifest_key(part.key)).read_bytes())
        assert manifest.prev_manifest_sha256 == before
        before = manifest.digest


def test_what_is_archived_is_on_record_readable_and_signed(folder):
    days((3, 4), (2, 6))
    archive.run()
    first, second = bookkept("audit_log.archived")
    part = parts()[1]
    assert second == {
        "stream": "default",
        "first": 4,
        "last": 9,
        "count": 6,
        "day": part.day.isoformat(),
        "store": f"file://{folder}",
        "key": part.key,
        "sha256": part.sha256,
        "manifest_sha256": part.manifest_sha256,
    }
    assert first["sha256"] != second["sha256"]
    row = Record.objects.get(pk=str(part.record_id))
    assert (row.stream, row.redactions, row.actor_type) == (heads.BOOKKEEPING, None, "system")
    assert contents(row)["data"] == second
    assert Checkpoint.objects.filter(stream="audit_log", size__gt=row.sequence).exists()


def test_part_is_not_purgeable_before_its_record_is_signed(folder, monkeypatch):
    days((2, 4))
    monkeypatch.setattr(relay, "relay", lambda *_, **__: None)  # no relay comes by
    assert archive.run().purgeable == 0
    assert states() == ["recorded"]
    monkeypatch.undo()
    monkeypatch.setattr(archive, "_sign", lambda *_: None)  # stored, but nobody signs
    assert archive.run().purgeable == 0
    assert states() == ["recorded"]
    monkeypatch.undo()
    assert archive.run().purgeable == 1


def test_part_that_another_run_planned_meanwhile_is_not_planned_again(monkeypatch, folder):
    """archive_two_beats: the other one comes first between the cut and its row, and sees less."""
    days((4, 3), (3, 3), (2, 3))
    create = planning._create

    def late(stream: str, cut: Cut, using: str) -> ArchivePart:
        monkeypatch.setattr(planning, "_create", create)
        planning.plan(stream, using)
        last = parts()[-1]
        ArchivePart.objects.filter(pk=last.pk).update(last=7, count=2)
        return create(stream, cut, using)

    monkeypatch.setattr(planning, "_create", late)
    assert [(p.first, p.last) for p in planning.plan("default", "default")] == [(8, 8)]
    assert ranges() == [(0, 2), (3, 5), (6, 7), (8, 8)]


def test_nothing_is_archived_unless_it_is_asked_for(retained):
    retained(None)
    days((400, 3))
    result = archive.run()
    assert 'AUDIT_LOG["ARCHIVE"] is not set' in result.off
    assert parts() == []


def test_bookkeeping_is_archived_like_the_rest(folder):
    days((3, 2), stream=heads.BOOKKEEPING)
    days((2, 2))
    assert len(archive.run().parts) == 2
    assert states(heads.BOOKKEEPING) == ["purgeable"]


def test_one_stream_can_be_archived_alone(folder):
    days((3, 2), stream=heads.BOOKKEEPING)
    days((2, 2))
    archive.run(stream="default")
    assert (states(), states(heads.BOOKKEEPING)) == (["purgeable"], [])


def test_days_are_archived_that_no_checkpoint_covers_yet(folder):
    write([full_event_of(noon() - timedelta(days=2), 1)])
    assert not Checkpoint.objects.exists()
    assert archive.run().purgeable == 1


def _left_by_a_killed_run(folder: Path) -> bytes:
    """The part is in the store; that it is, the database does not know."""
    archive.run()
    (part,) = parts()
    ArchivePart.objects.filter(pk=part.pk).delete()
    (folder / manifest_key(part.key)).unlink()
    return (folder / part.key).read_bytes()


def test_part_that_a_killed_run_left_is_adopted(folder):
    days((2, 8))
    left = _left_by_a_killed_run(folder)
    assert archive.run().purgeable == 1
    (part,) = parts()
    assert (folder / part.key).read_bytes() == left
    assert part.sha256 == sha256(left).hexdigest()


def test_part_that_another_zlib_wrote_is_adopted(folder):
    """The same records, other bytes."""
    days((2, 8))
    left = gzip.compress(gzip.decompress(_left_by_a_killed_run(folder)), 1, mtime=0)
    (path,) = files(folder, "*.ndjson.gz")
    path.write_bytes(left)
    assert archive.run().purgeable == 1
    assert path.read_bytes() == left
    assert parts()[0].sha256 == sha256(left).hexdigest()


def _without_the_last_line(left: bytes) -> bytes:
    lines = gzip.decompress(left).splitlines(keepends=True)
    return gzip.compress(b"".join(lines[:-1]), 6, mtime=0)


@pytest.mark.parametrize(
    "forge",
    [
        pytest.param(lambda left: left[:-9], id="cut off"),
        pytest.param(lambda _left: b"something else", id="another file"),
        pytest.param(_without_the_last_line, id="a line less"),
    ],
)
def test_something_else_under_the_key_is_neither_overwritten_nor_adopted(folder, forge):
    days((2, 8))
    forged = forge(_left_by_a_killed_run(folder))
    (path,) = files(folder, "*.ndjson.gz")
    path.write_bytes(forged)
    result = archive.run()
    assert (states(), result.purgeable) == (["planned"], 0)
    assert "is there already, with other contents" in the_error()
    assert result.failures
    assert path.read_bytes() == forged


class Corrupting(Directory):
    """A store that takes what it is given and keeps something else: `alter(bytes)`."""

    def __init__(self, root: Path, alter: Any, suffix: str) -> None:
        super().__init__(Archive("file", str(root)))
        self._alter = alter
        self._suffix = suffix

    def put(self, key: str, source: BinaryIO, *, size: int, sha256: str) -> str:
        version = super().put(key, source, size=size, sha256=sha256)
        if key.endswith(self._suffix):
            path = self._path(key)
            path.write_bytes(self._alter(path.read_bytes()))
        return version


def _other_action(data: bytes) -> bytes:
    """A whole part in which one record says something else."""
    return gzip.compress(gzip.decompress(data).replace(b"update", b"delete", 1), 6, mtime=0)


@pytest.mark.parametrize(
    ("suffix", "alter"),
    [
        pytest.param(".gz", lambda data: data[:40] + bytes([data[40] ^ 1]) + data[41:], id="bit"),
        pytest.param(".gz", lambda data: data[:-20], id="cut off"),
        pytest.param(".gz", lambda data: b"", id="empty"),
        pytest.param(".gz", _other_action, id="another record"),
        pytest.param(".json", lambda data: data.replace(b"1", b"2", 1), id="manifest"),
    ],
)
def test_what_a_store_altered_is_never_purgeable(folder, monkeypatch, suffix, alter):
    """s3_corrupt."""
    days((2, 50))
    monkeypatch.setattr(policy, "open_store", lambda: Corrupting(folder, alter, suffix))
    result = archive.run()
    assert (states(), result.purgeable) == (["written"], 0)
    assert result.failures
    assert the_error()
    (trouble,) = health.measure().troubles
    assert "Part default 0-49 (written): " in trouble
    assert bookkept("audit_log.archived") == []
    archive.run()
    assert states() == ["written"]


def test_part_that_failed_is_tried_again_and_its_error_forgotten(folder, monkeypatch):
    days((3, 5), (2, 5))
    monkeypatch.setattr(policy, "open_store", lambda: Corrupting(folder, lambda _: b"", ".gz"))
    assert "not a part" not in "".join(archive.run().failures)
    assert states() == ["written", "planned"]
    monkeypatch.undo()
    (path,) = files(folder, "*.gz")
    path.unlink()
    ArchivePart.objects.update(state="planned")
    assert archive.run().failures == []
    assert states() == ["purgeable", "purgeable"]
    assert not ArchivePart.objects.exclude(error="").exists()


@pytest.mark.parametrize("sequence", [0, 5, 9])
def test_deleted_record_keeps_its_stream_from_being_archived(folder, sequence):
    days((3, 5), (2, 5))
    days((2, 3), stream=heads.BOOKKEEPING)
    sql("DELETE FROM audit_log_record WHERE stream = 'default' AND sequence = %s", sequence)
    days((0, 1))
    result = archive.run()
    (failure,) = result.failures
    assert f"record {sequence} is missing" in failure
    assert "audit_log verify" in failure
    assert states(heads.BOOKKEEPING) == ["purgeable"]


def test_record_deleted_once_its_part_is_planned_stops_it(folder, monkeypatch):
    days((3, 5), (2, 5))
    monkeypatch.setattr(archive._Run, "go", lambda _self: None)
    archive.run()
    monkeypatch.undo()
    sql("DELETE FROM audit_log_record WHERE stream = 'default' AND sequence = 4")
    assert "not those that were planned" in archive.run().failures[0]
    assert states() == ["planned", "planned"]


@pytest.mark.parametrize(
    ("column", "value"), [("action", "login"), ("changes", {"n": [1, 2]}), ("salt", b"x" * 16)]
)
def test_altered_record_is_never_purgeable(folder, column, value):
    days((3, 5), (2, 5))
    overwrite(column, value, 7)
    assert archive.run().failures
    assert states() == ["purgeable", "written"]
    assert "were altered" in the_error()


def test_forked_stream_is_not_archived(folder):
    days((3, 5))
    sql("UPDATE audit_log_stream SET partial = %s WHERE name = 'default'", bytes(160))
    write([full_event_of(noon() - timedelta(days=2), 1)])
    assert "does not extend" in archive.run().failures[0]
    assert set(states()) == {"planned"}


def test_without_an_archive_parts_are_planned_and_released(retained, tmp_path):
    retained("none")
    days((3, 5), (2, 5), (0, 1))
    result = archive.run()
    assert (result.planned, result.purgeable, result.parts) == (2, 2, [])
    assert states() == ["purgeable", "purgeable"]
    assert {part.key for part in parts()} == {""}


def test_what_was_released_without_an_archive_is_archived_once_there_is_one(retained, tmp_path):
    retained("none")
    days((3, 5))
    archive.run()
    retained(f"file://{tmp_path / 'archive'}")
    days((2, 5))
    assert len(archive.run().parts) == 2
    assert sequences_in(tmp_path / "archive") == list(range(10))


def test_progress_names_the_part_and_its_records(folder, monkeypatch):
    monkeypatch.setattr("audit_log.retention.steps._SHOWN_EVERY", 4)
    days((2, 10))
    seen: list[tuple[str, int]] = []
    archive.run(progress=lambda part, done: seen.append((str(part), done)))
    assert seen == [("default 0-9", done) for done in (4, 8, 10)]


def test_rows_are_read_a_page_at_a_time(folder, monkeypatch):
    """Constant memory: no query reads more than a chunk, and no cursor stays open."""
    days((2, 1_200))
    monkeypatch.setattr("audit_log.retention.planning._PAGE", 100)
    monkeypatch.setattr("audit_log.ledger.rows._CHUNK", 100)
    with CaptureQueriesContext(connection) as queries:
        assert archive.run().purgeable == 1
    reads = [q["sql"] for q in queries if 'FROM "audit_log_record"' in q["sql"].replace("`", '"')]
    assert sum("LIMIT 100" in read for read in reads) >= 24
    assert ranges() == [(0, 1_199)]
    assert sequences_in(folder) == list(range(1_200))


def test_part_that_was_not_proved_is_written_anew_where_the_archive_is_now(
    retained, tmp_path, monkeypatch
):
    """Written to a place that cannot be read back, then ARCHIVE was set right."""
    retained(f"file://{tmp_path}/wrong")
    days((3, 4), (2, 4), (0, 1))
    with monkeypatch.context() as patch:
        patch.setattr(Directory, "open", _unreadable)
        assert len(archive.run().failures) == 1
    assert states() == ["written", "planned"]
    retained(f"file://{tmp_path}/right")
    assert archive.run().failures == []
    assert states() == ["purgeable", "purgeable"]
    assert sequences_in(tmp_path / "right") == list(range(8))


def _unreadable(self: Directory, key: str, version_id: str = "") -> Any:
    raise StoreError(f"{self.name}/{key}: permission denied.")
