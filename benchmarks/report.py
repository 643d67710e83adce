"""docs/performance.md and docs/performance.svg from results.json; measures nothing.

`python -m benchmarks.report` writes both; a test holds the page to the results.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks import budgets, results, tables
from benchmarks.grids import markdown
from benchmarks.plan import OPERATIONS

PAGE: Final = Path(__file__).parent.parent / "docs" / "performance.md"
PLOT: Final = PAGE.with_suffix(".svg")
_PART: Final = re.compile(
    r"(<!-- made by benchmarks\.report: (?P<name>\w+) -->\n).*?(<!-- end -->)", re.DOTALL
)
Results = dict[str, Any]


def rendered(page: str, found: Results) -> str:
    """The page with each part between its marks made anew. Raises KeyError for an unknown part."""

    def part(match: re.Match[str]) -> str:
        return f"{match[1]}{PARTS[match['name']](found)}\n{match[3]}"

    return _PART.sub(part, page)


def _conditions(found: Results) -> str:
    machine, versions = found["machine"], found["versions"]
    said = ", ".join(f"{name} {value}" for name, value in versions.items())
    postgresql = ", ".join(f"`{k}` {v}" for k, v in machine["postgresql"].items())
    sections = ", ".join(
        f"{name} {stamp['date'][:10]} at `{stamp['commit']}`"
        for name, stamp in found["sections"].items()
    )
    return (
        f"Machine: {machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB, "
        f"{machine['system']}. PostgreSQL on the same machine, over TCP: {postgresql}.\n\n"
        f"Versions: {said}.\n\nMeasured: {sections}."
    )


def _operations(_: Results) -> str:
    return markdown(
        [["operation", "is"], *[[f"`{o.name}`", o.meaning] for o in OPERATIONS]], figures=False
    )


def _table(
    grid: Callable[[Results], list[list[str]]], *, figures: bool = True
) -> Callable[[Results], str]:
    return lambda found: markdown(grid(found), figures=figures)


PARTS: Final[dict[str, Callable[[Results], str]]] = {
    "conditions": _conditions,
    "operations": _operations,
    "budgets": _table(budgets.table),
    "ratios": _table(tables.ratios),
    "spread": _table(tables.spread),
    "queries": _table(tables.queries),
    "captured": _table(tables.captured),
    "times": _table(tables.times),
    "processor": _table(tables.processor),
    "recorded": _table(tables.recorded, figures=False),
    "notes": _table(tables.notes, figures=False),
    "storage": _table(tables.storage),
    "saves": _table(tables.saves),
    "relay": _table(tables.relay),
    "stages": _table(tables.stages),
    "latency": _table(tables.latency),
    "micro": _table(tables.micro),
}


def main() -> int:
    """Write the page, and the plot where matplotlib is installed."""
    found = results.load()
    if not found:
        print(f"There is no {results.PATH}: `make bench` writes it.", file=sys.stderr)
        return 1
    PAGE.write_text(rendered(PAGE.read_text(), found))
    try:
        from benchmarks.plot import draw  # noqa: PLC0415 - only this needs matplotlib
    except ImportError:
        print("matplotlib is not installed; the plot stays as it is.", file=sys.stderr)
        return 0
    draw(found, PLOT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
