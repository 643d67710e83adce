"""What becomes of a batch or an event that cannot be stored: tried again later, then set aside.

Never deleted, never in the way of those behind it, always with its reason.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Final

from django.db import transaction

from audit_log import signals
from audit_log.events import Event, encode_again
from audit_log.exceptions import AuditLogError
from audit_log.models import Outbox
from audit_log.privacy.encryption import key_ring
from audit_log.privacy.words import words_of
from audit_log.recording import forms, losses, outbox
from audit_log.recording.explicit import record
from audit_log.recording.forms import Waiting
from audit_log.recording.values import clean

logger = logging.getLogger("audit_log")

MAX_ATTEMPTS: Final = 10
_ATTEMPTS_BEFORE_SPLIT: Final = 2
_MAX_WAIT_SECONDS: Final = 3600
_MAX_REASON: Final = 500


def reason_of(error: BaseException) -> str:
    """Why, for people, without what an error quotes of the values it stumbled over."""
    return clean(words_of(error, _MAX_REASON))


def postpone(using: str, id_: int, error: BaseException) -> None:
    """Try a failing batch again later; after ten times set it aside.

    A batch of several events that goes on failing is taken apart, so that one does not hold back
    the others.
    """
    row = Outbox.objects.using(using).filter(pk=id_).first()
    if row is None:
        return  # another relay was faster
    losses.count("batch_failed")
    if row.event_count > 1 and row.attempts >= _ATTEMPTS_BEFORE_SPLIT and _split(using, row):
        return
    reason = reason_of(error)
    row.attempts += 1
    row.parked_reason = reason
    if row.attempts >= MAX_ATTEMPTS:
        row.parked_at = datetime.now(UTC)
    else:
        row.next_attempt_at = _next_attempt(row.attempts)
        logger.warning("Batch %s waits for attempt %s: %s", id_, row.attempts + 1, reason)
    row.save(
        using=using, update_fields=["attempts", "parked_reason", "parked_at", "next_attempt_at"]
    )
    if row.parked_at is not None:
        _announce(using, row, reason)


def set_apart(using: str, event: Event, error: BaseException) -> None:
    """Put an event that failed into a batch of its own, so that its companions can be stored."""
    row = _alone(event)
    row.attempts = 1
    row.next_attempt_at = _next_attempt(1)
    row.parked_reason = reason_of(error)
    row.save(using=using, force_insert=True)
    losses.count("batch_failed")
    logger.warning("Batch %s waits for attempt 2: %s", row.pk, row.parked_reason)


def park(using: str, event: Event, reason: str) -> None:
    """Set an event aside that no retry can help: forged, late, or in conflict with another."""
    row = _alone(event)
    row.attempts = MAX_ATTEMPTS
    row.parked_at = row.created_at
    row.parked_reason = reason[:_MAX_REASON]
    row.save(using=using, force_insert=True)
    _announce(using, row, row.parked_reason)


def _alone(event: Event) -> Outbox:
    return Outbox(
        created_at=datetime.now(UTC),
        event_count=1,
        payload=key_ring().encrypt(outbox.PURPOSE, encode_again(event)),
    )


def _split(using: str, row: Outbox) -> bool:
    """Replace a batch by one for each of its events. False where it cannot even be read."""
    try:
        waiting = Waiting(row.pk, row.form, row.payload, row.created_at)
        events = forms.events_of(waiting, using)
    except AuditLogError:
        return False
    rows = [_alone(event) for event in events]
    for alone in rows:
        alone.attempts, alone.parked_reason = row.attempts, row.parked_reason
    with transaction.atomic(using=using):
        deleted, _ = Outbox.objects.using(using).filter(pk=row.pk).delete()
        if deleted:
            Outbox.objects.using(using).bulk_create(rows)
    return True


def _next_attempt(attempts: int) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=min(2**attempts, _MAX_WAIT_SECONDS))


def _announce(using: str, row: Outbox, reason: str) -> None:
    losses.count("parked")
    logger.error("Batch %s of %r is parked: %s", row.pk, using, reason)
    signals.parked.send_robust(sender=None, outbox_id=row.pk, reason=reason)
    # In the same transaction, so it is on record exactly if it is parked.
    data = {"batch": row.pk, "database": using, "events": row.event_count}
    record("audit_log.parked", data=data, reason=reason, using=using)
