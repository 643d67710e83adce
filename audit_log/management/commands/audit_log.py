"""`manage.py audit_log <verb>`."""

from __future__ import annotations

import argparse
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections
from django.db.migrations.executor import MigrationExecutor

from audit_log.exceptions import AuditLogError
from audit_log.management import verbs
from audit_log.management.output import Output
from audit_log.router import ledger_alias

_APP: Final = "audit_log"


class Command(BaseCommand):
    """Dispatches to `management.verbs`."""

    help = "The audit log: how it is doing, moving batches into it, proving and searching it."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        self._parser = parser
        subparsers = parser.add_subparsers(dest="verb", metavar="verb", title="verbs")
        for name in verbs.NAMES:
            verb = verbs.load(name)
            sub = subparsers.add_parser(name, help=verb.HELP, description=verb.HELP)
            sub.add_argument(
                "--database",
                choices=tuple(connections),
                help="One database only (default: the ledger's, and every outbox).",
            )
            sub.add_argument("--json", action="store_true", help="Print JSON, for programs.")
            sub.add_argument(
                "--progress", action="store_true", help="Show progress even without a terminal."
            )
            verb.add_arguments(sub)
            _add_django_options(sub)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the verb; without one, print the help."""
        if options["verb"] is None:
            self.stdout.write(self._parser.format_help())
            return
        out = Output(self.stdout, self.stderr, options)
        try:
            verbs.load(options["verb"]).run(options, out)
        except AuditLogError as error:
            raise CommandError(str(error)) from error
        except DatabaseError as error:
            if not (behind := _not_migrated(options["database"])):
                raise
            raise CommandError(
                f"The tables of {_APP} are not what this version needs in: {', '.join(behind)}. "
                "Run `manage.py migrate`, with --database for each but the default. "
                f"({str(error).splitlines()[0]})"
            ) from error
        finally:
            out.clear()


def _not_migrated(using: str | None) -> list[str]:
    """The databases a verb works on to which not all our migrations are applied."""
    behind = []
    for alias in sorted({using or ledger_alias(), DEFAULT_DB_ALIAS}):
        try:
            executor = MigrationExecutor(connections[alias])
            if executor.migration_plan(executor.loader.graph.leaf_nodes(_APP)):
                behind.append(alias)
        except DatabaseError:
            continue  # it does not even answer: the first error says more
    return behind


def _add_django_options(parser: argparse.ArgumentParser) -> None:
    """Django's own options, also behind the verb, where people write them."""
    hidden: dict[str, Any] = {"default": argparse.SUPPRESS, "help": argparse.SUPPRESS}
    parser.add_argument("-v", "--verbosity", type=int, choices=range(4), **hidden)
    parser.add_argument("--settings", **hidden)
    parser.add_argument("--pythonpath", **hidden)
    for flag in ("--traceback", "--no-color", "--force-color", "--skip-checks"):
        parser.add_argument(flag, action="store_true", **hidden)
