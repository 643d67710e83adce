"""Private servers that a test may stop, starve and kill."""

from __future__ import annotations

import fcntl
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, NoReturn

import pytest
import redis

from tests import services


def missing(reason: str) -> NoReturn:
    """Skip the test for want of a server; where all must be there, fail it."""
    if services.required():
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


NOBODY: Final = 1
"""A port that nobody listens on, and that no process is given by chance."""

_SECONDS: Final = 180  # not to hang
_PORTS: Final = range(15_000, 30_000)  # below those that Linux gives to clients
_kept: list[IO[str]] = []


def free_port() -> int:
    """A port that nobody listens on, this process's own until it ends.

    One that the kernel picks could be given to a client, or to another worker's server, before ours
    listens there, or while a test has it stopped.
    """
    folder = Path(tempfile.gettempdir()) / "audit_log-ports"
    folder.mkdir(exist_ok=True)
    for _ in range(200):
        port = random.SystemRandom().choice(_PORTS)
        mine = (folder / str(port)).open("w")
        try:
            fcntl.flock(mine, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(("127.0.0.1", port))
        except OSError:
            mine.close()
        else:
            _kept.append(mine)
            return port
    pytest.fail("No port is free.")


@contextmanager
def silent_port() -> Iterator[int]:
    """A server that accepts connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        yield listener.getsockname()[1]


class Redis:
    """A Redis server of the test's own."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.url = f"redis://127.0.0.1:{port}/0"
        self.client = redis.Redis(port=port, socket_timeout=_SECONDS)

    def wait(self) -> None:
        deadline = time.monotonic() + _SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                self.client.ping()
            except redis.AuthenticationError:
                return
            except redis.RedisError:
                time.sleep(0.02)
            else:
                return
        pytest.fail("redis-server did not start.")


@contextmanager
def redis_server(folder: Path, *options: str) -> Iterator[Redis]:
    binary = shutil.which("redis-server")
    if binary is None:
        missing("redis-server is not installed.")
    port = free_port()
    command = [
        binary,
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
        str(folder),
    ]
    with subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL) as process:
        server = Redis(process, port)
        try:
            server.wait()
            yield server
        finally:
            server.client.close()
            process.kill()  # a stopped one as well
