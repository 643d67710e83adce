"""What the relay and beat call: an alert in trouble must trouble nobody else."""

from __future__ import annotations

from django.db import OperationalError

from audit_log.alerts.evaluation import evaluate
from audit_log.alerts.notifying import notify
from audit_log.recording import losses


def look(*, seconds: float | None = None) -> int:
    """Evaluate; an error is logged and counted, and tried again with the next records."""
    try:
        try:
            return evaluate(seconds=seconds)
        except OperationalError:  # two evaluations met, in a deadlock or under strict isolation
            return evaluate(seconds=seconds)
    except Exception:  # noqa: BLE001 - the relay goes on whatever a rule runs into
        losses.warn("alerts_failed", "The alerts could not be evaluated now.")
        return 0


def sweep(*, seconds: float | None = None) -> int:
    """Evaluate, and tell of what fired now or could not be told before. How many fired."""
    fired = look(seconds=seconds)
    try:
        notify()
    except Exception:  # noqa: BLE001 - the same
        losses.warn("alerts_failed", "Nobody could be told of the alerts now.")
    return fired
