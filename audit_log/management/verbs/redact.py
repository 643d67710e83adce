"""Removing the contents of a record that should never have been stored."""

from __future__ import annotations

import uuid
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from audit_log.management.actor import operator
from audit_log.management.asking import confirm
from audit_log.management.output import Output
from audit_log.retention import removal
from audit_log.router import ledger_alias

HELP = "Remove the open contents of a record, on record. Its proof stays."


def add_arguments(parser: ArgumentParser) -> None:
    """Which record, and why."""
    parser.add_argument("record", type=uuid.UUID, help="The record's id.")
    parser.add_argument("--reason", required=True, help="What was there, and who decided; kept.")
    parser.add_argument(
        "--sealed", action="store_true", help="Remove what is sealed as well, for good."
    )
    parser.add_argument("--yes", action="store_true", help="Do not ask.")


def run(options: dict[str, Any], out: Output) -> None:
    """Remove them. Raises CommandError where that is refused."""
    question = f"Contents of {options['record']} are to go, which cannot be undone."
    confirm(question, options, nothing="Nothing was removed.")
    with operator():
        done = removal.redact(
            options["record"],
            options["reason"],
            options["database"] or ledger_alias(),
            sealed=options["sealed"],
        )
    out.json(asdict(done))
    out.line(f"Removed from record {options['record']}: {', '.join(done.columns)}.")
    out.line("Kept, as part of the proof: its envelope, among it path, actor's and target's ids.")
    if done.archived_in:
        out.line(f"! It was archived before, with its contents, in {done.archived_in}.")
