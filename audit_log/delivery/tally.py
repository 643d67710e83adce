"""What the relays of this process have moved since it started."""

from __future__ import annotations

import threading
from typing import Final

from audit_log import forks

_NAMES: Final = ("batches", "events", "seconds")
_lock = threading.Lock()
_counts: dict[str, float] = dict.fromkeys(_NAMES, 0.0)


def _after_fork() -> None:
    global _lock  # noqa: PLW0603 - the parent may have held it
    _lock = threading.Lock()
    _counts.update(dict.fromkeys(_NAMES, 0.0))


forks.on_fork(_after_fork)


def add(batches: int, events: int, seconds: float) -> None:
    """Count one round of a relay in."""
    with _lock:
        for name, number in zip(_NAMES, (batches, events, seconds), strict=True):
            _counts[name] += number


def counts() -> dict[str, float]:
    """`batches`, `events` and `seconds` so far."""
    with _lock:
        return dict(_counts)
