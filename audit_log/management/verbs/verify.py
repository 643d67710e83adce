"""Proving that nobody altered the ledger."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError

from audit_log.ledger.findings import Finding, Verified, announce
from audit_log.ledger.verification import streams, verify
from audit_log.management.actor import operator
from audit_log.management.output import Output, printable
from audit_log.router import ledger_alias

HELP = "Recompute every record, root and signature. Exits with 1 if something was altered."


def add_arguments(parser: ArgumentParser) -> None:
    """`--stream` and `--no-record`."""
    parser.add_argument("--stream", help="One stream only (default: all).")
    parser.add_argument(
        "--no-record",
        action="store_true",
        help="Do not record in the log that it was verified, and tell no receivers.",
    )


def run(options: dict[str, Any], out: Output) -> None:
    """Verify and print the findings. Raises CommandError where there are any."""
    using, stream = options["database"] or ledger_alias(), options["stream"]
    if stream is not None and stream not in (known := streams(using)):
        raise CommandError(
            f"There is no stream {stream!r} in {using!r}. Streams: {', '.join(known) or 'none'}."
        )
    started = time.monotonic()
    result = verify(
        using,
        stream=stream,
        progress=lambda name, done, size: out.progress(f"{name}: {done} of {size} records"),
    )
    seconds = time.monotonic() - started
    if not options["no_record"]:
        with operator():
            announce(result, using)
    out.json(_as_json(result, seconds))
    _print(result, seconds, out)
    if not result.ok:
        raise CommandError(
            f"The ledger was altered: {len(result.findings)} findings. Keep the database as it "
            "is, compare with a backup, and find out who could write to it."
        )


def _as_json(result: Verified, seconds: float) -> dict[str, Any]:
    return {
        "verified": result.ok,
        "streams": {
            name: {
                "size": size,
                "purged": result.purged.get(name, 0),
                "root": result.roots.get(name),
                "signed": result.signed.get(name, 0),
            }
            for name, size in result.streams.items()
        },
        "checkpoints": result.checkpoints,
        "findings": [asdict(finding) for finding in result.findings],
        "redacted": [asdict(finding) for finding in result.redacted],
        "seconds": round(seconds, 3),
    }


def _print(result: Verified, seconds: float, out: Output) -> None:
    for name, size in result.streams.items():
        signed = result.signed.get(name, 0)
        root = result.roots.get(name, "none")
        purged = f", the first {result.purged[name]} purged" if result.purged.get(name) else ""
        unsigned = f", the last {size - signed} under no checkpoint yet" if signed < size else ""
        out.line(f"{name}: {size} records{purged}{unsigned}, root {root}")
    for finding in result.findings:
        out.line(_words(finding))
    for finding in result.redacted:
        out.line(_words(finding, "-"))
    if result.ok:
        number = sum(result.streams.values()) - sum(result.purged.values())
        out.line(
            f"Verified: {number} records and {result.checkpoints} checkpoints in {seconds:.1f} s, "
            "nothing was altered."
        )


def _words(finding: Finding, sign: str = "!") -> str:
    number = "" if finding.sequence is None else f" {finding.sequence}"
    row = "" if finding.record is None else f" (record {printable(finding.record)})"
    return f"{sign} {finding.stream}{number}{row}: {finding.kind}: {printable(finding.message)}"
