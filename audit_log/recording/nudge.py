"""Tell Celery there is work, from a thread of its own: no request ever waits for a broker.

One lazy daemon thread a process. It coalesces 100 ms of commits into one message without a
payload, and runs what else must not cost a request anything (`on_tick`). While Django's test
environment is set up it does not start: it would write outside the test's transaction.
"""

from __future__ import annotations

import atexit
import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from audit_log import forks
from audit_log.conf import get_settings
from audit_log.privacy.words import words_of
from audit_log.recording import losses

logger = logging.getLogger("audit_log")

TASK: Final = "audit_log.relay"
_COALESCE_SECONDS: Final = 0.1
_IDLE_SECONDS: Final = 30.0
_BREAKER_SECONDS: Final = 30.0
_EXPIRES_SECONDS: Final = 60
_EXIT_SECONDS: Final = 2.0
_CONNECT_SECONDS: Final = 0.5
_MAX_WORDS: Final = 500
# By kombu's driver type: other transports know no such options, and an unknown one is an error.
_BOUNDED: Final[dict[str, dict[str, float]]] = {
    "redis": {"socket_timeout": 0.5, "socket_connect_timeout": 0.5, "max_retries": 0},
    "amqp": {"read_timeout": 0.5, "write_timeout": 0.5, "max_retries": 0},
}


class _Tick:
    """Work of the thread that is due every `every` seconds, 0 for every round."""

    def __init__(self, call: Callable[[], object], every: float) -> None:
        self.call = call
        self.every = every
        self.due = 0.0

    def run(self) -> None:
        if time.monotonic() < self.due:
            return
        self.due = time.monotonic() + self.every
        try:
            self.call()
        except Exception:  # noqa: BLE001 - the thread must outlive every fault
            losses.warn("tick_failed", "The nudge thread could not finish %r.", self.call)


class _Nudger:
    """The thread and its flag. Made anew after a fork."""

    def __init__(self) -> None:
        self._flag = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._broken_until = 0.0
        self._stopping = threading.Event()
        self._committed = False

    def wake(self, *, committed: bool) -> bool:
        """Ask for a round. False when no thread can be had: the interpreter shuts down, say."""
        if committed:
            self._committed = True
        if self._stopping.is_set():
            return False  # its last round may be over
        if self._flag.is_set():
            return True
        if not self._start():
            return False
        self._flag.set()
        return True

    def is_running(self) -> bool:
        """Whether there was anything to do so far."""
        return self._thread is not None and self._thread.is_alive()

    def _start(self) -> bool:
        if self.is_running():
            return True
        if not forks.may_start_threads():
            return False
        with self._lock:
            if self.is_running():
                return True
            thread = threading.Thread(target=self._run, name="audit_log.nudge", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return False
            self._thread = thread
            return True

    def _run(self) -> None:
        while True:
            if not self._flag.wait(_IDLE_SECONDS) and in_test_environment():
                continue  # started before the tests were: what is buffered now is theirs
            self._stopping.wait(_COALESCE_SECONDS)
            self._flag.clear()
            stopping = self._stopping.is_set()  # after the clearing, or stop() would go unheard
            for tick in _ticks:
                tick.run()
            self._send()
            if stopping:
                return

    def _send(self) -> None:
        if not self._committed or time.monotonic() < self._broken_until:
            return
        self._committed = False
        try:
            send()
        except Exception as error:  # noqa: BLE001 - kombu's transports raise anything
            losses.count("nudge_failed")
            if not self._broken_until:
                logger.warning(
                    "The Celery broker took no message (%s). Nothing is lost: the batches "
                    "wait in the outbox for the next sweep.",
                    words_of(error, _MAX_WORDS),
                )
            self._broken_until = time.monotonic() + _BREAKER_SECONDS
            self._committed = True
        else:
            self._broken_until = 0.0

    def stop(self) -> None:
        """Let the thread finish what waits, bounded in time."""
        self._stopping.set()
        if self._thread is not None and self._thread.is_alive():
            self._flag.set()
            self._thread.join(_EXIT_SECONDS)


_nudger = _Nudger()
_ticks: list[_Tick] = []


def _after_fork() -> None:
    global _nudger  # noqa: PLW0603 - the thread did not survive the fork, its locks may be held
    _nudger = _Nudger()


forks.on_fork(_after_fork)


def _at_exit() -> None:
    # The test database is gone by then: what tests left in a buffer would reach the real one.
    if not in_test_environment():
        _nudger.stop()  # the one in force then: a fork renews it


atexit.register(_at_exit)


def on_tick(call: Callable[[], object], *, every: float = 0.0, first: bool = False) -> None:
    """Have the thread call `call` in its rounds, at most every `every` seconds."""
    _ticks.insert(0 if first else len(_ticks), _Tick(call, every))


def is_running() -> bool:
    """Whether this process has had anything to record so far."""
    return _nudger.is_running()


_has_tested = False


def in_test_environment() -> bool:
    """Whether Django's test runner (or pytest-django) has set up its environment, or had.

    For good, once it was seen: what tests captured must reach no database after them.
    """
    global _has_tested  # noqa: PLW0603 - a fork inherits it
    if not _has_tested:
        utils = sys.modules.get("django.test.utils")
        state = getattr(utils, "_TestState", None)
        _has_tested = getattr(state, "saved_data", None) is not None
    return _has_tested


def wake(*, committed: bool = True) -> bool:
    """There is work: say so, soon. Costs a flag. False when no thread can be had."""
    forks.notice()
    return in_test_environment() or _nudger.wake(committed=committed)


def send() -> None:
    """One message: there is work. Own bounded connection, no retries, no result, no payload."""
    app = celery_app()
    if app is None:
        return
    with app.connection_for_write(connect_timeout=_CONNECT_SECONDS) as connection:
        driver = connection.get_transport_cls().driver_type
        connection.transport_options.update(_BOUNDED.get(driver, {}))
        options: dict[str, Any] = {}
        if (queue := get_settings().queue) is not None:
            options["queue"] = queue
        app.send_task(
            TASK,
            connection=connection,
            ignore_result=True,
            retry=False,
            expires=_EXPIRES_SECONDS,
            **options,
        )


def celery_app() -> Any:
    """The project's Celery app, or None when it has none or runs its tasks eagerly.

    Celery's current app is known only to the thread that made it, and this one did not.
    """
    from celery import _state  # noqa: PLC0415 - only processes that nudge pay for Celery

    state: Any = _state
    candidates = [state._tls.current_app, state.default_app]  # noqa: SLF001
    candidates += sorted(state._get_active_apps(), key=lambda app: str(app.main))  # noqa: SLF001
    for app in candidates:
        # Celery makes one named "default" by itself where it finds none.
        if app is not None and app.main != "default":
            return None if app.conf.task_always_eager else app
    return None
