"""What the log watches, and where data could change unseen."""

from __future__ import annotations

import textwrap
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from django.apps import apps
from django.core.management.base import CommandError

from audit_log.coverage.places import CAPTURED, KINDS, NOT_SEEN, Place
from audit_log.coverage.report import Report, report
from audit_log.coverage.sources import ACCEPTED
from audit_log.coverage.watching import STATES, Watched
from audit_log.management.arguments import number
from audit_log.management.output import Output, printable

HELP = "Which models and fields are watched and why, and where data could change unseen."
_FAILURES: Final = ("unwatched", "unseen")
_LIMIT: Final = 100
_WIDTH: Final = 100
_NAMED: Final = 3
_TITLES: Final = {
    "unwatched": "Not watched, and nobody said so",
    "unmanaged": "Unmanaged",
    "excluded": "Excluded",
    "bookkeeping": "Bookkeeping, not audited by default",
    "own": "Tables of the log itself",
    "audited": "Audited",
}
_POLICIES: Final = ("key", "open", "sealed", "masked", "excluded")


def add_arguments(parser: ArgumentParser) -> None:
    """`--app`, `--fail-on` and `--limit`."""
    parser.add_argument(
        "--app", action="append", default=[], metavar="LABEL", help="One app only; may be repeated."
    )
    parser.add_argument(
        "--fail-on",
        action="append",
        default=[],
        choices=_FAILURES,
        help="Exit with 1 for a model that is neither audited nor excluded (unwatched), or for a "
        f"place in the project's code without the comment `{ACCEPTED}` (unseen). May be repeated.",
    )
    parser.add_argument(
        "--limit",
        type=number,
        default=_LIMIT,
        help="So many models of a state, and places, at most (default: %(default)s); JSON has all.",
    )


def run(options: dict[str, Any], out: Output) -> None:
    """Print the report. Raises CommandError for an app that is not there, or by `--fail-on`."""
    labels = sorted(config.label for config in apps.get_app_configs())
    if unknown := [label for label in options["app"] if label not in labels]:
        raise CommandError(
            f"There is no app {', '.join(map(repr, unknown))}. Apps: {', '.join(labels)}."
        )
    found = report(options["app"], options["database"])
    out.json(found.as_dict())
    for line in _lines(found, options["limit"]):
        out.line(printable(line))
    if failures := list(_failures(found, options["fail_on"])):
        raise CommandError(" ".join(failures))


def _failures(found: Report, asked: Sequence[str]) -> Iterator[str]:
    if "unwatched" in asked and found.unwatched:
        yield (
            f"{len(found.unwatched)} models are not watched: {_some(found.unwatched)}. Audit them, "
            'or name them in AUDIT_LOG["EXCLUDE_MODELS"].'
        )
    if "unseen" in asked and found.unseen:
        where = _some(list(dict.fromkeys(f"{each.path}:{each.line}" for each in found.unseen)))
        yield (
            f"{len(found.unseen)} places could change data unseen: {where}. Where that is meant, "
            f"write `{ACCEPTED}` on the line."
        )


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _lines(found: Report, limit: int) -> Iterator[str]:
    counts = ", ".join(f"{found.states[state]} {state}" for state in STATES if found.states[state])
    yield f"{len(found.models)} models: {counts or 'none'}."
    for state in STATES:
        models = [each for each in found.models if each.state == state]
        if models:
            yield ""
            yield f"{_TITLES[state]}:"
            yield from _limited((list(_model(each)) for each in models), len(models), limit)
    yield ""
    yield from _places(found, limit)
    yield ""
    yield from _wrapped("Looked for: ", "; ".join(f"{kind}: {KINDS[kind]}" for kind in KINDS))
    yield from _wrapped("Captured, so not listed: ", CAPTURED)
    yield from _wrapped("Cannot be seen from here: ", "; ".join(NOT_SEEN))
    yield from _wrapped("Read the code of: ", ", ".join(found.roots) or "nothing")


def _places(found: Report, limit: int) -> Iterator[str]:
    accepted = sum(place.accepted for place in found.places)
    yield f"{len(found.places)} places where data could change unseen, {accepted} of them accepted:"
    yield from _limited(([_place(each)] for each in found.places), len(found.places), limit)
    for path in found.unread:
        yield f"! {path} could not be read as Python"
    for alias, why in found.unasked.items():
        yield f"! the database {alias!r} did not answer: {why}"


def _limited(items: Iterable[list[str]], total: int, limit: int) -> Iterator[str]:
    for n, lines in enumerate(items):
        if n == limit:
            yield f"  and {total - limit} more: --limit, --app or --json shows them"
            return
        yield from lines


def _model(each: Watched) -> Iterator[str]:
    kind = "" if each.kind == "concrete" else f" ({each.kind})"
    seen = ", captured by triggers" if each.by_triggers else ""
    yield f"  {each.label}{kind}: {_why(each)}{seen}"
    for policy in _POLICIES:
        fields = [f"{one.name} ({one.rule})" for one in each.fields if one.policy == policy]
        if fields:
            yield from _wrapped(f"    {policy:<9}", ", ".join(fields))


def _why(each: Watched) -> str:
    if each.through is not None:
        return f"as {each.through}"
    reasons = {
        "register": f"audited() or register() of {each.named}",
        "unregister": f"unregister({each.named})",
        "bookkeeping": f"built-in list, {each.named}",
        "unmanaged": "managed = False; register() it, or name it in EXCLUDE_MODELS",
        "ENABLED": "ENABLED is False",
        "MODELS": "MODELS does not name it" if each.named is None else f'MODELS "{each.named}"',
        "EXCLUDE_MODELS": f'EXCLUDE_MODELS "{each.named}"',
    }
    return reasons.get(each.rule, each.rule)


def _place(place: Place) -> str:
    where = "" if place.path is None else place.path
    if place.line is not None:
        where += f":{place.line}"
    seen = " [accepted]" if place.accepted else ""
    return "  " + "  ".join(filter(None, (where, place.kind, place.what))) + seen


def _wrapped(start: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=start,
        subsequent_indent=" " * (len(start) if start.startswith(" ") else 2),
        break_on_hyphens=False,
    )
