"""Brokers that refuse, freeze and die while requests, workers and beat go on."""

from __future__ import annotations

import json
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from kombu import Connection

from audit_log.models import Outbox, Record
from tests.faults.felt import assert_as_fast, assert_breaker_opened
from tests.faults.forks import forks
from tests.faults.rabbitmq import RabbitMQ, rabbitmq_node
from tests.faults.servers import NOBODY, Redis, redis_server
from tests.faults.workers import beat, wait_until, worker
from tests.settings import DATABASE
from tests.shop.models import Category

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

    def call(broker: str, count: int = 20, pause: float = 0.02, *, patient: bool = False) -> Any:
        result = tmp_path / "result"
        arguments = {"result": str(result), "count": count, "pause": pause, "patient": patient}
        with forks({**environment, "FAULTS_BROKER": broker}) as workers:
            assert workers.join(workers.start("requests", **arguments)) == 0
        return json.loads(result.read_text())

    return call


def _is_unaffected(report: Any) -> Any:
    """Every answer came, and nobody but the nudge thread went near the broker."""
    assert set(report["answers"]) == {200}
    assert set(report["connected"]) <= {"audit_log.nudge"}
    assert len(report["logged"]) <= 1  # not one for each request
    return report


def _relayed_by_a_nudge(ask: Callable[[], Any]) -> None:
    """Send requests until a nudge has had the worker relay them, without beat.

    Once is enough, unless the worker starts so slowly that the message has expired.
    """
    for _ in range(4):
        ask()
        deadline = time.monotonic() + 90  # a message lives for 60 s
        while time.monotonic() < deadline:
            if _all_relayed():
                return
            time.sleep(0.05)
    pytest.fail("No nudge of four had the worker relay.")


def _until_something_waits(ask: Callable[[], Any]) -> None:
    """Send requests while the broker is gone: what the worker was given before, it still does."""
    for _ in range(4):
        ask()
        if not _all_relayed():
            return
    pytest.fail("The worker relays without a broker.")


def _all_relayed() -> bool:
    return not Outbox.objects.exists()


def _assert_all_stored(settle: Callable[[], None], at_least: int) -> None:
    settle()
    stored = Record.objects.filter(action="create", target_type="shop.category")
    assert stored.count() == Category.objects.count() >= at_least


def test_redis_that_refuses_slows_no_request(redis: Redis, ask, settle):
    """redis_refused, K4."""

    def refused() -> Any:
        report = _is_unaffected(ask(f"redis://127.0.0.1:{NOBODY}/0", count=60))
        assert report["connected"]  # the nudge did try
        assert set(report["losses"]) == {"nudge_failed"}
        assert_breaker_opened(report)
        return report

    assert_as_fast(refused, lambda: ask(redis.url, count=60))
    _assert_all_stored(settle, 120)


def test_frozen_redis_slows_no_request_and_everything_is_relayed_once_it_thaws(
    redis: Redis, environment: dict[str, str], tmp_path: Path, ask, settle
):
    """redis_sigstop."""
    environment["FAULTS_BROKER"] = redis.url

    def frozen() -> Any:
        redis.process.send_signal(signal.SIGSTOP)
        thaws = time.monotonic() + FROZEN_SECONDS
        try:
            report = _is_unaffected(ask(redis.url, count=60))
            _until_something_waits(lambda: ask(redis.url))
            time.sleep(max(0, thaws - time.monotonic()))
            assert not _all_relayed()
        finally:
            redis.process.send_signal(signal.SIGCONT)
        wait_until(_all_relayed, "not all was relayed after the broker went on")
        return report

    with worker(environment, tmp_path), beat(environment, tmp_path):
        _relayed_by_a_nudge(lambda: ask(redis.url))
        assert_as_fast(frozen, lambda: ask(redis.url))
    _assert_all_stored(settle, 100)


def test_killed_rabbitmq_is_felt_by_nobody_and_everything_is_relayed_once_it_is_back(
    rabbitmq: RabbitMQ, environment: dict[str, str], tmp_path: Path, ask, settle
):
    """rabbit_kill9: with a quorum queue, and beat alone to sweep up."""
    environment |= {"FAULTS_BROKER": rabbitmq.url, "FAULTS_QUEUE_TYPE": "quorum"}

    def killed() -> Any:
        rabbitmq.kill()
        report = _is_unaffected(ask(rabbitmq.url))
        assert set(report["losses"]) == {"nudge_failed"}
        assert_breaker_opened(report)
        _until_something_waits(lambda: ask(rabbitmq.url))
        rabbitmq.start()
        wait_until(_all_relayed, "not all was relayed after the broker came back")
        return report

    with worker(environment, tmp_path):
        _relayed_by_a_nudge(lambda: ask(rabbitmq.url, patient=True))
        with beat(environment, tmp_path):
            assert_as_fast(killed, lambda: ask(rabbitmq.url))
    _assert_all_stored(settle, 60)


def test_nudge_through_rabbitmq_reaches_a_worker(
    rabbitmq_url: str, environment: dict[str, str], tmp_path: Path, ask, settle
):
    """Without beat, so it is the nudge that does it."""
    queue = f"audit_log_test_{uuid.uuid4().hex}"
    environment |= {"FAULTS_BROKER": rabbitmq_url, "FAULTS_QUEUE": queue}
    try:
        with worker(environment, tmp_path):
            _relayed_by_a_nudge(lambda: ask(rabbitmq_url, patient=True))
    finally:
        with Connection(rabbitmq_url) as connection:
            channel: Any = connection.channel()
            channel.queue_delete(queue)
            channel.exchange_delete(queue)
    _assert_all_stored(settle, 20)


def test_rabbitmq_that_refuses_the_password_is_told_once(rabbitmq_url: str, ask, settle):
    """K4."""
    server = urlsplit(rabbitmq_url)
    url = f"amqp://guest:wrong@{server.hostname}:{server.port or 5672}//"
    refused = ask(url, count=30)
    assert set(refused["answers"]) == {200}
    assert set(refused["connected"]) == {"audit_log.nudge"}
    assert set(refused["losses"]) == {"nudge_failed"}
    assert_breaker_opened(refused)
    (said,) = refused["logged"]
    assert ":wrong@" not in said
    _assert_all_stored(settle, 30)
