"""What beat must run."""

from __future__ import annotations

from typing import Any, Final

from celery.schedules import crontab

from audit_log.conf import get_settings

SWEEP_SECONDS: Final = 5.0
# By the worker's clock: one that is a little ahead of beat's must not throw every sweep away.
SWEEP_EXPIRES_SECONDS: Final = 60.0
CHECKPOINT_SECONDS: Final = 60.0
ALERTS_SECONDS: Final = 60.0
RETENTION_AT: Final = {"hour": 2, "minute": 17}  # in the time zone of the Celery app
RETENTION_EXPIRES_SECONDS: Final = 6 * 3600.0


def beat_schedule() -> dict[str, dict[str, Any]]:
    """For `app.conf.beat_schedule |= audit_log.beat_schedule()`.

    Messages expire, so that a worker that was stopped finds no pile of them.
    """
    queue = get_settings().queue
    route = {} if queue is None else {"queue": queue}
    return {
        "audit_log.relay": {
            "task": "audit_log.relay",
            "schedule": SWEEP_SECONDS,
            "options": {"expires": SWEEP_EXPIRES_SECONDS, "ignore_result": True, **route},
        },
        "audit_log.checkpoint": {
            "task": "audit_log.checkpoint",
            "schedule": CHECKPOINT_SECONDS,
            "options": {"expires": CHECKPOINT_SECONDS, "ignore_result": True, **route},
        },
        "audit_log.alerts": {
            "task": "audit_log.alerts",
            "schedule": ALERTS_SECONDS,
            "options": {"expires": ALERTS_SECONDS, "ignore_result": True, **route},
        },
        "audit_log.retention": {
            "task": "audit_log.retention",
            "schedule": crontab(**RETENTION_AT),
            "options": {"expires": RETENTION_EXPIRES_SECONDS, "ignore_result": True, **route},
        },
    }
