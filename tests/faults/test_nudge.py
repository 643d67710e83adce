"""The nudge in real processes, with brokers that work, refuse, keep silent and stop."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from audit_log.models import Outbox, Record
from audit_log.recording import nudge
from tests.faults.felt import assert_as_fast, assert_breaker_opened
from tests.faults.forks import forks
from tests.faults.servers import NOBODY, Redis, redis_server, silent_port
from tests.shop.models import Category

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]
QUEUE = "faults"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Redis]:
    with redis_server(tmp_path) as server:
        yield server


@pytest.fixture
def run(environment: dict[str, str], tmp_path: Path) -> Callable[..., Any]:
    """Run a job in a process of its own, on a broker. What it reports."""

    def call(broker: str, job: str = "commit", **arguments: Any) -> Any:
        result = tmp_path / "result"
        with forks({**environment, "FAULTS_BROKER": broker, "FAULTS_QUEUE": QUEUE}) as workers:
            assert workers.join(workers.start(job, result=str(result), **arguments)) == 0
        return json.loads(result.read_text()) if result.exists() else None

    return call


def _messages(broker: Redis) -> list[Any]:
    messages: Any = broker.client.lrange(QUEUE, 0, -1)
    return [json.loads(message) for message in messages]


def test_tests_start_no_thread():
    """L4, L5."""
    Category.objects.create(name="in a test")
    assert nudge.in_test_environment()
    assert nudge.wake()
    assert not nudge.is_running()
    assert "audit_log.nudge" not in [thread.name for thread in threading.enumerate()]


def test_many_commits_are_few_messages_without_a_payload(broker: Redis, run, settle):
    """nudge_storm."""
    report = run(broker.url, count=60, pause=0.001, patient=True)
    assert report["threads_before"] == ["MainThread"]
    assert report["threads_after"].count("audit_log.nudge") == 1
    messages = _messages(broker)
    assert 1 <= len(messages) <= report["lasted"] / nudge._COALESCE_SECONDS
    for message in messages:
        assert message["headers"]["task"] == nudge.TASK
        assert message["headers"]["expires"]
        assert message["headers"]["argsrepr"] == "()"
        assert message["headers"]["kwargsrepr"] == "{}"
        assert "audit_log" not in message["headers"]  # nobody's name travels with it
        arguments, options, _ = json.loads(base64.b64decode(message["body"]))
        assert (arguments, options) == ([], {})
        assert "committed" not in json.dumps(message)
    settle()
    assert Record.objects.filter(action="create").count() == 60
    # The connection was its own, and is closed again.
    assert set(report["connected"]) == {"audit_log.nudge"}


def test_message_goes_to_the_queue_of_the_settings(broker: Redis, run, environment):
    environment["FAULTS_AUDIT_LOG"] = json.dumps({"QUEUE": "audit"})
    run(broker.url, count=1, patient=True)
    assert broker.client.llen("audit") == 1
    assert broker.client.llen(QUEUE) == 0


@pytest.mark.parametrize("transport", ["redis", "amqp"])
@pytest.mark.parametrize("trouble", ["refused", "silent"])
def test_broker_that_is_down_is_felt_by_nobody_and_told_once(
    transport: str, trouble: str, run, settle
):
    """K4, redis_refused, redis_blackhole."""
    with ExitStack() as stack:
        port = NOBODY if trouble == "refused" else stack.enter_context(silent_port())
        report = run(f"{transport}://127.0.0.1:{port}//", count=15, pause=0.1)
    assert len(report["connected"]) >= 1
    assert set(report["connected"]) == {"audit_log.nudge"}
    assert_breaker_opened(report)
    told = [text for text in report["logged"] if "broker took no message" in text]
    assert len(told) == 1
    assert report["logged"] == told
    settle()
    assert Record.objects.filter(action="create").count() == 15


def test_broker_that_refuses_the_password_is_told_once(tmp_path: Path, run):
    """K4."""
    with redis_server(tmp_path, "--requirepass", "right") as server:
        url = server.url.replace("redis://", "redis://:wrong@")
        report = run(url, count=20, pause=0.05)
    assert_breaker_opened(report)
    assert len(report["logged"]) == 1
    assert ":wrong@" not in report["logged"][0]
    assert set(report["connected"]) == {"audit_log.nudge"}


def test_stopped_broker_slows_no_commit(broker: Redis, run, settle):
    """redis_sigstop."""

    def freely() -> Any:
        return run(broker.url, count=40, pause=0.02)

    def held_up() -> Any:
        broker.process.send_signal(signal.SIGSTOP)
        try:
            held = run(broker.url, count=40, pause=0.02)
        finally:
            broker.process.send_signal(signal.SIGCONT)
        assert set(held["connected"]) == {"audit_log.nudge"}
        return held

    compared = assert_as_fast(held_up, freely)
    settle()
    assert Record.objects.filter(action="create").count() == 2 * 40 * compared


def test_forked_child_has_a_thread_of_its_own(broker: Redis, run, tmp_path: Path):
    run(broker.url, job="commit_and_fork")
    reports = {
        name: json.loads((tmp_path / f"result.{name}").read_text())
        for name in ("parent", "child", "parent again")
    }
    assert reports["child"]["threads_before"] == ["MainThread"]
    assert reports["child"]["threads_after"].count("audit_log.nudge") == 1
    assert reports["parent again"]["threads_before"].count("audit_log.nudge") == 1
    assert set(reports["child"]["connected"]) == {"audit_log.nudge"}
    assert len(_messages(broker)) >= 3


# Its last round is given all the time that a busy machine needs; tests/recording/test_nudge.py has
# what happens where that runs out.
SCRIPT = """
import tests.faults.celery_app
from audit_log import context
from audit_log.recording import buffer, nudge
nudge._EXIT_SECONDS = 240
buffer.enqueue(context.new_event("probe.buffered", source="request"))
"""


@pytest.mark.parametrize("trouble", ["none", "silent"])
def test_exit_writes_what_is_buffered_and_has_an_end(
    trouble: str, broker: Redis, environment: dict[str, str], settle
):
    with silent_port() as port:
        url = broker.url if trouble == "none" else f"redis://127.0.0.1:{port}/0"
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**environment, "FAULTS_BROKER": url},
            check=True,
            timeout=300,
        )
    settle()
    assert Record.objects.filter(action="probe.buffered").count() == 1
    said = Record.objects.filter(stream="audit_log").order_by("sequence")
    assert list(said.values_list("action", flat=True)) == [
        "audit_log.started",
        "audit_log.stopped",
    ]


def test_project_without_celery_is_left_in_peace(environment: dict[str, str], tmp_path: Path):
    """L5: no app at all, and one that runs its tasks eagerly."""
    script = (
        "import django; django.setup()\n"
        "from tests.faults.jobs import commit\n"
        "{}\n"
        f"commit({str(tmp_path / 'result')!r}, 5, 0.05)"
    )
    eager = "import celery; app = celery.Celery('eager'); app.conf.task_always_eager = True"
    for app in ("", eager):
        command = [sys.executable, "-c", script.format(app)]
        subprocess.run(command, env=environment, check=True, timeout=300)
        report = json.loads((tmp_path / "result").read_text())
        assert report["logged"] == []
        assert report["connected"] == []
        assert report["losses"] == {}
    assert not Record.objects.exists()  # the relay never runs in the nudge thread
    assert Outbox.objects.count() >= 10
