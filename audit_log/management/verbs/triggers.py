"""The triggers that capture what is written behind the ORM, on PostgreSQL."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError
from django.db import OperationalError, connections, models, router

from audit_log.capture.triggers import installing
from audit_log.capture.triggers.installing import LOCK_TIMEOUT, State
from audit_log.capture.triggers.watched import automatic_tables, watched_models
from audit_log.management.actor import operator
from audit_log.management.output import Output
from audit_log.models import Outbox
from audit_log.reading import access

HELP = 'The triggers of models with capture="triggers" (PostgreSQL). `status` exits with 1 if some '
HELP += "are missing, outdated or disabled."


def add_arguments(parser: ArgumentParser) -> None:
    """What to do, and `--model`."""
    actions = ("install", "remove", "status")
    parser.add_argument(
        "action", nargs="?", choices=actions, default="status", help="(%(default)s)"
    )
    parser.add_argument(
        "--model",
        action="append",
        metavar="app.Model",
        help="This model and its many-to-many fields; may be repeated (default: all).",
    )
    parser.add_argument("--dry-run", action="store_true", help="Say what would be done.")


def run(options: dict[str, Any], out: Output) -> None:
    """Do it in each database that has such models. Raises CommandError."""
    action: str = options["action"]
    wanted = options["model"]
    dry_run: bool = options["dry_run"]
    for alias in _aliases(options["database"], action):
        chosen = None if wanted is None else _chosen(wanted, alias, action)
        try:
            if action == "status":
                continue
            with operator():
                (_install if action == "install" else _remove)(alias, chosen, out, dry_run=dry_run)
        except OperationalError as error:
            raise CommandError(
                f"Nothing was changed in {alias!r}. A table is in use, and the command waits no "
                f"longer than {LOCK_TIMEOUT} for it: run it again. ({str(error).strip()})"
            ) from error
    if action == "status":
        _status(options["database"], wanted, out)


def _aliases(only: str | None, action: str) -> list[str]:
    aliases = [only] if only else list(connections)
    found = [
        alias
        for alias in aliases
        if connections[alias].vendor == "postgresql"
        and not connections[alias].settings_dict["TEST"]["MIRROR"]
        and (_has_outbox(alias) if action == "remove" else watched_models(alias))
    ]
    if not found and action == "install":
        raise CommandError(
            'No model asks for triggers: `audited(capture="triggers")`, in a database that is '
            "PostgreSQL."
        )
    return found


def _has_outbox(alias: str) -> bool:
    with connections[alias].cursor() as cursor:
        return Outbox._meta.db_table in connections[alias].introspection.table_names(cursor)


def _chosen(words: Iterable[str], alias: str, action: str) -> list[type[models.Model]]:
    """The models that are meant, with the tables of their members."""
    from django.apps import apps  # noqa: PLC0415 - as the other verbs

    found: list[type[models.Model]] = []
    known = watched_models(alias)
    for word in words:
        try:
            model = apps.get_model(word)
        except (LookupError, ValueError) as error:
            raise CommandError(f"{word!r} is no model; expected app.Model.") from error
        if action != "remove" and model not in known and router.db_for_write(model) == alias:
            raise CommandError(f'{word} does not ask for triggers: `audited(capture="triggers")`.')
        found += [model, *automatic_tables(model)]
    return [model for model in found if action == "remove" or model in known]


def _install(
    alias: str, chosen: list[type[models.Model]] | None, out: Output, *, dry_run: bool
) -> None:
    wanted = watched_models(alias) if chosen is None else chosen
    if not wanted:
        return
    if dry_run:
        labels = {model._meta.label for model in wanted}
        found = [each for each in installing.states(alias) if each.model in labels]
        for state in found:
            out.line(_would(state, alias))
        out.json({"database": alias, "dry_run": True, "tables": [asdict(s) for s in found]})
        return
    done = installing.install(alias, wanted)
    for state in done:
        out.line(f"{state.table} in {alias!r}: installed (was {state.state})")
    out.line(f"{len(done)} of {len(wanted)} tables in {alias!r} needed triggers.")
    out.json({"database": alias, "dry_run": False, "tables": [asdict(state) for state in done]})


def _would(state: State, alias: str) -> str:
    if state.is_right:
        return f"{state.table} in {alias!r}: nothing to do"
    return f"{state.table} in {alias!r}: would be installed (is {state.state})"


def _remove(
    alias: str, chosen: list[type[models.Model]] | None, out: Output, *, dry_run: bool
) -> None:
    tables = None if chosen is None else [model._meta.db_table for model in chosen]
    if dry_run:
        for table in installing.tables_with_triggers(alias, tables):
            out.line(f"{table} in {alias!r}: would be removed")
        return
    gone = installing.remove(alias, tables)
    for table in gone:
        out.line(f"{table} in {alias!r}: removed")
    out.line(f"{len(gone)} tables in {alias!r} had triggers.")
    out.json({"database": alias, "removed": gone})


def _status(only: str | None, wanted: list[str] | None, out: Output) -> None:
    found = {
        alias: installing.states(alias)
        for alias in ([only] if only else list(connections))
        if not connections[alias].settings_dict["TEST"]["MIRROR"]
    }
    if wanted is not None:
        labels = {
            model._meta.label for alias in found for model in _chosen(wanted, alias, "status")
        }
        found = {
            alias: [each for each in states if each.model in labels]
            for alias, states in found.items()
        }
    if any(found.values()):
        with operator():  # reads alone, so recorded as looking at the log is
            query, results = " ".join(wanted or []), sum(map(len, found.values()))
            access.note_viewed("triggers", query=query, results=results)
    for alias, states in found.items():
        for state in states:
            why = f": {state.why}" if state.why else ""
            name = f"{state.model} ({state.table})" if state.model else state.table
            out.line(f"{state.state:9}  {name} in {alias!r}{why}")
    out.json({"tables": [{"database": a, **asdict(s)} for a, all_ in found.items() for s in all_]})
    wrong = sum(not state.is_right for states in found.values() for state in states)
    if wrong:
        raise CommandError(
            f"{wrong} tables are not as they should be: `manage.py audit_log triggers install` "
            "puts them right, and `remove` takes away what nobody asks for."
        )
    if not any(found.values()):
        out.line('No model asks for triggers: `audited(capture="triggers")`.')
