"""Runs the host projects: their own suites and scripts, in processes of their own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from difflib import unified_diff
from pathlib import Path
from typing import Any

from audit_log.events import Event, decode_batch
from audit_log.privacy.encryption import key_ring
from audit_log.recording import outbox
from tests import services, settings
from tests.guests import databases

HERE = Path(__file__).resolve().parent
SECONDS = 300  # below pytest's own timeout, so that a hanging host shows what it printed
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

    def __init__(self, popen: subprocess.Popen[bytes], folder: Path, printed: Path) -> None:
        self._popen = popen
        self._folder = folder
        self._printed = printed

    @property
    def id(self) -> int:
        """Its own, and that of its session."""
        return self._popen.pid

    @property
    def out(self) -> str:
        """What it has printed so far."""
        return self._printed.with_suffix(".out").read_text(errors="replace")

    @property
    def err(self) -> str:
        """What it has printed so far as errors."""
        return self._printed.with_suffix(".err").read_text(errors="replace")

    def send(self, number: signal.Signals) -> None:
        """Send a signal to it, not to its children."""
        self._popen.send_signal(number)

    def close(self) -> None:
        """Make sure that nothing of it is left."""
        self.kill_all()
        self._popen.wait()

    def kill_all(self) -> None:
        """End it and its children as a power cut would."""
        with suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)

    def finish(self) -> Run:
        """Wait for its end, bounded."""
        try:
            self._popen.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self.close()
            said = f"{self.out}\n{self.err}"
            raise AssertionError(f"Still running after {SECONDS} s.\n{said}") from None
        notes = {path.stem: json.loads(path.read_text()) for path in self._folder.glob("notes/*")}
        spooled = [path.name for path in self._folder.glob("spool/*")]
        return Run(self._popen.returncode, self.out, self.err, notes, spooled)


class Host:
    """One host project with a database of its own, and a folder for what it leaves behind."""

    def __init__(self, project: str, folder: Path, *, vendor: str = settings.DATABASE) -> None:
        self.project = project
        self.folder = folder
        self.vendor = vendor
        folder.mkdir()
        (folder / "notes").mkdir()
        (folder / "printed").mkdir()
        worker = os.environ.get("PYTEST_XDIST_WORKER", "")  # its folders are called as others' are
        name = f"guest_{settings.RUN}_{worker}_{folder.parent.name}_{folder.name}".lower()
        self.database = databases.of(vendor, folder, name)

    def start(self, *command: str, **variables: str) -> Process:
        """Start `python <command>` in the project's folder."""
        # Files, not pipes: a process that nobody listens to goes on, however much it prints.
        printed = self.folder / "printed" / uuid.uuid4().hex
        with (
            printed.with_suffix(".out").open("w") as out,
            printed.with_suffix(".err").open("w") as err,
        ):
            popen = subprocess.Popen(
                [sys.executable, *command],
                cwd=HERE / self.project,
                env={"PYTHONWARNINGS": "error", **self._environment(), **variables},
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
        return Process(popen, self.folder, printed)

    def run(self, *command: str, **variables: str) -> Run:
        return self.start(*command, **variables).finish()

    def _environment(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(_OURS)}
        return {
            **inherited,
            "PYTHONPATH": str(HERE),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTEST_DEBUG_TEMPROOT": str(self.folder),  # or two of them tidy up the same one
            "GUEST_DB": self.vendor,
            "GUEST_DB_NAME": self.database.name,
            "GUEST_SPOOL_DIR": str(self.folder / "spool"),
            "GUEST_NOTES": str(self.folder / "notes"),
            **{f"PG{key.upper()}": value for key, value in services.POSTGRES.items()},
            **{f"GUEST_MYSQL_{key.upper()}": value for key, value in services.MYSQL.items()},
        }

    def events(self) -> list[Event]:
        """What waits in the outbox."""
        batches = self.database.rows("SELECT payload FROM audit_log_outbox ORDER BY id")
        return [
            event
            for (payload,) in batches
            for event in decode_batch(key_ring().decrypt(outbox.PURPOSE, bytes(payload)))
        ]

    def actions(self) -> Counter[str]:
        """How many events of each action wait in the outbox."""
        return Counter(event.action for event in self.events())


def until(what: Callable[[], bool]) -> None:
    """Look until it is so."""
    deadline = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < deadline, f"Not after {SECONDS} s."
        time.sleep(0.1)


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
