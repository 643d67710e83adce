"""Empty databases for processes of a test's own, on each engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from tests import services

ENGINES = ("sqlite", "postgres", "mysql")


@contextmanager
def empty_database(engine: str, name: str, folder: Path) -> Iterator[str]:
    """Make a database, and drop it in the end. Yields its NAME: on SQLite a path in `folder`."""
    if engine == "sqlite":
        yield str(folder / f"{name}.sqlite3")
        return
    execute = {"postgres": _postgres, "mysql": _mysql}[engine]
    execute(f"CREATE DATABASE {name}" + (" CHARACTER SET utf8mb4" if engine == "mysql" else ""))
    try:
        yield name
    finally:
        execute(f"DROP DATABASE {name}" + (" WITH (FORCE)" if engine == "postgres" else ""))


def url(engine: str, name: str) -> str:
    """The database as a URL, as DATABASE_URL has it."""
    if engine == "sqlite":
        return f"sqlite:///{name}?timeout=300"
    server = {"postgres": services.POSTGRES, "mysql": services.MYSQL}[engine]
    user = quote(server["user"]) + (f":{quote(server['password'])}" if server["password"] else "")
    return f"{engine}://{user}@{server['host']}:{server['port']}/{name}?connect_timeout=300"


def _postgres(sql: str) -> None:
    import psycopg

    where = psycopg.conninfo.make_conninfo(**services.POSTGRES, dbname="postgres")
    with psycopg.connect(where, autocommit=True) as connection:
        connection.execute(sql)


def _mysql(sql: str) -> None:
    import MySQLdb

    connection = MySQLdb.connect(
        host=services.MYSQL["host"],
        port=int(services.MYSQL["port"]),
        user=services.MYSQL["user"],
        password=services.MYSQL["password"],
    )
    try:
        connection.cursor().execute(sql)
    finally:
        connection.close()
