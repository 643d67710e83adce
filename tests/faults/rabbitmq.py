"""A RabbitMQ node of a test's own, to be killed and started again with what it had on disk."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from kombu import Connection

from tests.faults.servers import free_port, missing

# Not the distribution's wrapper on PATH, which changes to a user of its own and its folders.
_PLACES: Final = ("/usr/lib/rabbitmq/bin", "/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin")
# It listens before it lets anybody in.
_UNWILLING: Final[tuple[type[BaseException], ...]] = (
    OSError,
    *Connection("amqp://").connection_errors,
)
_START_SECONDS: Final = 180


class RabbitMQ:
    """The node, running or not."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = {name: str(free_port()) for name in ("amqp", "distribution", "epmd")}
        self.url = f"amqp://guest:guest@127.0.0.1:{self._ports['amqp']}//"
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "plugins").write_text("[].")

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self._folder),  # Erlang keeps its cookie there
            "ERL_EPMD_PORT": self._ports["epmd"],
            "RABBITMQ_NODENAME": f"faults{self._ports['amqp']}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": self._ports["amqp"],
            "RABBITMQ_DIST_PORT": self._ports["distribution"],
            "RABBITMQ_MNESIA_BASE": str(self._folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self._folder / "log"),
            "RABBITMQ_PID_FILE": str(self._folder / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(self._folder / "none"),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
        }

    def start(self) -> None:
        """Start it, and wait until it lets somebody in."""
        self._process = subprocess.Popen(
            [_server()],
            env=self._environment(),
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # the script, Erlang and its helpers, to be killed together
        )
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            try:
                with Connection(self.url, connect_timeout=30) as connection:
                    connection.connect()
            except _UNWILLING:
                time.sleep(0.1)
            else:
                return
        pytest.fail("The private RabbitMQ node did not start.")

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(300)
            self._process = None

    @contextmanager
    def names(self) -> Iterator[None]:
        """Erlang's directory of nodes, which would otherwise start by itself and stay."""
        epmd = _needed("epmd", shutil.which("epmd"))
        command = [epmd, "-address", "127.0.0.1", "-port", self._ports["epmd"]]
        quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(command, **quiet) as process:
            try:
                yield
            finally:
                process.kill()


def _server() -> str:
    folders = [folder for place in _PLACES for folder in Path("/").glob(place.lstrip("/"))]
    path = os.pathsep.join([*map(str, folders), os.environ.get("PATH", "")])
    return _needed("rabbitmq-server", shutil.which("rabbitmq-server", path=path))


def _needed(name: str, path: str | None) -> str:
    if path is None:
        missing(f"{name} is not installed.")
    return path


@contextmanager
def rabbitmq_node(folder: Path) -> Iterator[RabbitMQ]:
    """A fresh node that runs, for the length of a block."""
    node = RabbitMQ(folder)
    with node.names():
        try:
            node.start()
            yield node
        finally:
            node.kill()
