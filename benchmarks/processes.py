"""The long-lived process of each subject, as the parent sees it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Failed(Exception):
    """A subject's process could not do what it was asked for."""


class Process:
    """One subject, ready to be asked."""

    def __init__(self, subject: str, database: str, engine: str) -> None:
        self.subject = subject
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent.parent,
            start_new_session=True,  # Ctrl-C is for the parent, which ends us in order
            env={
                **os.environ,
                "BENCHMARK_SUBJECT": subject,
                "BENCHMARK_DATABASE": database,
                "BENCHMARK_ENGINE": engine,
                "DJANGO_SETTINGS_MODULE": "benchmarks.settings",
            },
        )

    def send(self, command: str, **arguments: Any) -> None:
        """Ask for something, and go on."""
        if self._process.stdin is None:
            raise Failed(f"{self.subject} has no input.")
        self._process.stdin.write(json.dumps({"command": command, **arguments}) + "\n")
        self._process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        """What it says. Raises Failed with its traceback."""
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise Failed(f"{self.subject} ended without an answer; see above.")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Failed(f"{self.subject}:\n{answer['error']}")
        return answer

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Both."""
        self.send(command, **arguments)
        return self.receive()

    def end(self) -> None:
        """It ends when its input does; if not, it is made to."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def processes(made: Mapping[str, str], engine: str = "postgres") -> Iterator[dict[str, Process]]:
    """A process for each `{subject: database}`, ended in the end."""
    started: dict[str, Process] = {}
    try:
        for subject, database in made.items():
            started[subject] = Process(subject, database, engine)
        yield started
    finally:
        for process in started.values():
            process.end()
