"""Archive and purge that are killed, and two of them at once: real processes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from audit_log.delivery.relay import relay
from audit_log.ledger import checkpoints
from audit_log.ledger.verification import verify
from audit_log.models import ArchivePart
from audit_log.retention import archive, nightly
from audit_log.retention.manifests import Manifest
from audit_log.retention.parts import manifest_key, read_part, verify_part
from tests.faults.forks import Forks, forks
from tests.ledger.building import head
from tests.retention.old_records import bookkept, days, files, numbers, parts, ranges, states

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def nights(
    process_environment: dict[str, str], folder: Path, settings: Any, tmp_path: Path
) -> Iterator[Forks]:
    """Processes with this test's databases and settings."""
    extra = {"ARCHIVE": f"file://{folder}", "RETENTION": settings.AUDIT_LOG["RETENTION"]}
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "SPOOL_DIR": str(tmp_path / "spool")}
    environment = {
        **process_environment,
        "DJANGO_SETTINGS_MODULE": "tests.faults.settings",
        "FAULTS_SPOOL_DIR": str(tmp_path / "spool"),
        "FAULTS_AUDIT_LOG": json.dumps(extra),
    }
    with forks(environment) as handle:
        yield handle


def _archived(folder: Path) -> list[int]:
    """The records in the store whose part and manifest prove themselves, by what is in it alone."""
    found: list[int] = []
    for path in files(folder / "default", "*.manifest.json"):
        manifest = Manifest.parse(path.read_bytes())
        part = path.with_name(path.name.replace(".manifest.json", ".ndjson.gz"))
        with part.open("rb") as source:
            verify_part(manifest, source, checkpoints.verifiers())
        with part.open("rb") as source:
            found += [line.sequence for line in read_part(source)]
    return found


def _assert_safe(folder: Path, size: int) -> None:
    """Whatever was killed: the ledger holds, and what is not in it is in the archive."""
    assert verify().findings == []
    left = numbers()
    assert left == list(range(size - len(left), size))
    archived = _archived(folder)
    assert set(range(size - len(left))) <= set(archived)
    assert max(Counter(archived).values(), default=1) == 1


def _assert_done(folder: Path, size: int) -> None:
    _assert_safe(folder, size)
    assert _archived(folder) == list(range(parts()[-1].last + 1))
    assert len(files(folder / "default", "*.ndjson.gz")) == len(parts())
    for action, done in (("archived", parts()), ("purged", parts()[:2])):
        said = [(d["first"], d["last"]) for d in bookkept(f"audit_log.{action}")]
        assert sorted(said) == [(part.first, part.last) for part in done]
    for part in parts():
        manifest = (folder / manifest_key(part.key)).read_bytes()
        assert Manifest.parse(manifest).digest == part.manifest_sha256


@pytest.mark.parametrize(
    ("point", "at_least"),
    [
        ("planning:_create", 3),
        ("archive:_Run._step", 9),  # written, verified, recorded: of each part
        ("archive:_Run._reached", 9),  # the same, before its transaction is committed
        ("stores.directory:Directory.put", 7),  # parts, manifests, a checkpoint
        ("steps:verify", 3),
        ("bookkeeping:archived", 1),
        ("archive:_stored", 1),
        ("archive:_sign", 1),
        ("archive:settle", 1),
        ("purge:_Purging._check_archive", 1),
        ("bookkeeping:purged", 1),
        ("purge:_Purging._announce", 2),
        ("purge:_Purging._delete_rows", 1),
        ("purge:_Purging._move_head", 1),
        ("purge:_Purging._batch", 5),
    ],
)
def test_killed_at_any_point_nothing_is_lost_and_nothing_is_twice(
    nights: Forks, folder: Path, point: str, at_least: int
):
    """archive_crash_points: killed there again and again, and then left alone."""
    days((40, 8), (39, 9), (2, 4), (0, 3))
    kills = 0
    while nights.join(nights.start("night", point=point, batch=4)) == -9 and kills < 20:
        kills += 1
        _assert_safe(folder, 24)
        if kills > at_least:
            break  # where nothing is committed, it is the same point again
    assert kills >= at_least
    nightly.run()
    assert not ArchivePart.objects.exclude(error="").exists()
    assert states() == ["purged", "purged", "purgeable"]
    assert (head().purged, numbers()) == (17, list(range(17, 24)))
    relay()
    _assert_done(folder, 24)


def test_two_archivers_at_once_do_each_part_once(nights: Forks, folder: Path, tmp_path: Path):
    """archive_two_beats."""
    days(*[(ago, 40) for ago in range(20, 1, -1)], (0, 3))
    go, log = tmp_path / "go", tmp_path / "log"
    log.touch()
    pids = [nights.start("night", go=str(go), log=str(log)) for _ in range(2)]
    go.touch()
    assert [nights.join(pid) for pid in pids] == [0, 0]
    nightly.run()
    assert set(states()) == {"purgeable"}
    assert ranges() == [(n * 40, n * 40 + 39) for n in range(19)]
    assert _archived(folder) == list(range(760))
    assert len(bookkept("audit_log.archived")) == 19
    assert verify().findings == []
    written = [line.split() for line in log.read_text().splitlines()]
    if connection.features.has_select_for_update_skip_locked:  # else both may write the same bytes
        assert max(Counter(first for _, first in written).values()) == 1


def test_two_purges_at_once_delete_each_record_once(nights: Forks, folder: Path, tmp_path: Path):
    days(*[(ago, 40) for ago in range(45, 35, -1)], (0, 3))
    assert archive.run().failures == []
    go = tmp_path / "go"
    pids = [nights.start("night", go=str(go), batch=7) for _ in range(2)]
    go.touch()
    assert [nights.join(pid) for pid in pids] == [0, 0]
    relay()
    assert set(states()) == {"purged"}
    assert numbers() == [400, 401, 402]
    assert sorted(d["first"] for d in bookkept("audit_log.purged")) == list(range(0, 400, 40))
    assert verify().findings == []
