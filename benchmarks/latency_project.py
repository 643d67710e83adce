"""The project of `benchmarks.latency`: its database, worker, beat and writing process."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from select import select
from typing import Any

from tests import services
from tests.databases import empty_database


class Stuck(Exception):
    """The records do not come."""


@contextmanager
def project() -> Iterator[tuple[str, dict[str, str]]]:
    """A database, a worker and a beat; the database's name and the environment of processes."""
    name = f"audit_log_bench_latency_{os.getpid()}"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        made = stack.enter_context(empty_database("postgres", name, folder))
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "benchmarks.latency_settings",
            "AUDIT_LOG_BENCH_DB": "postgres",
            "AUDIT_LOG_BENCH_NAME": made,
            "AUDIT_LOG_BENCH_PREFIX": f"{name}:",
        }
        migrate = [sys.executable, "-m", "django", "migrate", "--run-syncdb", "--verbosity", "0"]
        subprocess.run(migrate, check=True, env=environment)  # noqa: S603 - our own code
        stack.callback(_forget_keys, f"{name}:")
        worker = ("worker", "--concurrency", "2", "--without-mingle", "--without-gossip")
        beat = ("beat", "--schedule", str(folder / "beat"), "--pidfile", "")
        for arguments in (worker, beat):
            stack.enter_context(_celery(environment, folder, *arguments))
        yield made, environment


@contextmanager
def _celery(environment: dict[str, str], folder: Path, *arguments: str) -> Iterator[None]:
    """`celery <arguments>`; what it said is shown when something goes wrong."""
    log = folder / f"{arguments[0]}.log"
    command = [sys.executable, "-m", "celery", "-A", "benchmarks.latency_app", *arguments]
    with (
        log.open("w") as file,
        subprocess.Popen(command, env=environment, stdout=file, stderr=file) as process,  # noqa: S603
    ):
        try:
            yield
        except Exception:
            sys.stderr.write(log.read_text())
            raise
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def writing(environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """The process that writes; it ends with its input."""
    command = [sys.executable, "-m", "benchmarks.latency_writer"]
    with subprocess.Popen(  # noqa: S603 - our own code
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        line_of(process)
        yield process


def send(process: subprocess.Popen[str], line: str) -> None:
    """Tell a process something."""
    if process.stdin is None:
        raise Stuck("The writer has no input.")
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def line_of(process: subprocess.Popen[str]) -> str:
    """What it says next, or has said already. Raises Stuck when it has ended."""
    line = process.stdout.readline() if process.stdout is not None else ""
    if not line:
        raise Stuck("The writer ended; see above.")
    return line


def has_said(process: subprocess.Popen[str]) -> bool:
    """Whether there is a line to read."""
    return process.stdout is not None and bool(select([process.stdout.fileno()], [], [], 0)[0])


@contextmanager
def connected(database: str) -> Iterator[Any]:
    """A connection of the measuring process's own, past Django."""
    import psycopg  # noqa: PLC0415 - only where there is a server

    where = psycopg.conninfo.make_conninfo(**services.POSTGRES, dbname=database)
    with psycopg.connect(where, autocommit=True) as connection:
        yield connection


def _forget_keys(prefix: str) -> None:
    """What Celery left in Redis."""
    from redis import Redis  # noqa: PLC0415 - only where there is a server

    with Redis.from_url(services.REDIS_URL) as redis:
        for key in redis.scan_iter(f"{prefix}*"):
            redis.delete(key)
