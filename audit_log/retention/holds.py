"""Legal holds: while one stands, its person is not erased, and nothing at all is purged.

That nothing is purged is more than a hold on one person needs, and the safe side: rows are purged
by ranges, and no range is known to be free of that person.
"""

from __future__ import annotations

from datetime import UTC, datetime

from django.db import transaction
from django.db.models import QuerySet

from audit_log import context
from audit_log.events import Target
from audit_log.exceptions import RetentionRefused
from audit_log.ledger import heads
from audit_log.models import LegalHold
from audit_log.recording.values import clean
from audit_log.retention import bookkeeping

HELD = "audit_log.held"
RELEASED = "audit_log.released"
_MAX_REASON = 500
_MAX_SUBJECT = 255


def standing(using: str, subject: str | None = None) -> QuerySet[LegalHold]:
    """The holds that have not been lifted: all, or those on one person."""
    rows = LegalHold.objects.using(using).filter(lifted_at=None).order_by("id")
    return rows if subject is None else rows.filter(subject=subject)


def take_turns(using: str) -> None:
    """Wait, in the open transaction, for whoever places a hold or does what one forbids.

    Else a hold could be placed while an erasure that has seen none is under way.
    """
    heads.ensure([heads.BOOKKEEPING], using)
    heads.lock([heads.BOOKKEEPING], using)


def place(subject: str, reason: str, using: str) -> LegalHold:
    """Place a hold, on record. Raises RetentionRefused without a reason."""
    if not reason.strip() or len(reason) > _MAX_REASON:
        raise RetentionRefused(
            "A legal hold needs a reason: who asked for it, and for which case, in "
            f"{_MAX_REASON} characters at most."
        )
    if len(subject) > _MAX_SUBJECT:
        raise RetentionRefused(f"A name of more than {_MAX_SUBJECT} characters cannot be held.")
    actor, reason = context.actor_now(), clean(reason)
    with transaction.atomic(using=using):
        take_turns(using)
        hold = LegalHold.objects.using(using).create(
            subject=subject,
            reason=reason,
            placed_at=datetime.now(UTC),
            placed_by=None if actor is None else actor.id,
        )
        _say(HELD, hold, reason, using)
    return hold


def lift(number: int, reason: str, using: str) -> LegalHold:
    """Lift a hold, on record. Raises RetentionRefused where there is none, or no reason."""
    if not reason.strip():
        raise RetentionRefused("To lift a legal hold needs a reason: who decided that, and why.")
    with transaction.atomic(using=using):
        hold = standing(using).select_for_update().filter(pk=number).first()
        if hold is None:
            raise RetentionRefused(f"There is no standing hold {number}: see `audit_log hold`.")
        hold.lifted_at = datetime.now(UTC)
        hold.save(using=using, update_fields=["lifted_at"])
        _say(RELEASED, hold, reason, using)
    return hold


def _say(action: str, hold: LegalHold, reason: str, using: str) -> None:
    target = Target(type=LegalHold._meta.label_lower, id=str(hold.pk))
    bookkeeping.say(action, {"subject": hold.subject}, using, target=target, reason=reason)
