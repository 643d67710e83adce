"""The servers that some tests need: where they are, and whether they answer.

`python -m tests.services postgres` prints the answer and ends with 0 if it is yes.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import sys
from dataclasses import dataclass
from functools import cache
from urllib.parse import urlsplit

REQUIRED = "AUDIT_LOG_REQUIRE_SERVICES"
REDIS_URL = os.environ.get("AUDIT_LOG_TEST_REDIS_URL", "redis://127.0.0.1:6379/0")
RABBITMQ_URL = os.environ.get("AUDIT_LOG_TEST_RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672//")
POSTGRES = {
    "host": os.environ.get("PGHOST", "127.0.0.1"),
    "port": os.environ.get("PGPORT", "5432"),
    "user": os.environ.get("PGUSER", "postgres"),
    "password": os.environ.get("PGPASSWORD", ""),
}
MYSQL = {  # MariaDB's own clients read these names
    "host": os.environ.get("MYSQL_HOST", "127.0.0.1"),
    "port": os.environ.get("MYSQL_TCP_PORT", "3306"),
    "user": os.environ.get("MYSQL_USER", "root"),
    "password": os.environ.get("MYSQL_PWD", ""),
}


@dataclass(frozen=True)
class Service:
    """A server, and the first bytes of its protocol: an open port alone proves nothing.

    A server that greets is sent nothing; `read` is how many bytes tell who it is.
    """

    name: str
    host: str
    port: int
    hello: bytes
    answers: tuple[bytes, ...]
    driver: str | None = None
    read: int = 1

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def trouble(self, timeout: float = 3.0) -> str | None:
        """Why it cannot be used, or None."""
        if self.driver is not None and importlib.util.find_spec(self.driver) is None:
            return f"{self.name}'s driver, {self.driver}, is not installed (docs/databases.md)."
        try:
            with self._connection(timeout) as connection:
                connection.sendall(self.hello)
                answer = connection.recv(self.read)[-1:]
        except OSError as error:
            return f"{self.name} does not answer at {self.address}: {error}"
        if answer not in self.answers:
            return f"What answers at {self.address} is not {self.name}."
        return None

    def _connection(self, timeout: float) -> socket.socket:
        if not self.host.startswith("/"):
            return socket.create_connection((self.host, self.port), timeout)
        # libpq reads a PGHOST that begins with a slash as the folder of a Unix socket.
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout)
        try:
            connection.connect(f"{self.host}/.s.PGSQL.{self.port}")
        except OSError:
            connection.close()
            raise
        return connection


def _from_url(name: str, url: str, port: int, hello: bytes, answers: tuple[bytes, ...]) -> Service:
    parts = urlsplit(url)
    return Service(name, parts.hostname or "127.0.0.1", parts.port or port, hello, answers)


SERVICES = {
    # SSLRequest: a length of 8, then 80877103. The server says S or N and waits.
    "postgres": Service(
        "PostgreSQL",
        POSTGRES["host"],
        int(POSTGRES["port"]),
        bytes.fromhex("0000000804d2162f"),
        (b"S", b"N"),
    ),
    # The server greets: three bytes of length, a zero, and 10 for the protocol (255: an error).
    "mysql": Service(
        "MariaDB",
        MYSQL["host"],
        int(MYSQL["port"]),
        b"",
        (b"\x0a",),
        driver="MySQLdb",
        read=5,
    ),
    "redis": _from_url("Redis", REDIS_URL, 6379, b"PING\r\n", (b"+", b"-")),
    # AMQP 0-9-1's protocol header; the first byte back is the type of a method frame.
    "rabbitmq": _from_url("RabbitMQ", RABBITMQ_URL, 5672, b"AMQP\x00\x00\x09\x01", (b"\x01",)),
}


@cache
def trouble(service: str) -> str | None:
    """Why the service cannot be used, or None. Asked once a process."""
    # One that must be there may be slow.
    return SERVICES[service].trouble(120.0 if required() else 3.0)


def required() -> bool:
    """Whether a missing server is a failure (CI) rather than a reason to skip."""
    return os.environ.get(REQUIRED) == "1"


def main(service: str) -> int:
    reason = trouble(service)
    print(reason or f"{SERVICES[service].name} answers at {SERVICES[service].address}.")
    return 1 if reason else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
