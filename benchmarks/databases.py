"""One database for each subject, on the PostgreSQL server that the PG* variables name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.services import POSTGRES


class Unusable(Exception):
    """The benchmark cannot run here; the message says what to do."""


def connect() -> Any:
    """A connection to the server itself, in autocommit. Raises Unusable."""
    try:
        import psycopg  # noqa: PLC0415 - the report needs no driver
    except ImportError as error:
        raise Unusable(
            "psycopg is not installed. `make bench` installs it, or: pip install --group bench"
        ) from error
    try:
        return psycopg.connect(
            host=POSTGRES["host"],
            port=POSTGRES["port"],
            user=POSTGRES["user"],
            password=POSTGRES["password"],
            dbname="postgres",
            connect_timeout=5,
            autocommit=True,
        )
    except psycopg.OperationalError as error:
        raise Unusable(
            f"PostgreSQL does not answer at {POSTGRES['host']}:{POSTGRES['port']}: {error}\n"
            "Start a server, or name another with PGHOST, PGPORT, PGUSER and PGPASSWORD; the "
            "user must be allowed to create databases."
        ) from error


@contextmanager
def databases(names: Sequence[str]) -> Iterator[dict[str, str]]:
    """`{name: database}`, made now and dropped in the end, whatever happens. Raises Unusable."""
    made = {name: _database(name) for name in names}
    try:
        with connect() as server:
            for database in made.values():
                server.execute(f"CREATE DATABASE {database} TEMPLATE template0")
        yield made
    finally:
        with connect() as server:  # another one: the first may have been interrupted
            for database in made.values():
                server.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")


def server_settings() -> dict[str, str]:
    """Those that decide what a COMMIT costs, and the version."""
    names = ("server_version", "fsync", "synchronous_commit", "shared_buffers", "autovacuum")
    with connect() as server:
        return {name: server.execute(f"SHOW {name}").fetchone()[0] for name in names}


def _database(name: str) -> str:
    return f"audit_bench_{os.getpid()}_{re.sub(r'[^a-z]', '_', name)}"
