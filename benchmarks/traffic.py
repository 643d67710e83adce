"""What one connection says to PostgreSQL, counted in libpq: no layer above can hide a statement."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(slots=True)
class Traffic:
    """`messages` are round trips, BEGIN and COMMIT included; `statements` what the server ran."""

    messages: int = 0
    statements: int = 0


def parse(trace: str) -> Traffic:
    """Count in a trace as libpq's PQtrace writes it: one line for each protocol message."""
    return Traffic(
        messages=len(re.findall(r"^B\t\d+\tReadyForQuery\b", trace, re.MULTILINE)),
        statements=len(re.findall(r"^B\t\d+\tCommandComplete\b", trace, re.MULTILINE)),
    )


@contextmanager
def counted(connection: Any) -> Iterator[Traffic]:
    """Count what the psycopg connection does in the block."""
    from psycopg.pq import Trace  # noqa: PLC0415 - the tests of parse() need no driver

    found = Traffic()
    with tempfile.NamedTemporaryFile() as file:
        connection.pgconn.trace(file.fileno())
        connection.pgconn.set_trace_flags(Trace.SUPPRESS_TIMESTAMPS)
        try:
            yield found
        finally:
            connection.pgconn.untrace()
        result = parse(Path(file.name).read_text(encoding="latin-1"))
    found.messages, found.statements = result.messages, result.statements
