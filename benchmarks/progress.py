"""Where a run is, on stderr: one line, rewritten on a terminal."""

from __future__ import annotations

import sys
import time

_started = time.monotonic()


def show(text: str) -> None:
    """Say what is being done."""
    line = f"[{time.monotonic() - _started:5.0f} s] {text}"
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
    else:
        print(line, file=sys.stderr, flush=True)


def done() -> None:
    """Leave the line."""
    if sys.stderr.isatty():
        print(file=sys.stderr)
