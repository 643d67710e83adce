from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker
from django.contrib.auth.models import User

from audit_log import context
from audit_log.context import Context, current
from audit_log.events import Event
from tests.shop.models import Category


class Jobs:
    """A Celery app of one test, and tasks that note the context they ran in."""

    def __init__(self, broker: str, **conf: Any) -> None:
        self.queue = f"q-{uuid.uuid4().hex}"
        self.app = Celery(f"jobs-{self.queue}", broker=broker, set_as_current=False)
        self.app.conf.update(
            task_default_queue=self.queue,
            task_ignore_result=True,
            worker_hijack_root_logger=False,
            broker_connection_retry_on_startup=True,
            **{"broker_transport_options": {"polling_interval": 0.01}, **conf},
        )
        self.seen: list[tuple[str, Context]] = []
        self._make_tasks()

    def note(self, name: str) -> None:
        self.seen.append((name, current()))

    def context_of(self, name: str) -> Context:
        return next(seen for label, seen in self.seen if label == name)

    def _make_tasks(self) -> None:
        jobs = self

        @self.app.task(name="t.write", shared=False)
        def write(name: str) -> None:
            jobs.note(name)
            Category.objects.create(name=name)

        @self.app.task(name="t.nested", shared=False)
        def nested(name: str) -> None:
            jobs.note(name)
            write.delay(f"{name} inner")
            Category.objects.create(name=f"{name} after")

        @self.app.task(name="t.fail", shared=False)
        def fail(name: str) -> None:
            jobs.note(name)
            raise RuntimeError(name)

        @self.app.task(name="t.retry", shared=False, bind=True, max_retries=2)
        def retry(self: Any, name: str) -> None:
            jobs.note(f"{name} {self.request.retries}")
            if self.request.retries < 1:
                raise self.retry(countdown=0)
            Category.objects.create(name=name)

        @self.app.task(name="t.leak", shared=False)
        def leak(name: str) -> None:
            jobs.note(name)
            context.enter(Context(reason="left behind", tenant="left behind"))

        self.write, self.nested, self.fail = write, nested, fail
        self.retry, self.leak = retry, leak

    def message(self) -> Any:
        """The next message that was published, or None."""
        with self.app.connection_for_read() as connection:
            channel: Any = connection.default_channel
            return channel.basic_get(self.queue, no_ack=True)


@contextmanager
def working(jobs: Jobs, pool: str) -> Iterator[None]:
    """A real worker, in a thread of this process."""
    with start_worker(
        jobs.app, concurrency=1, pool=pool, perform_ping_check=False, shutdown_timeout=300
    ):
        yield


def until(reached: Callable[[], bool]) -> None:
    """Look until it is so."""
    deadline = time.monotonic() + 240  # not to hang
    while not reached():
        assert time.monotonic() < deadline, "The worker did not get there."
        time.sleep(0.02)


def made_of(events: list[Event], name: str) -> list[Event]:
    """The events whose target is called so."""
    return [e for e in events if e.target is not None and e.target.label == name]


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    """With the memory transport."""
    made = Jobs("memory://")
    yield made
    made.app.close()


@pytest.fixture
def eager() -> Iterator[Jobs]:
    made = Jobs("memory://", task_always_eager=True)
    yield made
    made.app.close()


@pytest.fixture
def anna(db: None) -> User:
    return User.objects.create_user("anna", "anna@example.com")
