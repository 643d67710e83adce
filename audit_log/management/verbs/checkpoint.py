"""Signing the heads of the streams."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any, Final

from django.core.management.base import CommandError

from audit_log.exceptions import ForkDetected
from audit_log.ledger import checkpoints
from audit_log.management.output import Output
from audit_log.router import ledger_alias

HELP = "Sign the streams that grew. Exits with 2 if one does not extend its last checkpoint."
_FORK: Final = 2


def add_arguments(parser: ArgumentParser) -> None:
    """`--force`."""
    parser.add_argument("--force", action="store_true", help="Sign also what has not grown.")


def run(options: dict[str, Any], out: Output) -> None:
    """Sign, and say what was signed. Raises CommandError with return code 2 for a fork."""
    try:
        signed = checkpoints.sign_all(options["database"] or ledger_alias(), force=options["force"])
    except ForkDetected as fork:
        raise CommandError(str(fork), returncode=_FORK) from fork
    names = ("stream", "size", "root", "note")
    out.json({"signed": [{name: getattr(row, name) for name in names} for row in signed]})
    for row in signed:
        out.line(f"{row.stream}: {row.size} records, root {row.root}")
    if not signed:
        out.line("Nothing to sign: no stream has grown since its last checkpoint.")
