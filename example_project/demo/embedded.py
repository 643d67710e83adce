"""The site, a Celery worker and beat inside this process: nothing to install, nothing to clean up.

The worker is asynchronous and real; only its broker is this process's memory.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any, Self

from celery.beat import EmbeddedService
from celery.signals import after_task_publish
from celery.worker import WorkController
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.handlers.wsgi import WSGIHandler
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.db import connections

from example_project.celery import app

_STOP_SECONDS = 120  # not to hang


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        pass


class Embedded:
    """Starts all three; a `with` block stops them."""

    def __init__(self, port: int = 0) -> None:
        self._server = ThreadedWSGIServer(("127.0.0.1", port), _QuietHandler)
        self._server.set_app(StaticFilesHandler(WSGIHandler()))
        self.port = int(self._server.server_address[1])
        self._worker = WorkController(
            app=app,
            hostname="demo@localhost",
            pool_cls="celery.concurrency.thread:TaskPool",
            concurrency=2,
            loglevel="WARNING",
            without_heartbeat=True,
            without_mingle=True,
            without_gossip=True,
        )
        self._beat: Any = EmbeddedService(app, max_interval=1, thread=True)
        self._threads: list[threading.Thread] = []
        self.published: list[bytes] = []  # every message's headers and body, for the search

    def _note_published(self, body: Any = None, headers: Any = None, **_: Any) -> None:
        self.published.append(repr((headers, body)).encode())

    def __enter__(self) -> Self:
        after_task_publish.connect(self._note_published)
        for name, run in (("site", self._server.serve_forever), ("worker", self._worker.start)):
            thread = threading.Thread(target=run, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)
        self._beat.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        after_task_publish.disconnect(self._note_published)
        self._server.shutdown()
        self._server.server_close()
        self._beat.stop()
        self._worker.stop(in_sighandler=False)
        for thread in self._threads:
            thread.join(_STOP_SECONDS)
        connections.close_all()
