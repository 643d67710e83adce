"""The servers a project runs in, and the clients that keep them busy."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sysconfig
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

import pytest

import audit_log
from tests import services
from tests.faults.servers import free_port
from tests.guests.running import HERE, Host, Process

CLIENTS = 4
_SECONDS = 300  # not to hang
_GUNICORN = (
    *("-m", "gunicorn", "config.wsgi", "--workers", "2", "--bind", "127.0.0.1:{port}"),
    *("--timeout", "240", "--graceful-timeout", "240"),  # a busy machine may stall for long
)
_UWSGI = (
    *("-c", "import pyuwsgi; pyuwsgi.run()", "--http-socket", "127.0.0.1:{port}"),
    *("--module", "config.wsgi", "--pythonpath", ".", "--master", "--processes", "2"),
    *("--need-app", "--die-on-term", "--disable-logging"),
)
# Something is recorded before the workers are forked.
_EARLY = {"GUEST_EARLY": "1"}


def _without_a_venv() -> dict[str, str]:
    """pyuwsgi starts itself anew by the interpreter behind the virtual environment."""
    places = [HERE, sysconfig.get_path("platlib"), Path(audit_log.__file__).parents[1]]
    return {"PYTHONPATH": os.pathsep.join(map(str, places))}


@dataclass(frozen=True)
class Server:
    """How it is started, the packages that must be there, and what is in its environment."""

    command: tuple[str, ...]
    packages: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)


def _uwsgi(mercy: str, *options: str) -> Server:
    # A busy worker with threads often does not end when it is told to, with us or without: uWSGI
    # then kills it, after a minute if nothing else is said.
    options = ("--reload-mercy", mercy, "--worker-reload-mercy", mercy, *options)
    return Server((*_UWSGI, *options), ("pyuwsgi",), {**_EARLY, **_without_a_venv()})


SERVERS = {
    "gunicorn, sync": Server(_GUNICORN, ("gunicorn",)),
    "gunicorn, gthread": Server((*_GUNICORN, "--threads", "4"), ("gunicorn",)),
    "gunicorn, preload": Server((*_GUNICORN, "--preload"), ("gunicorn",), _EARLY),
    "gunicorn, max-requests": Server((*_GUNICORN, "--max-requests", "10"), ("gunicorn",)),
    "gunicorn, gevent": Server((*_GUNICORN, "--worker-class", "gevent"), ("gunicorn", "gevent")),
    "uvicorn": Server(
        (
            *("-m", "uvicorn", "config.asgi:application", "--workers", "2", "--port", "{port}"),
            # A worker that does not answer in five seconds is killed, and a reload is given up.
            *("--timeout-worker-healthcheck", "240"),
        ),
        ("uvicorn",),
    ),
    "uWSGI, threads": _uwsgi("5", "--enable-threads", "--threads", "2"),
    "uWSGI, no threads": _uwsgi("240"),
}


class Load:
    """Clients that post without a pause, and note what they were answered."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self.answers: list[dict[str, object]] = []
        self.refused = 0
        self._threads = [threading.Thread(target=self._run) for _ in range(CLIENTS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(_SECONDS)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                request = urllib.request.Request(self._url, method="POST", data=b"")
                with urllib.request.urlopen(request, timeout=_SECONDS) as response:
                    answer = json.load(response)
            # A worker that ends takes its connections with it, some in the middle of an answer.
            except (OSError, ValueError, HTTPException):
                self.refused += 1
                time.sleep(0.05)
                continue
            with self._lock:
                self.answers.append(answer)

    def wait_for(self, more: int) -> None:
        """Until so many more requests were answered."""
        wanted = len(self.answers) + more
        deadline = time.monotonic() + _SECONDS
        while len(self.answers) < wanted:
            assert time.monotonic() < deadline, f"{len(self.answers)} of {wanted} answers."
            time.sleep(0.01)

    def wait_for_others(self, before: set[int]) -> None:
        """Until a worker has answered that is none of these."""
        deadline = time.monotonic() + _SECONDS
        while self.processes <= before:
            assert time.monotonic() < deadline, "The server keeps its workers."
            time.sleep(0.01)

    @property
    def processes(self) -> set[int]:
        """The workers that have answered so far."""
        return {int(str(answer["process"])) for answer in list(self.answers)}

    @property
    def notes(self) -> set[int]:
        """The keys of all notes that a client was told of."""
        return {int(pk) for answer in self.answers for pk in answer["notes"]}  # type: ignore[attr-defined]


@contextmanager
def busy(host: Host, server: Server, **variables: str) -> Iterator[tuple[Process, Load]]:
    """The host's project in a server, under load."""
    _need(server)
    port = free_port()
    command = [word.format(port=port) for word in server.command]
    # A server's own warnings are not this project's.
    process = host.start(*command, PYTHONWARNINGS="", **server.variables, **variables)
    load = Load(f"http://127.0.0.1:{port}/notes/")
    load.start()
    try:
        load.wait_for(1)
        yield process, load
    finally:
        load.stop()
        process.close()


def _need(server: Server) -> None:
    missing = [name for name in server.packages if importlib.util.find_spec(name) is None]
    if not missing:
        return
    if services.required():
        pytest.fail(f"{', '.join(missing)} is not installed: the group `servers` has it.")
    pytest.skip(f"{', '.join(missing)} is not installed.")


RELOAD = signal.SIGHUP  # all of them start their workers anew with it
STOP = signal.SIGTERM
