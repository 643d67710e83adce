"""The spool under kills, full disks and several readers."""

from __future__ import annotations

import base64
import logging
import random
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from audit_log.delivery.relay import relay
from audit_log.events import decode_batch
from audit_log.models import Outbox, Record
from audit_log.privacy.encryption import key_ring
from audit_log.recording import outbox, spool
from tests.faults.forks import Forks
from tests.faults.workers import wait_until

pytestmark = pytest.mark.slow


def _until_noted(side: Path, batches: int) -> None:
    """Until so many batches are spooled as a whole, and noted."""
    wait_until(lambda: side.exists() and side.stat().st_size >= batches, "too few were spooled")


def _stored() -> int:
    return Record.objects.filter(action="probe.spooled").count()


@pytest.mark.django_db(transaction=True)
def test_append_that_is_killed_leaves_its_predecessors_whole(
    workers: Forks, tmp_path: Path, settle, measured, caplog
):
    """spool_torn."""
    chance = random.Random()
    torn = noted = 0
    for n in range(8):
        side = tmp_path / f"side{n}"
        pid = workers.start("spool_slowly", side=str(side))
        _until_noted(side, 1)
        time.sleep(chance.uniform(0, 0.2))
        workers.kill(pid)
        noted += side.stat().st_size
    with caplog.at_level(logging.ERROR, "audit_log"):
        replayed = spool.replay()
    torn = len(list(spool.folder().glob(f"*{spool.TORN}")))
    measured(f"{noted} noted, {replayed} replayed, {torn} torn")
    assert torn >= 1
    assert caplog.text.count("torn bytes, set aside") == torn
    assert noted <= replayed <= noted + 8
    settle()
    assert _stored() == replayed
    assert spool.replay() == 0


@pytest.mark.django_db(transaction=True)
def test_disk_that_fills_in_the_middle_of_a_batch_spoils_no_other(
    environment: dict[str, str], spool_dir: Path, settle
):
    """spool_full. What does not fit is in the log, encrypted; what was spooled is not torn."""
    script = (
        "import django; django.setup()\n"
        "from tests.faults.jobs import spool_beyond_the_limit as job; job(4096)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    (line,) = [line for line in done.stderr.splitlines() if "It follows, encrypted: " in line]
    assert "Neither the outbox of 'default' nor the spool took a batch of 1 events." in line
    payload = base64.b64decode(line.rpartition(": ")[2])
    (event,) = decode_batch(key_ring().decrypt(outbox.PURPOSE, payload))
    assert event.action == "probe.spooled"
    assert spool.replay() == 2
    assert not list(spool_dir.glob(f"*{spool.TORN}"))
    settle()
    assert _stored() == 2


@pytest.mark.django_db(transaction=True)
def test_two_processes_that_replay_at_once_replay_each_batch_once(
    workers: Forks, tmp_path: Path, settle
):
    go = tmp_path / "go"
    pid = workers.start("spool_slowly", side=str(tmp_path / "side"))
    _until_noted(tmp_path / "side", 4)
    workers.kill(pid)
    for path in spool.waiting():  # as many files as a service of many processes leaves
        content = path.read_bytes()
        for n, (body, end) in enumerate(spool._bodies(content)):
            frame = content[end - len(body) - spool._FRAME.size : end]
            path.with_name(f"part-{n}{spool.SUFFIX}").write_bytes(frame)
        path.unlink()
    parts = len(spool.waiting())
    assert parts > 3
    pids = [workers.start("replay", go=str(go)) for _ in range(3)]
    go.touch()
    assert [workers.join(pid) for pid in pids] == [0, 0, 0]
    assert Outbox.objects.count() == parts
    settle()
    assert _stored() == parts


@pytest.mark.django_db(transaction=True)
def test_spool_is_nobody_elses_business(workers: Forks, tmp_path: Path, spool_dir: Path):
    pid = workers.start("spool_slowly", side=str(tmp_path / "side"))
    _until_noted(tmp_path / "side", 1)
    workers.kill(pid)
    assert stat.S_IMODE(spool_dir.stat().st_mode) == 0o700
    (path,) = spool.waiting()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_bytes(path.read_bytes() + b"torn")
    spool.replay()
    (torn,) = spool_dir.glob(f"*{spool.TORN}")
    assert stat.S_IMODE(torn.stat().st_mode) == 0o600
    relay()
    assert not Outbox.objects.exists()
