"""Giving a person everything the log holds of them (GDPR Art. 15)."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from django.core.management.base import CommandError

from audit_log.management.actor import operator
from audit_log.management.output import Output, printable
from audit_log.reading import persons
from audit_log.retention import disclosure
from audit_log.retention.disclosed import FORMATS
from audit_log.retention.disclosure import Disclosure
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
    """Write it. Raises CommandError where a file is in the way, full, or not all could be read."""
    using: str = options["database"] or ledger_alias()
    path: Path | None = options["output"]
    persons.named(options["subject"])  # before there is a file
    if path is None and options["json"] and options["format"] != "json":
        raise CommandError("With --json the page goes into a file: --output.")
    try:
        if path is None:
            found = _write(out.raw, options, using, out)
        else:
            found = _write_file(path, options, using, out)
    except OSError as error:
        raise CommandError(f"{path or 'standard output'}: {error.strerror or error}.") from error
    if path is not None:
        out.json({"subject": found.person.subject, "records": found.count, "unread": found.unread})
        out.line(f"{found.count} records of {printable(found.person.subject)} are in {path}.")
        for text in found.unread:
            out.line(f"! {printable(text)}")
    if found.unread:
        raise CommandError(
            f"It is not complete: {len(found.unread)} things could not be read, see `unread`."
        )


def _write_file(path: Path, options: dict[str, Any], using: str, out: Output) -> Disclosure:
    """Into a file of its own, whole or not at all."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE)
    except FileExistsError as error:
        raise CommandError(f"{path} is there already. Name a file that does not exist.") from error
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            return _write(file.write, options, using, out)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _write(
    write: Callable[[str], object], options: dict[str, Any], using: str, out: Output
) -> Disclosure:
    with operator():
        found = disclosure.of(
            options["subject"],
            using,
            lambda name, done, size: out.progress(f"{name}: {done} of {size} records"),
        )
    for text in FORMATS[options["format"]](found):
        write(text)
    return found
