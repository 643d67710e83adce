"""What becomes of the records of each stream, in words."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.db.models import Count, Sum

from audit_log.conf import get_settings
from audit_log.management.output import Output, printable
from audit_log.management.verbs.archive import streams
from audit_log.models import ArchivePart, Stream
from audit_log.retention import policy, purge, waiting
from audit_log.router import ledger_alias

HELP = "How long records stay where, what is archived, and what waits to be purged."


def add_arguments(parser: ArgumentParser) -> None:
    """`--stream`."""
    parser.add_argument("--stream", help="One stream only (default: all).")


def run(options: dict[str, Any], out: Output) -> None:
    """Print policy and state by stream."""
    using: str = options["database"] or ledger_alias()
    place = policy.archive()
    where = "" if place is None else policy.address(place)
    found = [_stream(name, using) for name in streams(options["stream"], using)]
    out.json({"archive": where or get_settings().archive, "streams": found})
    if policy.is_off():
        out.line(policy.NOT_SET)
    elif where:
        out.line(f"Parts go to {where}.")
    else:
        out.line("There is no archive: what is past its days is purged, on record.")
    for stream in found:
        _print(stream, out)


def _stream(name: str, using: str) -> dict[str, Any]:
    head = Stream.objects.using(using).get(pk=name)
    rows = ArchivePart.objects.using(using).filter(stream=name).order_by("state")
    counted = rows.values_list("state").annotate(parts=Count("id"), records=Sum("count"))
    overdue = waiting.overdue(head, using)
    return {
        "stream": name,
        "policy": policy.in_words(get_settings().retention_of(name)),
        "records": head.size - head.purged,
        "purged": head.purged,
        "parts": {state: {"parts": n, "records": records} for state, n, records in counted},
        "due": purge.due(using, stream=name).total,
        "overdue": None if overdue is None else waiting.in_words(overdue),
        "failures": waiting.failures(name, using),
    }


def _print(stream: dict[str, Any], out: Output) -> None:
    out.line(f"{stream['stream']}: {stream['policy']}.")
    out.line(f"  {stream['records']} records in the database, {stream['purged']} purged.")
    for state, counted in stream["parts"].items():
        out.line(f"  {counted['parts']} parts {state}, {counted['records']} records.")
    out.line(f"  {stream['due']} records could be purged now.")
    for text in filter(None, [stream["overdue"], *stream["failures"]]):
        out.line(f"  ! {printable(text)}")
