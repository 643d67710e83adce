"""What is logged, down to DEBUG, with every traceback."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Final

from audit_log.testing.leaks.places import Piece, Place

_OURS: Final = "audit_log"


class _Lines(logging.Handler):
    """Keeps every line, as it would be printed, and what it was made of."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[tuple[str, str]] = []
        self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append((record.name, f"{self.format(record)}\n{record.args!r}"))


def logs(*names: str) -> Place:
    """The lines of these loggers and those below them, from now on; without a name, of ours."""
    handler = _Lines()
    loggers = [logging.getLogger(name) for name in names or (_OURS,)]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)

    def read() -> Iterator[Piece]:
        for number, (name, line) in enumerate(list(handler.lines)):
            yield f"line {number} of {name}", line.encode("utf-8", "surrogatepass")

    def close() -> None:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)

    return Place("a log", read, close=close)
