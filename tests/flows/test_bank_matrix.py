"""The bank on every database with every broker, by environment variables alone.

Site, worker and beat are processes as in production, and so is the client.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from kombu import Connection

from tests import services
from tests.conftest import ROOT
from tests.databases import empty_database, url
from tests.faults.servers import free_port, missing
from tests.settings import DATABASE

PASSWORD = "correct horse battery staple"
SET_UP = (
    "import django; django.setup()\n"
    "from django.core.management import call_command\n"
    "from django.db import connections\n"
    "call_command('migrate', verbosity=0)\n"
    "if 'audit' in connections:\n"
    "    call_command('migrate', 'audit_log', database='audit', verbosity=0)\n"
    f"call_command('seed', customers=4, payments=1, password={PASSWORD!r})\n"
    "call_command('check', fail_level='WARNING', databases=list(connections))\n"
)
WORKER = ["worker", "--beat", "--concurrency", "1", "--without-mingle", "--without-gossip"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(DATABASE != "sqlite", reason="chooses its own databases: once is enough"),
]


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
@pytest.mark.parametrize("database", ["sqlite", "postgres", "mysql"])
def test_bank_records_exactly_what_it_commits(database: str, broker: str, tmp_path: Path) -> None:
    found = _run(tmp_path, broker, database)
    assert found["ledger"] == "default"


def test_bank_with_its_ledger_apart_records_exactly_what_it_commits(tmp_path: Path) -> None:
    """Business on MariaDB, ledger on PostgreSQL."""
    found = _run(tmp_path, "redis", "mysql", ledger="postgres")
    assert found["ledger"] == "audit"


def _run(folder: Path, broker: str, database: str, ledger: str | None = None) -> dict[str, Any]:
    for service in {broker, database, ledger} - {"sqlite", None}:
        reason = services.trouble(str(service))
        if reason is not None:
            missing(reason)
    with ExitStack() as stack:
        environment = _environment(stack, folder, broker, database, ledger)
        _end(environment, "-c", SET_UP)
        port = str(free_port())
        web = [str(ROOT / "manage.py"), "runserver", "--noreload", f"127.0.0.1:{port}"]
        worker = _celery(environment["CELERY_QUEUE"])
        stack.enter_context(_process(environment, folder / "worker.log", *worker))
        site = stack.enter_context(_process(environment, folder / "site.log", *web))
        base = f"http://127.0.0.1:{port}"
        _wait_for(base, site)
        answer = _end(environment, "-m", "tests.flows.bank_driver", base, PASSWORD)
    found: dict[str, Any] = json.loads(answer.splitlines()[-1])
    assert found["unexpected"] == []
    assert found["relayed"], found
    assert found["problems"] == []
    assert found["changes"] > 50
    assert found["recorded_requests"] > 10
    assert found["verified"] is True
    return found


def _environment(
    stack: ExitStack, folder: Path, broker: str, database: str, ledger: str | None
) -> dict[str, str]:
    """The variables that choose the servers; a queue and databases of this test's own."""
    name = f"bank_{uuid.uuid4().hex[:12]}"
    brokers = {"redis": services.REDIS_URL, "rabbitmq": services.RABBITMQ_URL}
    kept = ("PATH", "HOME", "LANG", "COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START")
    environment = {
        **{key: os.environ[key] for key in kept if key in os.environ},
        "PYTHONPATH": str(ROOT),
        "DJANGO_SETTINGS_MODULE": "example_project.settings",
        "BANK_VAR_DIR": str(folder),
        "SECRET_KEY": uuid.uuid4().hex,
        "CELERY_BROKER_URL": brokers[broker],
        "CELERY_QUEUE": name,
        "DATABASE_URL": url(database, stack.enter_context(empty_database(database, name, folder))),
    }
    if ledger is not None:
        made = stack.enter_context(empty_database(ledger, f"{name}_audit", folder))
        environment["AUDIT_DATABASE_URL"] = url(ledger, made)
    stack.callback(_forget_queue, brokers[broker], name)
    return environment


def _forget_queue(broker: str, name: str) -> None:
    if broker.startswith("redis"):
        import redis

        with redis.Redis.from_url(broker) as client:
            for key in client.scan_iter(f"{name}:*"):
                client.delete(key)
        return
    with Connection(broker) as connection:
        channel: Any = connection.channel()
        channel.queue_delete(name)
        channel.exchange_delete(name)


def _celery(queue: str) -> list[str]:
    # RabbitMQ lets no two workers of one name in, whatever their queues.
    name = f"{queue}@localhost"
    return ["-m", "celery", "-A", "example_project", *WORKER, "--hostname", name, "--pidfile", ""]


@contextmanager
def _process(environment: dict[str, str], log: Path, *command: str) -> Iterator[Any]:
    """`python <command>`, told to end like by Ctrl-C; with its log where a test fails."""
    with (
        log.open("w") as file,
        subprocess.Popen(
            [sys.executable, *command],
            env=environment,
            cwd=ROOT,
            stdout=file,
            stderr=file,
            start_new_session=True,  # with the children it forks
        ) as process,
    ):
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
            sys.stdout.write(f"{log.name}\n{log.read_text()[-4000:]}\n")


def _end(environment: dict[str, str], *command: str) -> str:
    """Run `python <command>` to its end. What it printed."""
    ended = subprocess.run(
        [sys.executable, *command],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    return ended.stdout


def _wait_for(base: str, site: Any) -> None:
    deadline = time.monotonic() + 240  # not to hang
    while time.monotonic() < deadline and site.poll() is None:
        try:
            httpx.get(f"{base}/login/", timeout=60)
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    pytest.fail("The site does not answer.")
