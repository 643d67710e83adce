"""A night of archive and purge in a process of its own, which ends itself at a chosen point."""

from __future__ import annotations

import functools
import os
import signal
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from audit_log.models import ArchivePart
from audit_log.retention import nightly, purge, steps


def night(point: str = "", batch: int = 5_000, go: str = "", log: str = "") -> None:
    """Archive and purge, once the file `go` is there; SIGKILL right after the first `point`.

    A point is `module:function` or `module:Class.method` of `audit_log.retention`. What is
    written is noted in the file `log`.
    """
    purge.BATCH = batch  # type: ignore[misc]
    if log:
        _note_writes(log)
    if point:
        _end_after(point)
    deadline = time.monotonic() + 300
    while go and not Path(go).exists() and time.monotonic() < deadline:
        time.sleep(0.001)
    nightly.run()


def _end_after(point: str) -> None:
    module, _, path = point.partition(":")
    *owner, name = path.split(".")
    place: Any = functools.reduce(getattr, owner, import_module(f"audit_log.retention.{module}"))
    original = getattr(place, name)

    @functools.wraps(original)
    def last(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if result is not False:  # a step that there was none of does not count
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(place, name, last)


def _note_writes(log: str) -> None:
    original = steps.write

    def write(part: ArchivePart, *args: Any) -> Any:
        found = original(part, *args)
        with Path(log).open("a") as file:
            file.write(f"{os.getpid()} {part.first}\n")
        return found

    steps.write = write  # type: ignore[assignment]
