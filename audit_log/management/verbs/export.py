"""Giving a person everything the log holds of them (GDPR Art. 15)."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from pathlib import Path
from typing import Any, Final, TextIO

from django.core.management.base import CommandError

from audit_log.management.actor import operator
from audit_log.management.output import Output
from audit_log.retention import disclosure
from audit_log.retention.disclosed import FORMATS
from audit_log.router import ledger_alias

HELP = "Everything the log holds of a person, opened, as JSON or as a page. It is recorded."
_MODE: Final = 0o600  # what is in it was sealed


def add_arguments(parser: ArgumentParser) -> None:
    """Whose, and where to."""
    parser.add_argument(
        "--subject",
        required=True,
        help="app.model:id (user:42 for a user), or subject:value.",
    )
    parser.add_argument("--format", choices=tuple(FORMATS), default="json", help="(%(default)s)")
    parser.add_argument("--output", type=Path, help="A new file (default: standard output).")


def run(options: dict[str, Any], out: Output) -> None:
    """Write it. Raises CommandError where the file is there already, or parts cannot be read."""
    using: str = options["database"] or ledger_alias()
    path: Path | None = options["output"]
    file = None if path is None else _new(path)
    with operator():
        found = disclosure.of(
            options["subject"],
            using,
            lambda name, done, size: out.progress(f"{name}: {done} of {size} records"),
        )
    write = out.raw if file is None else file.write
    for text in FORMATS[options["format"]](found):
        write(text)
    if file is not None:
        file.close()
        out.json({"subject": found.person.subject, "records": found.count, "unread": found.unread})
        out.line(f"{found.count} records of {found.person.subject} are in {path}.")
    if found.unread:
        raise CommandError(f"{len(found.unread)} archived parts could not be read.")


def _new(path: Path) -> TextIO:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}. Name a file that does not exist.") from error
    return os.fdopen(descriptor, "w", encoding="utf-8")
