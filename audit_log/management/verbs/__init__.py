"""What `manage.py audit_log` can do: one module a verb.

Each has `HELP`, `add_arguments(parser)` and `run(options, out)`.
"""

from __future__ import annotations

from argparse import ArgumentParser
from importlib import import_module
from typing import Any, Final, Protocol, cast

from audit_log.management.output import Output

NAMES: Final = (
    "status",
    "relay",
    "checkpoint",
    "verify",
    "search",
    "alerts",
    "archive",
    "purge",
    "retention",
    "erase",
    "hold",
    "redact",
    "rekey",
    "export",
    "baseline",
    "coverage",
    "triggers",
)


class Verb(Protocol):
    """A module of this package."""

    HELP: str

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Its own options; `--database`, `--json` and `--progress` are there already."""

    def run(self, options: dict[str, Any], out: Output) -> None:
        """Do it. Raises CommandError, whose return code is the process's."""


def load(name: str) -> Verb:
    """The verb called `name`, one of NAMES."""
    return cast(Verb, import_module(f"{__name__}.{name}"))
