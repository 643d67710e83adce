"""What the person who runs the demo sees."""

from __future__ import annotations

import time
from typing import TextIO


class Progress:
    """Sections and lines, with the seconds since the start."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._started = time.monotonic()
        self._open = False

    def section(self, title: str) -> None:
        """A new step."""
        self._end()
        print(
            f"\n[{time.monotonic() - self._started:5.1f} s] {title}", file=self._stream, flush=True
        )

    def line(self, text: str) -> None:
        """Something that is done."""
        self._end()
        print(f"          {text}", file=self._stream, flush=True)

    def update(self, text: str) -> None:
        """Something that goes on: overwritten by the next one on a terminal."""
        if self._stream.isatty():
            print(f"\r          {text:<70}", end="", file=self._stream, flush=True)
            self._open = True

    def _end(self) -> None:
        if self._open:
            print(file=self._stream)
            self._open = False
