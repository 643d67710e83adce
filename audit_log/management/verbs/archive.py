"""Archiving what is closed."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from audit_log.management.actor import operator
from audit_log.management.output import Output, printable
from audit_log.models import ArchivePart, Stream
from audit_log.retention import archive, planning, policy
from audit_log.retention.cutting import Cut
from audit_log.router import ledger_alias

HELP = "Archive every closed day, and prove it there. Exits with 1 if something failed."


def add_arguments(parser: ArgumentParser) -> None:
    """`--stream` and `--dry-run`."""
    parser.add_argument("--stream", help="One stream only (default: all).")
    parser.add_argument("--dry-run", action="store_true", help="Say what would be archived.")


def run(options: dict[str, Any], out: Output) -> None:
    """Archive, and print the parts. Raises CommandError where one failed."""
    using: str = options["database"] or ledger_alias()
    names = streams(options["stream"], using)
    if options["dry_run"]:
        _dry_run(names, using, out)
        return
    with operator():
        result = archive.run(
            using,
            stream=options["stream"],
            progress=lambda part, done: out.progress(f"{part}: {done} of {part.count} records"),
        )
    out.json(
        {
            "off": result.off,
            "planned": result.planned,
            "parts": [_facts(part) for part in result.parts],
            "purgeable": result.purgeable,
            "waiting": result.waiting,
            "failures": result.failures,
        }
    )
    _print(result, out)
    if result.failures:
        raise CommandError(f"{len(result.failures)} failed: " + " ".join(result.failures))


def streams(name: str | None, using: str) -> list[str]:
    """The streams that are meant. Raises CommandError for one that is not there."""
    known = list(Stream.objects.using(using).order_by("name").values_list("name", flat=True))
    if name is not None and name not in known:
        raise CommandError(
            f"There is no stream {name!r} in {using!r}. Streams: {', '.join(known) or 'none'}."
        )
    return known if name is None else [name]


def _dry_run(names: list[str], using: str, out: Output) -> None:
    found: list[tuple[str, Cut]] = []
    for name in [] if policy.is_off() else names:
        start = planning.next_sequence(name, using)
        found += [(name, cut) for cut in planning.closed(name, start, using)]
    facts = [
        {"stream": name, "day": c.day, "first": c.first, "last": c.last, "count": c.count}
        for name, c in found
    ]
    out.json({"off": policy.NOT_SET if policy.is_off() else "", "would_archive": facts})
    if policy.is_off():
        out.line(policy.NOT_SET)
        return
    for name, cut in found:
        out.line(f"would archive {name} {cut.first}-{cut.last}, {cut.count} records of {cut.day}")
    out.line(f"{len(found)} parts, {sum(cut.count for _, cut in found)} records. Nothing was done.")


def _facts(part: ArchivePart) -> dict[str, Any]:
    names = ("stream", "first", "last", "count", "key", "size", "sha256", "manifest_sha256")
    return {**{name: getattr(part, name) for name in names}, "day": part.day}


def _print(result: archive.Archived, out: Output) -> None:
    if result.off:
        out.line(result.off)
        return
    for part in result.parts:
        out.line(f"{part.key}: {part.count} records, {part.size} bytes")
    for text in result.failures:
        out.line(f"! {printable(text)}")
    records, size = (sum(getattr(p, name) for p in result.parts) for name in ("count", "size"))
    out.line(
        f"{len(result.parts)} parts archived, {records} records, {size} bytes; "
        f"{result.purgeable} parts became purgeable, {result.waiting} are under way."
    )
