"""Legal holds: placing, lifting and listing them."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from audit_log.management.actor import operator
from audit_log.management.output import Output, printable
from audit_log.models import LegalHold
from audit_log.reading import persons
from audit_log.retention import holds
from audit_log.router import ledger_alias

HELP = "Legal holds on persons: place, lift, list. While one stands, nothing is purged."


def add_arguments(parser: ArgumentParser) -> None:
    """What to do, on whom, and why."""
    parser.add_argument(
        "action", nargs="?", choices=("list", "place", "lift"), default="list", help="(%(default)s)"
    )
    parser.add_argument("which", nargs="?", help="place: the person. lift: the hold's number.")
    parser.add_argument("--reason", default="", help="Who asked for it, and why; on record.")


def run(options: dict[str, Any], out: Output) -> None:
    """Do it. Raises CommandError for what cannot be."""
    using: str = options["database"] or ledger_alias()
    action: str = options["action"]
    if action == "list":
        found = list(holds.standing(using))
    elif not options["which"]:
        raise CommandError(f"Say which: audit_log hold {action} …")
    else:
        with operator():
            found = [_done(action, options["which"], options["reason"], using)]
    out.json({"holds": [_as_json(hold) for hold in found]})
    for hold in found:
        out.line(
            f"hold {hold.pk} on {printable(hold.subject)}, since {hold.placed_at:%Y-%m-%d}: "
            f"{printable(hold.reason)}" + (" (lifted)" if hold.lifted_at else "")
        )
    if not found:
        out.line("No hold stands.")


def _done(action: str, which: str, reason: str, using: str) -> LegalHold:
    if action == "place":
        return holds.place(persons.named(which), reason, using)
    if not which.isdecimal():
        raise CommandError(f"{which!r} is no number of a hold.")
    return holds.lift(int(which), reason, using)


def _as_json(hold: LegalHold) -> dict[str, Any]:
    names = ("subject", "reason", "placed_at", "placed_by", "lifted_at")
    return {"id": hold.pk, **{name: getattr(hold, name) for name in names}}
