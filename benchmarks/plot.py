"""The plot of docs/performance.md: ratios to not audited, operation by operation."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.plan import OPERATIONS
from benchmarks.subjects import NAMES, NONE
from benchmarks.tables import by_key

_COLOURS: Final = (
    "#0b6e4f",
    "#8d99ae",
    "#c9ada7",
    "#e0a458",
    "#9a8c98",
    "#5b8db8",
    "#14a073",
    "#5e3023",
)
_TICKS: Final = (0.5, 0.7, 1, 1.4, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96)


def draw(results: dict[str, Any], path: Path) -> None:
    """Write an SVG that is the same for the same results."""
    mpl.rcParams["svg.hashsalt"] = "audit_log"
    mpl.rcParams["svg.fonttype"] = "none"
    found = by_key(results["rows"])
    subjects = [name for name in NAMES if name != NONE and any(key[1] == name for key in found)]
    figure = Figure(figsize=(9, 9), layout="constrained")
    axes: Any = figure.subplots()
    height = 0.8 / len(subjects)
    for number, subject in enumerate(subjects):
        for place, operation in enumerate(OPERATIONS):
            row = found[operation.name, subject]
            axes.barh(
                place + number * height,
                row["ratio"] - 1,
                height,
                left=1,
                color=_COLOURS[number],
                alpha=1 if row["captured"] else 0.35,
                label=subject if place == 0 else None,
            )
    _dress(axes)
    figure.savefig(path, metadata={"Date": None, "Creator": None})


def _dress(axes: Any) -> None:
    names = [operation.name for operation in OPERATIONS]
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    ticks = [tick for tick in _TICKS if low <= tick <= high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_yticks([place + 0.4 for place in range(len(names))], names)
    axes.invert_yaxis()
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("times as long as not audited (pale: records nothing)")
    axes.legend(loc="lower right", frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
