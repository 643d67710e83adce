"""Real Celery workers and a real beat, in processes of their own."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def celery_process(environment: dict[str, str], folder: Path, *arguments: str) -> Iterator[int]:
    """`celery <arguments>` for the length of a block, with its log in `folder`. Its id."""
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


@contextmanager
def worker(environment: dict[str, str], folder: Path, *arguments: str) -> Iterator[int]:
    """A worker that runs its tasks in its own process."""
    options = ["--pool", "solo", "--loglevel", "INFO", "--without-mingle", "--without-gossip"]
    options += ["--hostname", f"{uuid.uuid4().hex}@localhost"]  # unique, or RabbitMQ refuses it
    with celery_process(environment, folder, "worker", *options, *arguments) as pid:
        yield pid


@contextmanager
def beat(environment: dict[str, str], folder: Path) -> Iterator[int]:
    """Beat, with its schedule in `folder`."""
    options = ["--schedule", str(folder / "schedule"), "--pidfile", ""]
    with celery_process(environment, folder, "beat", *options) as pid:
        yield pid


SECONDS = 240  # not to hang


def wait_until(until: Callable[[], bool], what: str) -> None:
    """Look until it is so. Fails with `what` where it never is."""
    deadline = time.monotonic() + SECONDS
    while not until():
        if time.monotonic() > deadline:
            pytest.fail(f"After {SECONDS} s: {what}")
        time.sleep(0.05)
