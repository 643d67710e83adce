"""Batches that were set aside: which, why, and what is to become of them."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Collection
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError

from audit_log.delivery import outboxes, parked
from audit_log.management.actor import operator
from audit_log.management.arguments import number
from audit_log.management.asking import confirm
from audit_log.management.output import Output, printable

HELP = "Batches that could not be stored and were set aside: list, show, retry or discard them."
_ACTIONS = ("list", "show", "retry", "discard")


def add_arguments(parser: ArgumentParser) -> None:
    """What to do, with which batches."""
    parser.add_argument("action", nargs="?", choices=_ACTIONS, default="list", help="(%(default)s)")
    parser.add_argument("batch", nargs="*", type=number, help="Their numbers.")
    parser.add_argument("--all", action="store_true", help="retry: all of them.")
    parser.add_argument("--reason", default="", help="discard: why; on record.")
    parser.add_argument("--yes", action="store_true", help="discard: do not ask.")


def run(options: dict[str, Any], out: Output) -> None:
    """Do it. Raises CommandError for a batch that is not parked."""
    action: str = options["action"]
    ids: list[int] = options["batch"]
    if action == "list":
        _list(options["database"], out)
        return
    if not ids and not (action == "retry" and options["all"]):
        raise CommandError(f"Say which: audit_log parked {action} 17 …")
    using = options["database"] or _database_of(ids)
    if action == "show":
        _show(using, ids, out)
        return
    if action == "discard":
        question = f"{len(ids)} batches of {using!r} are to go, and their events with them."
        confirm(question, options, nothing="Nothing was discarded.")
    with operator():
        if action == "retry":
            done = sum(parked.retry(alias, ids or None) for alias in _aliases(using))
        else:
            done = parked.discard(using, ids, options["reason"])
    out.json({"action": action, "batches": done})
    tail = ", and will be tried by the next relay" if action == "retry" else ", on record"
    out.line(f"{done} batches {'released' if action == 'retry' else 'discarded'}{tail}.")


def _aliases(using: str | None) -> list[str]:
    return outboxes.aliases() if using is None else [using]


def _database_of(ids: Collection[int]) -> Any:
    """Where batches of these numbers are parked; None for all, where no number was given."""
    if not ids:
        return None
    found = {each.database for each in parked.batches() if each.id in ids}
    if len(found) > 1:
        raise CommandError(f"Several databases have such batches: --database {' or '.join(found)}.")
    return found.pop() if found else outboxes.aliases()[0]


def _list(using: str | None, out: Output) -> None:
    found = list(parked.batches(using))
    out.json({"batches": [asdict(each) for each in found]})
    for each in found:
        out.line(
            f"batch {each.id} of {each.database}: {each.events} events, since "
            f"{each.parked_at:%Y-%m-%d %H:%M}Z, {each.attempts} attempts: {printable(each.reason)}"
        )
    if not found:
        out.line("Nothing is parked.")


def _show(using: str, ids: list[int], out: Output) -> None:
    found = {id_: [parked.summary(e) for e in parked.events_of(using, id_)] for id_ in ids}
    out.json({"batches": found})
    for id_, events in found.items():
        out.line(f"batch {id_} of {using}:")
        for event in events:
            out.line("  " + "  ".join(f"{name} {printable(said)}" for name, said in event.items()))
