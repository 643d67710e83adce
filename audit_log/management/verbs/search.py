"""Finding records from the command line."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from django.core.management.base import CommandError

from audit_log.management.actor import operator
from audit_log.management.arguments import number
from audit_log.management.output import Output, printable
from audit_log.models import Record
from audit_log.reading.access import note_revealed
from audit_log.reading.contents import contents, labels
from audit_log.reading.search import KEYS, SearchError, search
from audit_log.router import ledger_alias

HELP = "Records that match all of key:value, newest first; with --json, one object a line."
_LIMIT: Final = 50
_CHUNK: Final = 500
_COLUMNS: Final = (
    *("stream", "sequence", "occurred_at", "recorded_at", "action", "outcome", "source"),
    *("service", "tenant", "request_id", "method", "path", "status", "changed_fields"),
)


def add_arguments(parser: ArgumentParser) -> None:
    """The filters, `--limit` and `--open`."""
    parser.add_argument(
        "filters",
        nargs="*",
        metavar="key:value",
        help=f"Quote values with spaces: 'actor:\"Alice Smith\"'. Keys: {', '.join(KEYS)}.",
    )
    parser.add_argument(
        "--limit", type=number, default=_LIMIT, help="At most so many (default: %(default)s)."
    )
    parser.add_argument(
        "--open",
        action="store_true",
        help="Open the sealed contents; that you did is recorded for each record.",
    )


def run(options: dict[str, Any], out: Output) -> None:
    """Print what is found. Raises CommandError for a filter that cannot be understood."""
    try:
        rows = search(" ".join(options["filters"])).using(options["database"] or ledger_alias())
    except SearchError as error:
        raise CommandError(str(error)) from error
    found = 0
    for row, actor, target in _labelled(rows[: options["limit"]].iterator(chunk_size=_CHUNK)):
        found += 1
        line = _as_json(row, actor, target)
        if options["open"]:
            with operator():
                note_revealed(row)  # first: what cannot be recorded is not shown
            line["contents"] = contents(row)
        out.json(line)
        out.line(_words(row, actor, target))
        if options["open"]:
            _print_contents(line["contents"], out)
    if not found:
        out.line("No record matches.")


def _labelled(rows: Iterator[Record]) -> Iterator[tuple[Record, str | None, str | None]]:
    while chunk := list(islice(rows, _CHUNK)):
        known = labels(chunk)
        for row in chunk:
            yield row, *known[row.pk]


def _as_json(row: Record, actor: str | None, target: str | None) -> dict[str, Any]:
    return {
        "id": str(row.pk),
        **{name: getattr(row, name) for name in _COLUMNS},
        "actor": {"type": row.actor_type, "id": row.actor_id, "label": actor},
        "target": {"type": row.target_type, "id": row.target_id, "label": target},
    }


def _words(row: Record, actor: str | None, target: str | None) -> str:
    by = " ".join(filter(None, (row.actor_type, actor or row.actor_id))) or "nobody"
    to = "#".join(filter(None, (row.target_type, row.target_id)))
    label = f" ({printable(target)})" if target else ""
    outcome = "" if row.outcome == "success" else f" [{row.outcome}]"
    fields = ", ".join(row.changed_fields or ())
    changed = f": {printable(fields)}" if fields else ""
    return (
        f"{row.occurred_at:%Y-%m-%d %H:%M:%S}Z  {row.stream}/{row.sequence}  {row.action}{outcome}"
        f"  {printable(to)}{label}{changed}  by {printable(by)}"
    )


def _print_contents(opened: dict[str, Any], out: Output) -> None:
    for name, (old, new) in opened["changes"].items():
        out.line(f"    {printable(name)}: {printable(repr(old))} -> {printable(repr(new))}")
    parts = {**opened["actor"], **opened["request"], "reason": opened["reason"]}
    for name, value in {**parts, **opened["data"]}.items():
        if value is not None:
            out.line(f"    {printable(name)}: {printable(value)}")
    for why in opened["closed"]:
        out.line(f"    ! {printable(why)}")
