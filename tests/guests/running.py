"""Runs the host projects: their own suites and scripts, in processes of their own."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from difflib import unified_diff
from pathlib import Path
from typing import Any

import psycopg

from audit_log.events import Event, decode_batch
from audit_log.privacy.encryption import key_ring
from audit_log.recording import outbox
from tests import services, settings

HERE = Path(__file__).resolve().parent
SECONDS = 110  # below pytest's own timeout, so that a hanging host shows what it printed
PATTERN = "hosttests_*.py"

_UNITTEST = re.compile(r"^(?P<name>\w+ \([\w.]+\)) \.\.\. (?P<outcome>.+)$", re.MULTILINE)
_PYTEST = re.compile(r"^(?P<outcome>PASSED|FAILED|ERROR|SKIPPED) (?P<name>\S+)", re.MULTILINE)
# The hosts' settings read these; the rest of this run's environment is not theirs.
_OURS = ("AUDIT_LOG_", "DJANGO_", "GUEST_", "PYTEST_", "PYTHONPATH", "PYTHONWARNINGS")


@dataclass(frozen=True)
class Run:
    """A process that has ended."""

    code: int
    out: str
    err: str
    notes: dict[str, Any] = field(repr=False)
    spooled: list[str]

    @property
    def outcomes(self) -> dict[str, str]:
        """What became of each test."""
        found = [*_UNITTEST.finditer(self.err), *_PYTEST.finditer(self.out)]
        return {match["name"]: match["outcome"] for match in found}

    @property
    def answer(self) -> Any:
        """The last line of the output, as JSON."""
        assert self.code == 0, self
        return json.loads(self.out.splitlines()[-1])

    def __str__(self) -> str:
        return f"exit code {self.code}\n{self.out[-6000:]}\n{self.err[-6000:]}"


class Process:
    """A process of a host that may still run."""

    def __init__(self, popen: subprocess.Popen[str], folder: Path) -> None:
        self._popen = popen
        self._folder = folder

    def finish(self) -> Run:
        """Wait for its end, bounded."""
        try:
            out, err = self._popen.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            out, err = self._popen.communicate()
            raise AssertionError(f"Still running after {SECONDS} s.\n{out}\n{err}") from None
        notes = {path.stem: json.loads(path.read_text()) for path in self._folder.glob("notes/*")}
        spooled = [path.name for path in self._folder.glob("spool/*")]
        return Run(self._popen.returncode, out, err, notes, spooled)


class Host:
    """One host project with a database of its own, and a folder for what it leaves behind."""

    def __init__(self, project: str, folder: Path, *, vendor: str = settings.DATABASE) -> None:
        self.project = project
        self.folder = folder
        self.vendor = vendor
        folder.mkdir()
        (folder / "notes").mkdir()
        self.database = (
            str(folder / "real.sqlite3")
            if vendor == "sqlite"
            else f"guest_{settings.RUN}_{folder.parent.name}_{folder.name}".lower()
        )

    def start(self, *command: str, **variables: str) -> Process:
        """Start `python <command>` in the project's folder."""
        popen = subprocess.Popen(
            [sys.executable, "-W", "error", *command],
            cwd=HERE / self.project,
            env={**self._environment(), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return Process(popen, self.folder)

    def run(self, *command: str, **variables: str) -> Run:
        return self.start(*command, **variables).finish()

    def _environment(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(_OURS)}
        return {
            **inherited,
            "PYTHONPATH": str(HERE),
            "PYTHONDONTWRITEBYTECODE": "1",
            "GUEST_DB": self.vendor,
            "GUEST_DB_NAME": self.database,
            "GUEST_SPOOL_DIR": str(self.folder / "spool"),
            "GUEST_NOTES": str(self.folder / "notes"),
            **{f"PG{key.upper()}": value for key, value in services.POSTGRES.items()},
        }

    def exists(self) -> bool:
        """Whether the project's real database is there; its tests have one of their own."""
        if self.vendor == "sqlite":
            return Path(self.database).exists()
        return self.database in databases()

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask the project's real database."""
        if self.vendor == "sqlite":
            with closing(sqlite3.connect(self.database)) as connection:
                return connection.execute(sql).fetchall()
        with _postgres(self.database) as connection:
            return connection.execute(sql).fetchall()

    def events(self) -> list[Event]:
        """What waits in the outbox."""
        batches = self.rows("SELECT payload FROM audit_log_outbox ORDER BY id")
        return [
            event
            for (payload,) in batches
            for event in decode_batch(key_ring().decrypt(outbox.PURPOSE, bytes(payload)))
        ]

    def actions(self) -> Counter[str]:
        """How many events of each action wait in the outbox."""
        return Counter(event.action for event in self.events())

    def create(self, template: Host | None = None) -> None:
        """Make the real database, empty or as `template` has it."""
        if self.vendor == "sqlite":
            content = b"" if template is None else Path(template.database).read_bytes()
            Path(self.database).write_bytes(content)
            return
        like = "" if template is None else f' TEMPLATE "{template.database}"'
        with _postgres() as connection:
            connection.execute(f'CREATE DATABASE "{self.database}"{like}')

    def drop(self) -> list[str]:
        """Remove every database of the project's. Names those that its tests left behind."""
        if self.vendor == "sqlite":
            return []
        left = [name for name in databases() if self.database in name]
        with _postgres() as connection:
            for name in left:
                connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        return [name for name in left if name != self.database]


@contextmanager
def _postgres(name: str = "postgres") -> Iterator[psycopg.Connection]:
    where = psycopg.conninfo.make_conninfo(**services.POSTGRES, dbname=name)
    with psycopg.connect(where, autocommit=True) as connection:
        yield connection


def databases() -> set[str]:
    """The databases of the PostgreSQL server."""
    with _postgres() as connection:
        return {row[0] for row in connection.execute("SELECT datname FROM pg_database")}


def assert_unnoticed(plain: Run, audited: Run) -> None:
    """The suite passes with and without us, and each test asks the database the same."""
    assert plain.code == 0, plain
    assert audited.code == 0, audited
    assert plain.outcomes
    assert audited.outcomes == plain.outcomes, audited
    assert audited.notes.keys() == plain.notes.keys()
    differing = [name for name in plain.notes if audited.notes[name] != plain.notes[name]]
    assert differing == [], _difference(plain.notes[differing[0]], audited.notes[differing[0]])
    assert_silent(audited)


def _difference(plain: dict[str, list[str]], audited: dict[str, list[str]]) -> str:
    pairs = ((plain[key], audited[key]) for key in plain)
    return "\n".join(line for pair in pairs for line in unified_diff(*pair, lineterm="", n=1))


def assert_silent(run: Run) -> None:
    """We said nothing, and wrote nothing to the spool."""
    lines = [line for line in run.err.splitlines() if "audit_log" in line]
    assert lines == [], run
    assert run.spooled == [], run
