"""Private servers that a test may stop, starve and kill."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest
import redis

from tests import services


def missing(reason: str) -> NoReturn:
    """Skip the test for want of a server; where all must be there, fail it."""
    if services.required():
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


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
        self.client = redis.Redis(port=port, socket_timeout=5)

    def wait(self) -> None:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
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
