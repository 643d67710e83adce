"""The Celery tasks. None takes an argument, so a forged message can do nothing."""

from __future__ import annotations

import time
from typing import Any

from celery import shared_task

from audit_log.alerts import sweeping
from audit_log.conf import get_settings
from audit_log.delivery import relay as _relay
from audit_log.ledger import checkpoints
from audit_log.recording import losses, nudge
from audit_log.retention import nightly

_SECONDS = 20.0
_EXPIRES_SECONDS = 60.0


@shared_task(name="audit_log.relay", ignore_result=True, acks_late=True)
def relay() -> None:
    """Move what waits in every outbox; after 20 s hand over to a fresh run.

    What it stored is looked at for alerts. Telling people of one is another task's: no mail server
    holds up the relay.
    """
    started = time.monotonic()
    moved = _relay.relay_everywhere(seconds=_SECONDS)
    if moved.events and sweeping.look(seconds=_SECONDS):
        _tell_of_alerts()
    # Only when time ran out: otherwise what is left is with another relay, or waits for its turn.
    if time.monotonic() - started >= _SECONDS:
        nudge.wake()


@shared_task(name="audit_log.alerts", ignore_result=True)
def alerts() -> None:
    """Look at what the relay left, tell of what fired, and try again what failed."""
    sweeping.sweep(seconds=_SECONDS)


def _tell_of_alerts() -> None:
    queue = get_settings().queue
    route: dict[str, Any] = {} if queue is None else {"queue": queue}
    try:
        alerts.apply_async(expires=_EXPIRES_SECONDS, retry=False, ignore_result=True, **route)
    except Exception:  # noqa: BLE001 - kombu's transports raise anything; beat does it in a minute
        losses.warn("alerts_not_sent", "Celery took no message for the task audit_log.alerts.")


@shared_task(name="audit_log.checkpoint", ignore_result=True)
def checkpoint() -> None:
    """Sign every stream that grew."""
    checkpoints.sign_all()


@shared_task(name="audit_log.retention", ignore_result=True)
def retention() -> None:
    """Archive every closed day, then purge what is past its days and proved in the archive."""
    nightly.run()
