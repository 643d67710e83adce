"""Who runs a command."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from audit_log import context
from audit_log.events import Actor

_ID = "manage.py audit_log"


@contextmanager
def operator() -> Iterator[None]:
    """What is recorded inside was done by the user of the operating system, on the command line.

    Code that calls the command and has said who acts is believed.
    """
    values: dict[str, Any] = {"source": "command"}
    if context.actor_now() is None:
        values["actor"] = Actor(type="system", id=_ID, label=_user())
    with context.changed(**values):
        yield


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container, a user may have no name
        return "unknown"
