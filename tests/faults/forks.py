"""A warm parent whose children start in milliseconds and are killed for real.

`python -m tests.faults.forks` sets Django up, opens no connection, and forks one child for each
line it reads: `{"job": name, "arguments": {...}}`. It answers with the child's id. `{"reap": id}`
waits for a child and answers with its status. `Forks` is the side of the tests.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class Forks:
    """The tests' handle on the parent."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._alive: set[int] = set()

    def start(self, job: str, **arguments: Any) -> int:
        """Fork a child that runs `job`. Returns its id."""
        pid = self._ask({"job": job, "arguments": arguments})
        self._alive.add(pid)
        return pid

    def kill(self, pid: int) -> int:
        """SIGKILL a child and wait for its end. Its exit status, -9 if the signal ended it."""
        os.kill(pid, signal.SIGKILL)  # not yet reaped, so the id is still its own
        return self.join(pid)

    def join(self, pid: int) -> int:
        """Wait until a child has ended. Its exit status."""
        self._alive.discard(pid)
        return self._ask({"reap": pid})

    def close(self) -> None:
        for pid in list(self._alive):
            self.kill(pid)

    def _ask(self, question: dict[str, Any]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@contextmanager
def forks(environment: Mapping[str, str]) -> Iterator[Forks]:
    """A parent for the length of a block; what still runs at its end is killed."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.faults.forks"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        handle = Forks(process)
        try:
            yield handle
            handle.close()
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # with whatever it forked


def _run(job: str, arguments: dict[str, Any]) -> None:
    from django.db import connections

    from tests.faults.jobs import JOBS

    status = 1
    try:
        JOBS[job](**arguments)
        connections.close_all()
        status = 0
    finally:
        if status:
            traceback.print_exc()
        os._exit(status)


def main() -> None:
    # Loaded once, before the forks: Django with the tests' Celery app, and the jobs.
    import tests.faults.celery_app
    import tests.faults.jobs  # noqa: F401

    for line in sys.stdin:
        question = json.loads(line)
        if "reap" in question:
            _, status = os.waitpid(question["reap"], 0)
            answer = os.waitstatus_to_exitcode(status)
        else:
            answer = os.fork()
            if not answer:
                _run(question["job"], question["arguments"])
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
