"""Real workers on real brokers: nothing of ours in a message, a result, or what they print."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection

from audit_log.models import Outbox, Record
from audit_log.testing import leaks
from tests.conftest import ROOT
from tests.faults.rabbitmq import rabbitmq_node
from tests.faults.servers import Redis, redis_server
from tests.faults.workers import wait_until
from tests.leaks.senders import ONE_LINE
from tests.shop.models import Person

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    with redis_server(tmp_path) as server:
        yield server


@pytest.fixture(params=["redis", "rabbitmq"])
def broker(request: pytest.FixtureRequest, redis: Redis, tmp_path: Path) -> Iterator[str]:
    """The URL of a broker of the test's own."""
    if request.param == "redis":
        yield redis.url
        return
    folder = tmp_path / "rabbitmq"
    folder.mkdir()
    with rabbitmq_node(folder) as node:
        yield node.url


@pytest.fixture
def environment(
    process_environment: dict[str, str], broker: str, redis: Redis, tmp_path: Path
) -> dict[str, str]:
    return {
        **process_environment,
        "DJANGO_SETTINGS_MODULE": "tests.faults.settings",
        "FAULTS_SPOOL_DIR": str(tmp_path / "spool"),
        "FAULTS_BROKER": broker,
        "LEAKS_RESULTS": redis.url,
        "LEAKS_LOG": str(tmp_path / "ours.log"),
    }


@pytest.fixture
def run(environment: dict[str, str]) -> Callable[[str, Any], bytes]:
    """Runs a process of the project's. What it printed."""

    def call(what: str, secrets: Any) -> bytes:
        command = [sys.executable, "-m", "tests.leaks.driver", what]
        given = json.dumps(secrets).encode()
        done = subprocess.run(
            command, input=given, env=environment, cwd=ROOT, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout + done.stderr

    return call


@contextmanager
def working(environment: dict[str, str], log: Path) -> Iterator[None]:
    """A worker that prints all it has to say into `log`."""
    options = ["--pool", "solo", "--loglevel", "INFO", "--without-mingle", "--without-gossip"]
    options += ["--hostname", f"{uuid.uuid4().hex}@localhost"]
    command = [sys.executable, "-m", "celery", "-A", "tests.leaks.celery_app", "worker", *options]
    with (
        log.open("wb") as file,
        subprocess.Popen(command, env=environment, cwd=ROOT, stdout=file, stderr=file) as process,
    ):
        try:
            yield
        finally:
            process.kill()


def _queued(broker: str, queue: str = "celery") -> int:
    with Connection(broker) as connection:
        channel: Any = connection.default_channel
        try:
            return int(channel.queue_declare(queue, passive=True).message_count)
        except connection.channel_errors:  # an empty list is no key of Redis
            return 0


def test_messages_hold_nothing_of_what_was_saved_and_why(
    run: Callable[[str, Any], bytes], broker: str, redis: Redis
):
    """H3: the nudge says nothing, the header of a task is encrypted."""
    with leaks.watch() as watch:
        printed = run("save", [watch.secret("password", "a commit") for _ in range(5)])
        acts = [
            [watch.secret("name", "who acts"), f"for {watch.secret(kind, 'a reason')} now"]
            for kind in ONE_LINE
        ]
        printed += run("act", acts)
        watch.look_in(leaks.redis(redis.url), leaks.values("what a process prints", printed))
        watch.look_in(leaks.queues(broker, "celery"))
        assert _queued(broker) >= len(acts) + 1  # the nudge as well
        watch.assert_nowhere()
        assert _queued(broker) >= len(acts) + 1  # they were given back


def test_worker_leaves_no_secret_of_its_tasks_behind(
    run: Callable[[str, Any], bytes],
    environment: dict[str, str],
    broker: str,
    redis: Redis,
    tmp_path: Path,
):
    """H3: arguments, and the words of exceptions."""
    log = tmp_path / "worker.log"
    with ExitStack() as stack:
        given = stack.enter_context(leaks.watch())
        failing = stack.enter_context(leaks.watch(seed=7))
        sent = {
            "save": [
                [
                    given.secret("odd_password", "an argument of a task"),
                    given.secret("token", "a keyword argument of a task"),
                    f"see {given.secret(kind, 'a keyword argument of a task')} there",
                ]
                for kind in leaks.BY_FORM
            ],
            "fail": [
                [failing.secret(kind, "the words of a task's exception")]
                for kind in ("token", *ONE_LINE)
            ],
        }
        with working(environment, log):
            printed = run("task", sent)
            wait_until(lambda: _is_done(broker, sent), "the worker has not done its tasks")
        # Celery itself prints what a task's exception says, and keeps it as the task's result.
        given.look_in(
            leaks.files(log, name="what a worker prints"),
            leaks.redis(redis.url),
            leaks.values("what a process prints", printed),
        )
        failing.look_in(leaks.files(tmp_path / "ours.log", name="our lines of a worker's log"))
        assert (tmp_path / "ours.log").exists()
        given.assert_nowhere()
        failing.assert_nowhere()
    assert Record.objects.filter(action="task", outcome="failure").count() == len(sent["fail"])


def _is_done(broker: str, sent: dict[str, list[Any]]) -> bool:
    """Whether every task has run, and all of it is stored."""
    saved = Person.objects.filter(nickname="by a task").count() == len(sent["save"])
    failed = Record.objects.filter(action="task", outcome="failure").count() == len(sent["fail"])
    return saved and failed and not Outbox.objects.exists() and _queued(broker) == 0
