"""How the log is doing."""

from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError

from audit_log import health
from audit_log.management.output import Output, printable

HELP = "What waits, what is stored, what is signed, and what needs looking at."


def add_arguments(parser: ArgumentParser) -> None:
    """`--check`."""
    parser.add_argument("--check", action="store_true", help="Exit with 1 when there are troubles.")


def run(options: dict[str, Any], out: Output) -> None:
    """Print the numbers and the troubles."""
    using = options["database"]
    found = health.measure_everywhere() if using is None else health.measure(using)
    out.json({**asdict(found), "troubles": found.troubles, "healthy": not found.troubles})
    _print(found, out)
    if options["check"] and found.troubles:
        raise CommandError(f"{len(found.troubles)} troubles: " + " ".join(found.troubles))


def _print(found: health.Health, out: Output) -> None:
    oldest = found.outbox_oldest_seconds
    age = "" if oldest is None else f", the oldest for {oldest:.0f} s"
    out.line(f"outbox   {found.outbox_batches} batches ({found.outbox_events} events) wait{age}")
    out.line(f"failing  {found.outbox_failing} batches are tried again")
    out.line(f"parked   {found.parked} batches")
    out.line(f"spool    {found.spool_files} files")
    for stream in found.streams:
        signed = "never" if stream.signed_at is None else f"{stream.signed_at:%Y-%m-%d %H:%M:%S}Z"
        out.line(
            f"stream   {stream.name}: {stream.size} records, {stream.signed} signed ({signed})"
        )
    for reason, number in found.losses.items():
        out.line(f"lost     {reason}: {number} in this process")
    for trouble in found.troubles:
        out.line(f"! {printable(trouble)}")
    if not found.troubles:
        out.line("All is well.")
