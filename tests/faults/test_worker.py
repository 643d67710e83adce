"""A real Celery worker and a real beat."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from audit_log.models import Outbox, Record
from tests.faults.forks import forks
from tests.faults.servers import Redis, redis_server
from tests.faults.workers import beat, wait_until, worker
from tests.shop.models import Category

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Redis]:
    with redis_server(tmp_path) as server:
        yield server


@pytest.fixture
def environment(environment: dict[str, str], broker: Redis) -> dict[str, str]:
    return {**environment, "FAULTS_BROKER": broker.url}


def _commit(environment: dict[str, str], tmp_path: Path) -> None:
    with forks(environment) as workers:
        job = {"result": str(tmp_path / "result"), "count": 3, "patient": True}
        assert workers.join(workers.start("commit", **job)) == 0


def _is_idle(broker: Redis, tmp_path: Path) -> bool:
    """Whether the worker has been given every message there was, and is done with all."""
    sent: Any = broker.client.info("commandstats")
    log = (tmp_path / "worker.log").read_text()
    done = log.count("] succeeded in") + log.count("Discarding revoked task")  # expired
    return bool(sent["cmdstat_lpush"]["calls"] == log.count("] received") == done)


def _commit_until_relayed(environment: dict[str, str], tmp_path: Path) -> int:
    """How many rows were committed until a nudge had the worker relay all of them.

    One commit is enough, unless the worker starts so slowly that the message has expired.
    """
    for commits in range(1, 5):
        _commit(environment, tmp_path)
        deadline = time.monotonic() + 90  # a message lives for 60 s
        while time.monotonic() < deadline:
            if not Outbox.objects.exists():
                return 3 * commits
            time.sleep(0.05)
    pytest.fail("No nudge of four had the worker relay.")


def test_nudge_reaches_a_worker_that_relays(environment: dict[str, str], tmp_path: Path, settle):
    """Without beat, so it is the nudge that does it."""
    with worker(environment, tmp_path):
        committed = _commit_until_relayed(environment, tmp_path)
    settle()
    assert Record.objects.filter(action="create").count() == committed


def test_beat_sweeps_up_what_lost_its_nudge(
    environment: dict[str, str], broker: Redis, tmp_path: Path, settle
):
    """redis_flushall."""
    with worker(environment, tmp_path) as pid:
        committed = _commit_until_relayed(environment, tmp_path)
        # Stopped while it looks for more, it would hold SQLite's lock.
        wait_until(lambda: _is_idle(broker, tmp_path), "the worker's task has not ended")
        os.kill(pid, signal.SIGSTOP)
        # It waits in Redis for the next message, and would be given it whatever happens to it.
        broker.client.client_kill_filter(_type="normal", skipme=True)
        _commit(environment, tmp_path)
        broker.client.flushall()
        os.kill(pid, signal.SIGCONT)
        time.sleep(1)
        assert Outbox.objects.count() >= 3  # nobody knows of them
        with beat(environment, tmp_path):
            wait_until(lambda: not Outbox.objects.exists(), "beat did not sweep")
    settle()
    assert Record.objects.filter(action="create").count() == committed + 3


def test_filesystem_broker_will_do(environment: dict[str, str], tmp_path: Path, settle):
    folders = {
        "data_folder_in": str(tmp_path / "messages"),
        "data_folder_out": str(tmp_path / "messages"),
        "control_folder": str(tmp_path / "control"),
    }
    (tmp_path / "messages").mkdir()
    environment["FAULTS_BROKER"] = "filesystem://"
    environment["FAULTS_TRANSPORT"] = json.dumps(folders)
    _commit(environment, tmp_path)
    messages = [path.read_text() for path in (tmp_path / "messages").iterdir()]
    assert messages
    assert "committed" not in "".join(messages)
    with worker(environment, tmp_path):
        committed = 3 + _commit_until_relayed(environment, tmp_path)
    settle()
    assert Record.objects.filter(action="create").count() == committed


def test_killed_worker_loses_nothing(environment: dict[str, str], tmp_path: Path, settle):
    """child_oom: the next run relays what the killed one had claimed."""
    with worker(environment, tmp_path):
        _commit(environment, tmp_path)
    Category.objects.create(name="afterwards")
    settle()
    assert Record.objects.filter(action="create").count() == 4
