"""What commits and requests felt of a broker that does not work, whatever else the machine does."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

import pytest

from audit_log.recording import nudge

_TRIES = 8


def assert_breaker_opened(report: Any) -> None:
    """One failed message, and no other before the breaker let one through again."""
    again = int(report["lasted"] / nudge._BREAKER_SECONDS)  # none, but on a machine that stalls
    assert 1 <= report["losses"]["nudge_failed"] <= 1 + again


def assert_as_fast(troubled: Callable[[], Any], free: Callable[[], Any]) -> int:
    """Nobody waits while the broker is in trouble. After how many comparisons that is certain.

    Who waits for it waits each time. What else is slow on this machine is not slow each time.
    """
    seen = []
    for n in range(1, _TRIES + 1):
        quick, other = free()["seconds"], troubled()["seconds"]
        # Ten times leaves room for noise; waiting for the broker would be a hundred times.
        if median(other) < 10 * median(quick) and max(other) < 0.4 + 10 * max(quick):
            return n
        seen.append((median(quick), median(other), max(quick), max(other)))
    pytest.fail(f"Slower each time (medians and maxima, without and with the trouble): {seen}")
