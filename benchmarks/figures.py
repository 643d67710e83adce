"""Medians, percentiles and ratios: nothing here measures, so all of it is tested."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

Rounds = Sequence[Sequence[float]]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest of `values` that at least `share` (0 to 1) of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def ratios(rounds: Rounds, base: Rounds) -> list[float]:
    """Round by round, the median of one subject over the median of another.

    Both were measured within the same seconds, so what slows the machine down slows down both.
    """
    return [
        statistics.median(mine) / statistics.median(theirs)
        for mine, theirs in zip(rounds, base, strict=True)
    ]


def summary(rounds: Rounds, base: Rounds) -> dict[str, float]:
    """`median_us`, `p95_us`, and the `ratio` with the quartiles of its rounds."""
    everything = [value for values in rounds for value in values]
    found = ratios(rounds, base)
    return {
        "median_us": round(statistics.median(everything), 1),
        "p95_us": round(percentile(everything, 0.95), 1),
        "ratio": round(statistics.median(found), 3),
        "ratio_p25": round(percentile(found, 0.25), 3),
        "ratio_p75": round(percentile(found, 0.75), 3),
    }


def summaries(measured: Mapping[str, Rounds], base: str) -> dict[str, dict[str, float]]:
    """The summary of each subject against `base`."""
    return {name: summary(rounds, measured[base]) for name, rounds in measured.items()}
