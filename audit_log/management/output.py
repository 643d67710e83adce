"""What a verb prints: lines for people or one JSON object, and progress on a terminal."""

from __future__ import annotations

import json
import time
import unicodedata
from datetime import datetime
from typing import Any, Final

from django.core.management.base import OutputWrapper

_REDRAW_SECONDS: Final = 0.1
# Control and format characters (bidi overrides among them), line and paragraph separators.
_UNPRINTABLE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def printable(text: object) -> str:
    """`text` on one line, with all that could steer a terminal written as its code point."""
    return "".join(
        f"\\u{ord(c):04x}" if unicodedata.category(c) in _UNPRINTABLE else c for c in str(text)
    )


def as_json(value: object) -> str:
    """ASCII JSON on one line; times are ISO 8601."""
    return json.dumps(value, default=_plain)


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


class Output:
    """Where a verb's words go: results to stdout, progress to stderr, nothing at verbosity 0.

    With `--json`, lines for people are left out and stdout holds JSON only.
    """

    def __init__(
        self, stdout: OutputWrapper, stderr: OutputWrapper, options: dict[str, Any]
    ) -> None:
        self._stdout = stdout
        self._stderr = stderr
        self._json: bool = options["json"]
        self._silent: bool = options["verbosity"] == 0
        # A line that redraws itself is for eyes, not for log files.
        self._shows = not self._silent and (options["progress"] or stderr.isatty())
        self._drawn = 0
        self._next = 0.0

    def line(self, text: str = "") -> None:
        """A line for people."""
        if not self._json and not self._silent:
            self.clear()
            self._stdout.write(text + "\n")

    def raw(self, text: str) -> None:
        """A piece of a document that is the result itself, whatever the verbosity."""
        self._stdout.write(text, ending="")

    def json(self, value: object) -> None:
        """The result for programs, where they asked for it."""
        if self._json:
            self.clear()
            self._stdout.write(as_json(value) + "\n")

    def progress(self, text: str) -> None:
        """Redraw the line at the bottom, at most ten times a second."""
        if not self._shows or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _REDRAW_SECONDS
        self._draw("\r" + text.ljust(self._drawn))
        self._drawn = len(text)

    def clear(self) -> None:
        """Wipe the progress line."""
        if self._drawn:
            self._draw("\r" + " " * self._drawn + "\r")
            self._drawn = 0

    def _draw(self, text: str) -> None:
        self._stderr.write(text, str, "")  # as it is: neither red nor a line of its own
        self._stderr.flush()
