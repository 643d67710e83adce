"""Who runs our own command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from audit_log.capture.commands import standing_in


@contextmanager
def operator() -> Iterator[None]:
    """What is recorded inside was done by the user of the operating system, on the command line.

    Code that calls the command and has said who acts is believed.
    """
    with standing_in("manage.py audit_log"):
        yield
