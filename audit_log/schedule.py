"""What beat must run."""

from __future__ import annotations

from typing import Any, Final

from audit_log.conf import get_settings

SWEEP_SECONDS: Final = 5.0
CHECKPOINT_SECONDS: Final = 60.0


def beat_schedule() -> dict[str, dict[str, Any]]:
    """For `app.conf.beat_schedule |= audit_log.beat_schedule()`.

    Messages expire before their successor, so a stopped worker finds no pile of them.
    """
    queue = get_settings().queue
    route = {} if queue is None else {"queue": queue}
    return {
        "audit_log.relay": {
            "task": "audit_log.relay",
            "schedule": SWEEP_SECONDS,
            "options": {"expires": SWEEP_SECONDS, "ignore_result": True, **route},
        },
        "audit_log.checkpoint": {
            "task": "audit_log.checkpoint",
            "schedule": CHECKPOINT_SECONDS,
            "options": {"expires": CHECKPOINT_SECONDS, "ignore_result": True, **route},
        },
    }
