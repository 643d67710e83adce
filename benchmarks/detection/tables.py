"""The figures as docs/masking.md has them, between two marks."""

from __future__ import annotations

import re
from typing import Any, Final

from benchmarks.grids import markdown

_PART: Final = re.compile(
    r"(<!-- made by benchmarks\.detection: (?P<name>\w+) -->\n).*?(<!-- end -->)", re.DOTALL
)
_COLUMNS: Final = ("strings", "found", "missed", "false", "undecidable", "precision", "recall")


def rendered(page: str, found: dict[str, Any]) -> str:
    """The page with each part between its marks made anew. Raises KeyError for an unknown part."""

    def part(match: re.Match[str]) -> str:
        return f"{match[1]}{_PARTS[match['name']](found)}\n{match[3]}"

    return _PART.sub(part, page)


def _detectors(found: dict[str, Any]) -> str:
    rows = [["detector", *_COLUMNS]]
    for name, row in found["detectors"].items():
        rows.append([f"`{name}`", *(_cell(row[column]) for column in _COLUMNS)])
    return markdown(rows)


def _sizes(found: dict[str, Any]) -> str:
    return (
        f"{found['strings']:,} strings that hold a secret or something personal and "
        f"{found['look_alikes']:,} that look so (seed {found['seed']})."
    )


def _wrong(found: dict[str, Any]) -> str:
    rows = [["strings", "of", "missed", "false", "undecidable"]]
    names = sorted({*found["missed"], *found["false"], *found["undecidable"]}, key=str.lower)
    for name in names:
        missed, false = found["missed"].get(name, {}), found["false"].get(name, {})
        cells = (missed.get("missed", 0), false.get("false", 0), found["undecidable"].get(name, 0))
        rows.append([name, f"{found['sizes'][name]:,}", *map(str, cells)])
    return markdown(rows)


def _cell(value: int | float) -> str:
    return f"{value:.4f}" if isinstance(value, float) else f"{value:,}"


_PARTS: Final = {"detectors": _detectors, "sizes": _sizes, "wrong": _wrong}
