"""A real Celery worker and a real beat."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from audit_log.models import Outbox, Record
from tests.faults.forks import forks
from tests.faults.servers import Redis, redis_server
from tests.shop.models import Category

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Redis]:
    with redis_server(tmp_path) as server:
        yield server


@pytest.fixture
def environment(environment: dict[str, str], broker: Redis) -> dict[str, str]:
    return {**environment, "FAULTS_BROKER": broker.url}


@contextmanager
def _celery(environment: dict[str, str], folder: Path, *arguments: str) -> Iterator[int]:
    log = folder / f"{arguments[0]}.log"
    command = [sys.executable, "-m", "celery", "-A", "tests.faults.celery_app", *arguments]
    with (
        log.open("w") as file,
        subprocess.Popen(command, env=environment, stdout=file, stderr=file) as process,
    ):
        try:
            yield process.pid
        finally:
            process.kill()
            sys.stdout.write(log.read_text())  # shown where a test fails


def _worker(environment: dict[str, str], folder: Path, *arguments: str):
    options = ["--pool", "solo", "--loglevel", "INFO", "--without-mingle", "--without-gossip"]
    return _celery(environment, folder, "worker", *options, *arguments)


def _wait(until: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        if time.monotonic() > deadline:
            pytest.fail(f"After {seconds} s: {what}")
        time.sleep(0.05)


def _commit(environment: dict[str, str], tmp_path: Path) -> None:
    with forks(environment) as workers:
        job = {"result": str(tmp_path / "result"), "count": 3, "pause": 0.0, "wait": 0.6}
        assert workers.join(workers.start("commit", **job)) == 0


def test_nudge_reaches_a_worker_that_relays(environment: dict[str, str], tmp_path: Path, settle):
    """Without beat, so it is the nudge that does it."""
    with _worker(environment, tmp_path):
        _commit(environment, tmp_path)
        _wait(lambda: not Outbox.objects.exists(), 30, "the outbox is not empty")
    settle()
    assert Record.objects.filter(action="create").count() == 3


def test_beat_sweeps_up_what_lost_its_nudge(
    environment: dict[str, str], broker: Redis, tmp_path: Path, settle
):
    """redis_flushall."""
    with _worker(environment, tmp_path) as worker:
        _commit(environment, tmp_path)
        _wait(lambda: not Outbox.objects.exists(), 30, "the worker does not work")
        os.kill(worker, signal.SIGSTOP)
        # It waits in Redis for the next message, and would be given it whatever happens to it.
        broker.client.client_kill_filter(_type="normal", skipme=True)
        _commit(environment, tmp_path)
        broker.client.flushall()
        os.kill(worker, signal.SIGCONT)
        time.sleep(1)
        assert Outbox.objects.count() >= 3  # nobody knows of them
        schedule = ["--schedule", str(tmp_path / "schedule"), "--pidfile", ""]
        with _celery(environment, tmp_path, "beat", *schedule):
            _wait(lambda: not Outbox.objects.exists(), 40, "beat did not sweep")
    settle()
    assert Record.objects.filter(action="create").count() == 6


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
    (message,) = (tmp_path / "messages").iterdir()
    assert "committed" not in message.read_text()
    with _worker(environment, tmp_path):
        _wait(lambda: not Outbox.objects.exists(), 30, "the outbox is not empty")
    settle()
    assert Record.objects.filter(action="create").count() == 3


def test_killed_worker_loses_nothing(environment: dict[str, str], tmp_path: Path, settle):
    """child_oom: the next run relays what the killed one had claimed."""
    with _worker(environment, tmp_path):
        _commit(environment, tmp_path)
    Category.objects.create(name="afterwards")
    settle()
    assert Record.objects.filter(action="create").count() == 4
