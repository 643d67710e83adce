"""Grids of text, aligned for a terminal or as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Grid = Sequence[Sequence[str]]


def markdown(grid: Grid, *, figures: bool = True) -> str:
    """A table; the first row is its head. Columns of figures, all but the first, go right."""
    if not grid:
        return "Not measured yet."
    head, *body = grid
    rule = ["---", *["---:" if figures else "---"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, rule, *body])


def aligned(grid: Grid) -> str:
    """The same for a terminal."""
    if not grid:
        return "(nothing)"
    widths = [max(len(row[n]) for row in grid) for n in range(len(grid[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if n else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in grid
    )


def duration(microseconds: float) -> str:
    """With the unit that reads best, and three figures."""
    if microseconds < 1000:  # noqa: PLR2004 - a millisecond
        return f"{microseconds:.3g} µs"
    return f"{microseconds / 1000:.3g} ms"


def number(value: Any) -> str:
    """A figure of another part of the benchmark, whatever it is."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"  # noqa: PLR2004
    return str(value)


def generic(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """A grid of whatever the rows hold, nested things left out."""
    columns: dict[str, None] = {}
    for row in rows:
        columns.update(
            {key: None for key, value in row.items() if not isinstance(value, dict | list)}
        )
    body = [[number(row.get(key)) for key in columns] for row in rows]
    return [[key.replace("_", " ") for key in columns], *body] if rows else []
