"""Looking for what today's rules would have masked."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError

from audit_log.ledger.verification import streams
from audit_log.management.actor import operator
from audit_log.management.output import Output, printable
from audit_log.reading.scanning import Found, Scan
from audit_log.reading.search import SearchError, moment_of
from audit_log.router import ledger_alias

HELP = (
    "Where stored records hold what today's detectors and names would mask, never the value; with "
    "--json, one object a line, and a summary as the last. Exits with 1 if there is any."
)
_INTERRUPTED = 130  # as shells have it: 128 + SIGINT


def add_arguments(parser: ArgumentParser) -> None:
    """`--stream`, `--since`, `--from-sequence` and `--sealed`."""
    parser.add_argument("--stream", help="One stream only (default: all).")
    parser.add_argument(
        "--since", metavar="TIME", help="Only what happened from then on (ISO 8601, UTC)."
    )
    parser.add_argument(
        "--from-sequence",
        type=_sequence,
        metavar="NUMBER",
        help="Go on from this record of --stream.",
    )
    parser.add_argument(
        "--sealed",
        action="store_true",
        help="Open the sealed contents too, and look for secrets in them. They are not shown.",
    )


def _sequence(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ArgumentTypeError("must be 0 at least")
    return number


def run(options: dict[str, Any], out: Output) -> None:
    """Print what is found. Raises CommandError where there is any, and for a wrong option."""
    using = options["database"] or ledger_alias()
    names, start = _wanted(options, using), options["from_sequence"] or 0
    try:
        since = None if options["since"] is None else moment_of("since", options["since"])
    except SearchError as error:
        raise CommandError(str(error)) from error
    scan = Scan(using, sealed=options["sealed"])
    try:
        for name in names:
            for found in scan.run(name, start=start, since=since, progress=_progress(scan, out)):
                out.json(asdict(found))
                out.line(_words(found))
    except KeyboardInterrupt as error:
        raise CommandError(_interrupted(scan), returncode=_INTERRUPTED) from error
    finally:
        with operator():
            scan.announce()
    out.json(_as_json(scan))
    _print(scan, out)
    if scan.found:
        raise CommandError(
            f"{scan.affected} of {scan.records} records hold what would be masked today, in "
            f"{scan.found} places. To take it out of one, on record and with its proof kept: "
            "manage.py audit_log redact <id> --reason …"
        )


def _wanted(options: dict[str, Any], using: str) -> list[str]:
    known, stream = streams(using), options["stream"]
    if stream is None:
        if options["from_sequence"] is not None:
            raise CommandError(
                "--from-sequence is a number of one stream: name it by --stream. "
                f"Streams: {', '.join(known) or 'none'}."
            )
        return known
    if stream not in known:
        raise CommandError(
            f"There is no stream {stream!r} in {using!r}. Streams: {', '.join(known) or 'none'}."
        )
    return [stream]


def _progress(scan: Scan, out: Output) -> Any:
    return lambda name, number, size: out.progress(
        f"{name}: {number} of {size} records, {scan.found} found"
    )


def _interrupted(scan: Scan) -> str:
    if not scan.after:
        return "Interrupted before the first record."
    name, last = list(scan.after.items())[-1]
    return (
        f"Interrupted behind {name}/{last}, with {scan.found} found so far. Go on with "
        f"--stream {name} --from-sequence {last + 1}."
    )


def _words(found: Found) -> str:
    return f"{found.stream}/{found.sequence}  {found.record}  {printable(found.path)}: {found.rule}"


def _as_json(scan: Scan) -> dict[str, Any]:
    return {
        "records": scan.records,
        "affected": scan.affected,
        "findings": scan.found,
        "rules": dict(scan.rules.most_common()),
        "closed": scan.closed,
        "unreadable": scan.unreadable,
        "after": scan.after,
    }


def _print(scan: Scan, out: Output) -> None:
    for rule, number in scan.rules.most_common():
        out.line(f"{rule}: {number}")
    if scan.closed:
        out.line(f"! {scan.closed} records have sealed contents that could not be opened")
    if scan.unreadable:
        out.line(f"! {scan.unreadable} records could not be read: run `manage.py audit_log verify`")
    if not scan.found:
        out.line(f"{scan.records} records: today's rules would mask nothing in them.")
