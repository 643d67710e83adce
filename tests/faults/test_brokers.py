"""Brokers that refuse, freeze and die while requests, workers and beat go on."""

from __future__ import annotations

import json
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import pytest
from kombu import Connection

from audit_log.models import Outbox, Record
from tests.faults.forks import forks
from tests.faults.rabbitmq import RabbitMQ, rabbitmq_node
from tests.faults.servers import Redis, redis_server
from tests.faults.workers import beat, wait_until, worker
from tests.settings import DATABASE

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.slow,
    pytest.mark.skipif(DATABASE != "sqlite", reason="no broker knows the database: once is enough"),
]
FROZEN_SECONDS = 10


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    with redis_server(tmp_path) as server:
        yield server


@pytest.fixture
def rabbitmq(tmp_path: Path) -> Iterator[RabbitMQ]:
    folder = tmp_path / "rabbitmq"
    folder.mkdir()
    with rabbitmq_node(folder) as node:
        yield node


@pytest.fixture
def ask(environment: dict[str, str], tmp_path: Path) -> Callable[..., Any]:
    """Send requests that commit, in a process of their own. What they felt of the broker."""

    def call(broker: str, count: int = 20, pause: float = 0.02) -> Any:
        result = tmp_path / "result"
        arguments = {"result": str(result), "count": count, "pause": pause, "wait": 0.6}
        with forks({**environment, "FAULTS_BROKER": broker}) as workers:
            assert workers.join(workers.start("requests", **arguments)) == 0
        return json.loads(result.read_text())

    return call


def _is_unaffected(report: Any, free: Any) -> None:
    """Every answer came, nobody but the nudge thread went near the broker, and none waited."""
    assert set(report["answers"]) == {200}
    assert set(report["connected"]) <= {"audit_log.nudge"}
    # Ten times leaves room for a noisy machine; waiting for the broker would be a hundred times.
    assert median(report["seconds"]) < 10 * median(free["seconds"])
    assert len(report["logged"]) <= 1  # not one for each request


def _all_relayed() -> bool:
    return not Outbox.objects.exists()


def _stored() -> int:
    return Record.objects.filter(action="create", target_type="shop.category").count()


def test_redis_that_refuses_slows_no_request(redis: Redis, ask, settle):
    """redis_refused, K4."""
    free = ask(redis.url, count=60)
    redis.process.kill()
    redis.process.wait(10)
    refused = ask(redis.url, count=60)
    _is_unaffected(refused, free)
    assert refused["connected"]  # the nudge did try
    assert refused["losses"] == {"nudge_failed": 1}
    settle()
    assert _stored() == 120


def test_frozen_redis_slows_no_request_and_everything_is_relayed_once_it_thaws(
    redis: Redis, environment: dict[str, str], tmp_path: Path, ask, settle
):
    """redis_sigstop."""
    environment["FAULTS_BROKER"] = redis.url
    with worker(environment, tmp_path), beat(environment, tmp_path):
        free = ask(redis.url)
        wait_until(_all_relayed, 40, "the worker does not work")
        redis.process.send_signal(signal.SIGSTOP)
        thaws = time.monotonic() + FROZEN_SECONDS
        try:
            frozen = ask(redis.url, count=60)
            time.sleep(max(0, thaws - time.monotonic()))
            assert not _all_relayed()
        finally:
            redis.process.send_signal(signal.SIGCONT)
        wait_until(_all_relayed, 40, "not all was relayed after the broker went on")
    _is_unaffected(frozen, free)
    settle()
    assert _stored() == 80


def test_killed_rabbitmq_is_felt_by_nobody_and_everything_is_relayed_once_it_is_back(
    rabbitmq: RabbitMQ, environment: dict[str, str], tmp_path: Path, ask, settle
):
    """rabbit_kill9: with a quorum queue, and beat alone to sweep up."""
    environment |= {"FAULTS_BROKER": rabbitmq.url, "FAULTS_QUEUE_TYPE": "quorum"}
    with worker(environment, tmp_path):
        free = ask(rabbitmq.url)
        wait_until(_all_relayed, 40, "no nudge reached the worker")
        with beat(environment, tmp_path):
            rabbitmq.kill()
            killed = ask(rabbitmq.url)
            assert not _all_relayed()
            rabbitmq.start()
            wait_until(_all_relayed, 60, "not all was relayed after the broker came back")
    _is_unaffected(killed, free)
    assert killed["losses"] == {"nudge_failed": 1}
    settle()
    assert _stored() == 40


def test_nudge_through_rabbitmq_reaches_a_worker(
    rabbitmq_url: str, environment: dict[str, str], tmp_path: Path, ask, settle
):
    """Without beat, so it is the nudge that does it."""
    queue = f"audit_log_test_{uuid.uuid4().hex}"
    environment |= {"FAULTS_BROKER": rabbitmq_url, "FAULTS_QUEUE": queue}
    try:
        with worker(environment, tmp_path):
            ask(rabbitmq_url)
            wait_until(_all_relayed, 40, "no nudge reached the worker")
    finally:
        with Connection(rabbitmq_url) as connection:
            channel: Any = connection.channel()
            channel.queue_delete(queue)
            channel.exchange_delete(queue)
    settle()
    assert _stored() == 20


def test_rabbitmq_that_refuses_the_password_is_told_once(rabbitmq_url: str, ask, settle):
    """K4."""
    server = urlsplit(rabbitmq_url)
    url = f"amqp://guest:wrong@{server.hostname}:{server.port or 5672}//"
    refused = ask(url, count=30)
    assert set(refused["answers"]) == {200}
    assert set(refused["connected"]) == {"audit_log.nudge"}
    assert refused["losses"] == {"nudge_failed": 1}
    (said,) = refused["logged"]
    assert ":wrong@" not in said
    settle()
    assert _stored() == 30
