"""The alerts that fired."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any, Final

from audit_log.alerts import wording
from audit_log.alerts.evaluation import evaluate
from audit_log.alerts.notifying import notify
from audit_log.management.arguments import number
from audit_log.management.output import Output, printable
from audit_log.models import Alert
from audit_log.router import ledger_alias

HELP = "The alerts that fired, newest first, and whether people were told."
_LIMIT: Final = 50
_COLUMNS: Final = (
    *("id", "rule", "group_by", "group", "match", "measure", "measured", "threshold"),
    *("window_start", "window_end", "stream", "sequence", "fired_at", "channels", "due_at"),
)


def add_arguments(parser: ArgumentParser) -> None:
    """`--evaluate` and `--limit`."""
    parser.add_argument(
        "--evaluate",
        action="store_true",
        help="Look at new records first, and try again what could not be delivered.",
    )
    parser.add_argument(
        "--limit", type=number, default=_LIMIT, help="At most so many (default: %(default)s)."
    )


def run(options: dict[str, Any], out: Output) -> None:
    """Print the alerts, with what their channels said."""
    using = options["database"] or ledger_alias()
    fired = delivered = 0
    if options["evaluate"]:
        fired, delivered = evaluate(using), notify(using)
        out.line(f"{fired} alerts fired now, {delivered} deliveries succeeded.")
    rows = list(Alert.objects.using(using).order_by("-pk")[: options["limit"]])
    found = [{name: getattr(alert, name) for name in _COLUMNS} for alert in rows]
    out.json({"fired": fired, "delivered": delivered, "alerts": found})
    for alert in rows:
        _print(alert, out)
    if not rows:
        out.line("No alert has fired.")


def _print(alert: Alert, out: Output) -> None:
    out.line(f"{wording.moment(alert.fired_at)}  {wording.headline(alert)}")
    out.line(f"    {wording.details(alert)}")
    for name, state in alert.channels.items():
        out.line(f"    {name}: {printable(wording.delivery(state))}")
