"""Deleting what is past its days and proved in the archive."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from audit_log.management.actor import operator
from audit_log.management.asking import confirm
from audit_log.management.output import Output, printable
from audit_log.management.verbs.archive import streams
from audit_log.retention import purge
from audit_log.router import ledger_alias

HELP = "Delete from the database what is past its days and proved in the archive."


def add_arguments(parser: ArgumentParser) -> None:
    """`--stream`, `--dry-run`, `--yes` and `--override-brake`."""
    parser.add_argument("--stream", help="One stream only (default: all).")
    parser.add_argument("--dry-run", action="store_true", help="Say what would be purged.")
    parser.add_argument("--yes", action="store_true", help="Do not ask.")
    parser.add_argument(
        "--override-brake",
        action="store_true",
        help="Purge also where the brake holds: much at once, or a clock that jumped.",
    )


def run(options: dict[str, Any], out: Output) -> None:
    """Purge, and print what went. Raises CommandError where something failed or was refused."""
    using: str = options["database"] or ledger_alias()
    streams(options["stream"], using)
    found = purge.due(using, stream=options["stream"])
    if options["dry_run"] or not found.parts:
        _print(found, out, "would purge" if options["dry_run"] else "to purge")
        return
    question = f"{found.total} records are to leave the database: {_by_stream(found)}."
    confirm(question, options, nothing="Nothing was purged.")
    with operator():
        done = purge.run(
            using,
            stream=options["stream"],
            override_brake=options["override_brake"],
            progress=lambda name, n, of: out.progress(f"{name}: {n} of {of} records purged"),
        )
    _print(done, out, "purged")
    if done.failures:
        raise CommandError(f"{len(done.failures)} failed: " + " ".join(done.failures))


def _by_stream(found: purge.Purge) -> str:
    return ", ".join(f"{n} of {name}" for name, n in found.records.items() if n) or "none"


def _print(found: purge.Purge, out: Output, what: str) -> None:
    names = ("stream", "first", "last", "count", "day", "key", "manifest_sha256")
    out.json(
        {
            "off": found.off,
            "what": what,
            "records": found.records,
            "parts": [{name: getattr(part, name) for name in names} for part in found.parts],
            "failures": found.failures,
        }
    )
    if found.off:
        out.line(found.off)
        return
    for part in found.parts:
        out.line(f"{what} {part}, {part.count} records of {part.day}")
    for text in found.failures:
        out.line(f"! {printable(text)}")
    out.line(f"{found.total} records {what if what == 'purged' else 'due'}: {_by_stream(found)}.")
