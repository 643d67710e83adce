"""Everything this process had to give up, counted by reason. Nothing is dropped uncounted."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import Counter
from typing import Final

from audit_log import forks, signals
from audit_log.privacy.words import tellable

logger = logging.getLogger("audit_log")

_WARN_EVERY_SECONDS: Final = 30.0
_lock = threading.Lock()
_counts: Counter[str] = Counter()
_warned: dict[str, float] = {}


def _after_fork() -> None:
    global _lock  # noqa: PLW0603 - the parent may have held it
    _lock = threading.Lock()
    _counts.clear()
    _warned.clear()


forks.on_fork(_after_fork)


def count(reason: str, number: int = 1) -> None:
    """Add to the count of `reason`."""
    with _lock:
        _counts[reason] += number


def counts() -> dict[str, int]:
    """What was counted in this process since it started."""
    with _lock:
        return dict(_counts)


def warn(reason: str, message: str, *args: object) -> None:
    """Count, and log with the current exception, but not more than once in 30 seconds a reason.

    Receivers of `signals.failed` hear of each. The exception may quote the value it stumbled over:
    what detectors know of that is masked in the log.
    """
    failing = sys.exc_info()[1]
    _tell(reason, failing)
    now = time.monotonic()
    with _lock:
        _counts[reason] += 1
        last = _warned.get(reason)
        if last is not None and now - last < _WARN_EVERY_SECONDS:
            return
        _warned[reason] = now
    logger.error(message, *args, exc_info=None if failing is None else tellable(failing))


def _tell(reason: str, error: BaseException | None) -> None:
    if not signals.failed.receivers:
        return
    for _, raised in signals.failed.send_robust(sender=None, reason=reason, error=error):
        if isinstance(raised, Exception):
            count("receiver_failed")  # Django has logged it
