"""The hosts' real databases, on whichever database this run is for."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

import psycopg

from tests import services


class Database(Protocol):
    """A database of a host's own. `name` is what its settings say."""

    name: str

    def rows(self, sql: str) -> list[tuple[Any, ...]]: ...

    def exists(self) -> bool: ...

    def sessions(self) -> int:
        """How many clients the server still has in it."""

    def create(self, template: str | None = None) -> None:
        """Make it, empty or as the one named `template`."""

    def drop(self) -> list[str]:
        """Remove it and every other of its host's. Names those others."""


def of(vendor: str, folder: Path, name: str) -> Database:
    """The database for a host in `folder`."""
    if vendor == "sqlite":
        return Sqlite(str(folder / "real.sqlite3"))
    return Postgres(name) if vendor == "postgres" else Mysql(name)


class Sqlite:
    def __init__(self, name: str) -> None:
        self.name = name

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.name, timeout=300)) as connection:
            return connection.execute(sql).fetchall()

    def exists(self) -> bool:
        return Path(self.name).exists()

    def sessions(self) -> int:
        return 0  # they are gone with their processes

    def create(self, template: str | None = None) -> None:
        Path(self.name).touch()
        if template is not None:
            with (
                closing(sqlite3.connect(template)) as source,
                closing(sqlite3.connect(self.name)) as copy,
            ):
                source.backup(copy)  # with what only its write-ahead log holds yet

    def drop(self) -> list[str]:
        return []  # with its folder


class Postgres:
    def __init__(self, name: str) -> None:
        self.name = name

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        with _postgres(self.name) as connection:
            return connection.execute(sql).fetchall()

    def exists(self) -> bool:
        return self.name in self._all()

    def sessions(self) -> int:
        with _postgres() as connection:
            found = connection.execute(
                "SELECT pid FROM pg_stat_activity "
                "WHERE datname = %s AND backend_type = 'client backend'",
                [self.name],
            )
            return len(found.fetchall())

    def create(self, template: str | None = None) -> None:
        like = "" if template is None else f' TEMPLATE "{template}"'
        with _postgres() as connection:
            connection.execute(f'CREATE DATABASE "{self.name}"{like}')

    def drop(self) -> list[str]:
        mine = [name for name in self._all() if self.name in name]
        with _postgres() as connection:
            for name in mine:
                connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        return [name for name in mine if name != self.name]

    def _all(self) -> set[str]:
        with _postgres() as connection:
            return {row[0] for row in connection.execute("SELECT datname FROM pg_database")}


class Mysql:
    def __init__(self, name: str) -> None:
        self.name = name

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return list(_mysql(sql, self.name))

    def exists(self) -> bool:
        return self.name in self._all()

    def sessions(self) -> int:
        return [row[3] for row in _mysql("SHOW FULL PROCESSLIST")].count(self.name)

    def create(self, template: str | None = None) -> None:
        _mysql(f"CREATE DATABASE `{self.name}` CHARACTER SET utf8mb4")
        for (table,) in _mysql("SHOW TABLES", template) if template else ():
            _mysql(f"CREATE TABLE `{table}` LIKE `{template}`.`{table}`", self.name)
            _mysql(f"INSERT INTO `{table}` SELECT * FROM `{template}`.`{table}`", self.name)

    def drop(self) -> list[str]:
        mine = [name for name in self._all() if self.name in name]
        for name in mine:
            _mysql(f"DROP DATABASE `{name}`")
        return [name for name in mine if name != self.name]

    def _all(self) -> set[str]:
        return {row[0] for row in _mysql("SHOW DATABASES")}


@contextmanager
def _postgres(name: str = "postgres") -> Iterator[psycopg.Connection]:
    where = psycopg.conninfo.make_conninfo(**services.POSTGRES, dbname=name)
    with psycopg.connect(where, autocommit=True) as connection:
        yield connection


def _mysql(sql: str, name: str | None = None) -> Any:
    import MySQLdb

    options = {"database": name} if name else {}
    where = {**services.MYSQL, "port": int(services.MYSQL["port"])}
    with closing(MySQLdb.connect(**where, **options, autocommit=True)) as connection:
        cursor = connection.cursor()
        cursor.execute(sql)
        return cursor.fetchall()
