"""The nudge thread, made to run inside the tests' own process."""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery, _state

from audit_log.recording import nudge


@pytest.fixture
def thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[nudge._Nudger]:
    """A nudger that may start, with nothing of the process's own to do."""
    monkeypatch.setattr(nudge, "in_test_environment", lambda: False)
    monkeypatch.setattr(nudge, "_ticks", [])
    monkeypatch.setattr(nudge, "_COALESCE_SECONDS", 0.05)
    monkeypatch.setattr(nudge, "_EXIT_SECONDS", 240.0)  # a busy machine may stall for long
    nudger = nudge._Nudger()
    monkeypatch.setattr(nudge, "_nudger", nudger)
    yield nudger
    nudger.stop()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    times: list[float] = []
    monkeypatch.setattr(nudge, "send", lambda: times.append(time.monotonic()))
    return times


def _wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 240  # not to hang
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_thread_is_lazy_and_there_is_one(thread: nudge._Nudger, sent: list[float]):
    assert not nudge.is_running()
    for _ in range(50):
        threading.Thread(target=nudge.wake).start()
    _wait(lambda: bool(sent))
    names = [t.name for t in threading.enumerate()]
    assert names.count("audit_log.nudge") == 1
    assert all(t.daemon for t in threading.enumerate() if t.name == "audit_log.nudge")


def test_what_has_not_committed_sends_no_message(thread: nudge._Nudger, sent: list[float]):
    rounds: list[bool] = []
    nudge.on_tick(lambda: rounds.append(True))
    assert nudge.wake(committed=False)
    _wait(lambda: bool(rounds))
    thread.stop()
    assert sent == []


def test_commit_that_meets_a_request_is_not_forgotten(thread: nudge._Nudger, sent: list[float]):
    for n in range(40):
        count = len(sent)
        threads = [
            threading.Thread(target=nudge.wake, kwargs={"committed": committed})
            for committed in (True, False, False)
        ]
        for one in threads:
            one.start()
        _wait(lambda count=count: len(sent) > count)  # type: ignore[misc]
        if n > 3 and len(sent) > 20:
            break


def test_stop_runs_one_last_round_at_once(
    thread: nudge._Nudger, sent: list[float], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(nudge, "_COALESCE_SECONDS", 60.0)
    nudge.wake()
    thread.stop()
    assert len(sent) == 1
    assert not nudge.is_running()
    assert nudge.wake() is False  # too late for a round


def test_stop_does_not_wait_for_a_round_that_hangs(
    thread: nudge._Nudger, monkeypatch: pytest.MonkeyPatch
):
    go_on = threading.Event()
    monkeypatch.setattr(nudge, "_EXIT_SECONDS", 0.1)
    monkeypatch.setattr(nudge, "send", lambda: go_on.wait(300))
    nudge.wake()
    thread.stop()
    assert thread.is_running()
    go_on.set()
    _wait(lambda: not thread.is_running())


def test_thread_outlives_what_it_has_to_do(
    thread: nudge._Nudger, sent: list[float], caplog: pytest.LogCaptureFixture
):
    def failing() -> None:
        raise RuntimeError("whatever")

    nudge.on_tick(failing)
    with caplog.at_level(logging.ERROR, "audit_log"):
        nudge.wake()
        _wait(lambda: bool(sent))
        nudge.wake()
        _wait(lambda: len(sent) == 2)
    assert thread.is_running()


def test_first_goes_before_those_that_came_earlier(thread: nudge._Nudger, sent: list[float]):
    order: list[str] = []
    nudge.on_tick(lambda: order.append("second"))
    nudge.on_tick(lambda: order.append("first"), first=True)
    nudge.wake()
    _wait(lambda: len(order) >= 2)
    assert order[:2] == ["first", "second"]


def test_rare_work_is_rare(thread: nudge._Nudger, sent: list[float]):
    done: list[bool] = []
    nudge.on_tick(lambda: done.append(True), every=60)
    for n in range(3):
        nudge.wake()
        _wait(lambda n=n: len(sent) > n)  # type: ignore[misc]
    assert len(done) == 1


def test_breaker_opens_warns_once_and_closes_again(
    thread: nudge._Nudger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """K4."""
    attempts: list[float] = []
    broken = True

    def send() -> None:
        attempts.append(time.monotonic())
        if broken:
            raise OSError("refused by amqp://app:hunter2@broker//")

    monkeypatch.setattr(nudge, "send", send)
    monkeypatch.setattr(nudge, "_BREAKER_SECONDS", 0.5)
    monkeypatch.setattr(nudge, "_IDLE_SECONDS", 0.1)
    with caplog.at_level(logging.WARNING, "audit_log"):
        nudge.wake()
        _wait(lambda: len(attempts) == 1)
        while time.monotonic() < attempts[0] + 0.3:
            nudge.wake()
            time.sleep(0.01)
        _wait(lambda: len(attempts) >= 2)  # tried again, without another commit
        broken = False
        _wait(lambda: thread._broken_until == 0.0)
        thread.stop()
    assert all(later - earlier >= 0.5 for earlier, later in itertools.pairwise(attempts))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "(OSError: refused by amqp://app:[MASKED]@broker//)" in caplog.text
    assert thread._broken_until == 0.0


def test_process_that_can_have_no_thread_is_told(
    thread: nudge._Nudger, monkeypatch: pytest.MonkeyPatch
):
    """L9: uWSGI without threads, an interpreter that shuts down."""

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert nudge.wake() is False
    assert not nudge.is_running()
    monkeypatch.undo()


@pytest.fixture
def apps(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What Celery knows, to be filled."""
    known: list[Any] = []
    monkeypatch.setattr(_state, "default_app", None)
    monkeypatch.setattr(_state, "_get_active_apps", lambda: known)
    monkeypatch.setattr("celery._state._tls.current_app", None)
    return known


def test_app_made_in_another_thread_is_found(apps: list[Any]):
    assert nudge.celery_app() is None
    app = Celery("project", set_as_current=False)
    apps.append(app)
    assert nudge.celery_app() is app


def test_app_that_celery_made_itself_is_none(apps: list[Any], monkeypatch: pytest.MonkeyPatch):
    made = Celery("default", set_as_current=False)
    apps.append(made)
    monkeypatch.setattr(_state, "default_app", made)
    assert nudge.celery_app() is None


def test_app_that_the_project_made_the_default_goes_first(
    apps: list[Any], monkeypatch: pytest.MonkeyPatch
):
    first, chosen = Celery("a", set_as_current=False), Celery("z", set_as_current=False)
    apps += [first, chosen]
    assert nudge.celery_app() is first
    monkeypatch.setattr(_state, "default_app", chosen)
    assert nudge.celery_app() is chosen


def test_eager_app_gets_no_message(apps: list[Any]):
    """L5."""
    app = Celery("eager", set_as_current=False)
    app.conf.task_always_eager = True
    apps.append(app)
    assert nudge.celery_app() is None
    nudge.send()


@pytest.mark.parametrize(
    ("url", "bounds"),
    [
        ("redis://127.0.0.1:1/0", "redis"),
        ("rediss://127.0.0.1:1/0", "redis"),
        ("redis://127.0.0.1:1/0;redis://127.0.0.1:2/0", "redis"),
        ("amqp://127.0.0.1:1//", "amqp"),
        ("pyamqp://127.0.0.1:1//", "amqp"),
        ("memory://", None),
    ],
)
def test_every_broker_is_bounded_as_it_can_be(
    url: str, bounds: str | None, apps: list[Any], monkeypatch: pytest.MonkeyPatch
):
    app = Celery("project", broker=url, set_as_current=False)
    app.conf.broker_transport_options = {"socket_timeout": 99, "visibility_timeout": 7}
    apps.append(app)
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(app, "send_task", lambda name, **options: calls.append(options))
    nudge.send()
    (options,) = calls
    connection = options["connection"]
    assert connection.connect_timeout == 0.5
    expected = {
        "socket_timeout": 99,
        "visibility_timeout": 7,
        **nudge._BOUNDED.get(bounds or "", {}),
    }
    assert connection.transport_options == expected
    assert options["retry"] is False
    assert options["ignore_result"] is True
    assert app.conf.broker_transport_options["socket_timeout"] == 99  # the project's stay


def test_fork_leaves_the_parents_thread_to_the_parent(thread: nudge._Nudger, sent: list[float]):
    nudge.wake()
    _wait(lambda: bool(sent))
    pid = os.fork()
    if not pid:
        os._exit(7 if nudge._nudger is not thread and not nudge.is_running() else 1)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 7
    assert thread.is_running()
