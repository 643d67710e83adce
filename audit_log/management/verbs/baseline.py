"""Recording the objects that were there before the log."""

from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import asdict
from fnmatch import fnmatchcase
from typing import Any

from django.apps import apps
from django.core.management.base import CommandError
from django.db import router
from django.db.models import Model

from audit_log import context
from audit_log.capture import baseline
from audit_log.capture.baseline import Counted
from audit_log.conf import get_settings
from audit_log.delivery.relay import relay_everywhere
from audit_log.management.actor import operator
from audit_log.management.arguments import number
from audit_log.management.output import Output
from audit_log.recording.values import clean
from audit_log.registry import audited_models

HELP = "Record every object as it is now that has no record yet. Exits with 1 if some were not."


def add_arguments(parser: ArgumentParser) -> None:
    """The models, `--batch`, `--incomplete`, `--reason` and `--dry-run`."""
    parser.add_argument(
        "models",
        nargs="*",
        metavar="app.Model",
        help='Or "app.*". Default: all audited models.',
    )
    parser.add_argument(
        "--batch",
        type=number,
        default=baseline.BATCH,
        help="Rows read, and locked, in one transaction (default: %(default)s).",
    )
    parser.add_argument(
        "--incomplete",
        action="store_true",
        help="Also objects whose records do not begin with a create or a snapshot.",
    )
    parser.add_argument("--reason", help="Why: kept with every record.")
    parser.add_argument("--dry-run", action="store_true", help="Say what would be recorded.")


def run(options: dict[str, Any], out: Output) -> None:
    """Record, and print how many of which model. Raises CommandError where some were not."""
    if not get_settings().enabled:
        raise CommandError('AUDIT_LOG["ENABLED"] is False: nothing is recorded.')
    wanted = _wanted(options["models"], options["database"])
    dry_run: bool = options["dry_run"]
    if not dry_run:
        # What a killed run left in the outbox is looked for in the ledger then, not in memory.
        relay_everywhere(
            progress=lambda moved: out.progress(f"relaying: {moved.events} records stored")
        )
    values = {} if options["reason"] is None else {"reason": clean(options["reason"])}
    with operator(), context.changed(**values):
        found = baseline.run(
            wanted,
            using=options["database"],
            batch=options["batch"],
            incomplete=options["incomplete"],
            dry_run=dry_run,
            progress=lambda kind, counted: out.progress(f"{kind}: {_words(counted)}"),
        )
    out.json({"dry_run": dry_run, **_sums(found), "models": _facts(found)})
    _print(found, out, dry_run=dry_run)
    left = sum(counted.locked + counted.failed for counted in found.values())
    if left:
        raise CommandError(
            f"{left} objects were not recorded: others held their rows, or the log of this process "
            "says what failed. Run it again: what is recorded by now is left alone."
        )


def _wanted(words: list[str], using: str | None) -> list[type[Model]]:
    """The models that are meant. Raises CommandError for a word that means none."""
    audited = {model._meta.label_lower: model for model in audited_models()}
    if not words:
        here = audited.values()
        return [m for m in here if using is None or router.allow_migrate_model(using, m)]
    found: dict[str, type[Model]] = {}
    for word in words:
        named = {k: model for k, model in audited.items() if fnmatchcase(k, word.lower())}
        if not named:
            raise CommandError(f"{word!r} names no audited model{_why(word)}.")
        found.update(named)
    return list(found.values())


def _why(word: str) -> str:
    try:
        apps.get_model(word)
    except (LookupError, ValueError):
        return "; expected app.Model or app.*, as in INSTALLED_APPS"
    return ": it is a model, but MODELS, EXCLUDE_MODELS or its own code says not to audit it"


def _sums(found: dict[str, Counted]) -> dict[str, int]:
    names = ("written", "known", "locked", "failed")
    return {name: sum(getattr(counted, name) for counted in found.values()) for name in names}


def _facts(found: dict[str, Counted]) -> list[dict[str, Any]]:
    return [{"model": kind, **asdict(counted)} for kind, counted in found.items()]


def _words(counted: Counted, *, dry_run: bool = False) -> str:
    done = "would be recorded" if dry_run else "recorded"
    parts = [f"{counted.written} {done}", f"{counted.known} had records"]
    parts += [f"{counted.locked} were held by others"] if counted.locked else []
    parts += [f"{counted.failed} failed"] if counted.failed else []
    return ", ".join(parts)


def _print(found: dict[str, Counted], out: Output, *, dry_run: bool) -> None:
    for kind, counted in found.items():
        if not counted.has_table:
            out.line(f"! {kind}: there is no table in {counted.database!r}")
        elif any(_sums({kind: counted}).values()):
            out.line(f"{kind}: {_words(counted, dry_run=dry_run)}")
    sums = _sums(found)
    total = Counted("", sums["written"], sums["known"], sums["locked"], sums["failed"])
    out.line(f"{_words(total, dry_run=dry_run)}, in {len(found)} models.")
