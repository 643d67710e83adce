"""The Celery tasks. None takes an argument, so a forged message can do nothing."""

from __future__ import annotations

import time

from celery import shared_task

from audit_log.delivery import relay as _relay
from audit_log.ledger import checkpoints
from audit_log.recording import nudge

_SECONDS = 20.0


@shared_task(name="audit_log.relay", ignore_result=True, acks_late=True)
def relay() -> None:
    """Move what waits in every outbox; after 20 s hand over to a fresh run."""
    started = time.monotonic()
    _relay.relay_everywhere(seconds=_SECONDS)
    # Only when time ran out: otherwise what is left is with another relay, or waits for its turn.
    if time.monotonic() - started >= _SECONDS:
        nudge.wake()


@shared_task(name="audit_log.checkpoint", ignore_result=True)
def checkpoint() -> None:
    """Sign every stream that grew."""
    checkpoints.sign_all()
