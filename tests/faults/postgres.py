"""A PostgreSQL cluster of a test's own, to be stopped and started."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from tests.faults.servers import free_port, missing

# Where distributions keep what they do not put on PATH.
_PLACES: Final = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql*/bin",
)


class Postgres:
    """The cluster, running or not."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """Its database as one of DATABASES."""
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "postgres",
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "USER": "postgres",
        }

    def make(self) -> None:
        """The files of the cluster."""
        options = ["-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale", "C"]
        subprocess.run(
            [_binary("initdb"), "-D", self._data, *options],
            stdout=subprocess.DEVNULL,
            check=True,
            **_unprivileged(),
        )

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self._folder),
            "fsync": "off",  # the machine stays up, whatever the server does
        }
        self._process = subprocess.Popen(
            [_binary("postgres"), "-D", self._data, "-p", str(self.port)]
            + [word for name, value in options.items() for word in ("-c", f"{name}={value}")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **_unprivileged(),
        )
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            try:
                psycopg.connect(host="127.0.0.1", port=self.port, user="postgres").close()
            except psycopg.OperationalError:
                time.sleep(0.05)
            else:
                return
        pytest.fail("The private PostgreSQL cluster did not start.")

    def stop(self) -> None:
        """Cut every session off at once, as a crash would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(300)
            self._process = None


def _binary(name: str) -> str:
    path = os.environ.get("PATH", "")
    folders = [str(folder) for place in _PLACES for folder in Path("/").glob(place.lstrip("/"))]
    found = shutil.which(name, path=os.pathsep.join([path, *sorted(folders, reverse=True)]))
    if found is None:
        missing(f"{name} (PostgreSQL's server) is not installed.")
    return found


def _unprivileged() -> dict[str, Any]:
    """The server refuses to run as root."""
    return {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}


@contextmanager
def postgres_cluster() -> Iterator[Postgres]:
    """A fresh cluster that runs, for the length of a block."""
    with tempfile.TemporaryDirectory(prefix="audit_log-pg-") as name:
        folder = Path(name)
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        cluster = Postgres(folder)
        cluster.make()
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop()
