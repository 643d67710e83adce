"""Telling people of alerts, until each channel has taken each alert.

At least once: a kill between sending and noting that it was sent repeats it. Who sends holds a
lease on the alert, not a lock: no transaction is open while a mail server is spoken to.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db import transaction

from audit_log.alerts.channels import CHANNELS
from audit_log.alerts.wording import one_line
from audit_log.models import Alert
from audit_log.privacy.words import words_of
from audit_log.recording import losses
from audit_log.router import ledger_alias

logger = logging.getLogger("audit_log")

_LEASE: Final = timedelta(minutes=5)  # longer than all channels take, with their timeouts
_FIRST_PAUSE: Final = timedelta(minutes=1)
_MAX_PAUSE: Final = timedelta(hours=1)
_GIVE_UP: Final = timedelta(days=4)  # as mail servers do (RFC 5321, 4.5.4.1)
_AT_ONCE: Final = 100
_MAX_ERROR: Final = 200


def notify(using: str | None = None) -> int:
    """Tell of every alert that is due, a hundred at most. How many deliveries succeeded.

    One query where none is due. A channel that fails is left alone for the rest of the call.
    """
    using = using or ledger_alias()
    due = Alert.objects.using(using).filter(due_at__lte=datetime.now(UTC))
    failing: set[str] = set()
    sent = 0
    for alert in due.order_by("due_at", "pk")[:_AT_ONCE]:
        if _claim(alert, using):
            sent += _tell(alert, failing, using)
    return sent


def _claim(alert: Alert, using: str) -> bool:
    """Whether it is ours to tell: another worker may have been faster."""
    lease = datetime.now(UTC) + _LEASE
    mine = Alert.objects.using(using).filter(pk=alert.pk, due_at=alert.due_at)
    return bool(mine.update(due_at=lease))


def _tell(alert: Alert, failing: set[str], using: str) -> int:
    sent = failed = 0
    for name in _open(alert):
        if name in failing:
            continue
        attempts = alert.channels[name].get("attempts", 0) + 1
        try:
            CHANNELS[name](alert)
        except Exception as error:  # noqa: BLE001 - mail backends raise anything
            failing.add(name)
            failed += 1
            losses.warn("alert_not_delivered", "Channel %r did not take an alert.", name)
            _note(alert, name, {"attempts": attempts, **_failure(alert, error)}, using)
        else:
            sent += 1
            _note(alert, name, {"attempts": attempts, "sent_at": _now_text()}, using)
    _release(alert, failed, using)
    return sent


def _open(alert: Alert) -> list[str]:
    """The channels that have not taken it, in the order they are asked."""
    return [
        name
        for name in CHANNELS
        if name in alert.channels and not {"sent_at", "given_up_at"} & alert.channels[name].keys()
    ]


def _failure(alert: Alert, error: Exception) -> dict[str, str]:
    said = {"error": one_line(words_of(error, _MAX_ERROR))[:_MAX_ERROR]}
    if datetime.now(UTC) - alert.fired_at > _GIVE_UP:
        said["given_up_at"] = _now_text()
        losses.count("alerts_given_up")
        logger.error("Alert %s could not be delivered in four days: %s", alert.pk, said["error"])
    return said


def _now_text() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _note(alert: Alert, name: str, state: dict[str, Any], using: str) -> None:
    """Store at once what became of one channel. Others may have noted theirs meanwhile."""
    with transaction.atomic(using=using):
        row = Alert.objects.using(using).select_for_update().get(pk=alert.pk)
        row.channels[name] = state
        row.save(using=using, update_fields=["channels"])
    alert.channels = row.channels


def _release(alert: Alert, failed: int, using: str) -> None:
    """Say when the alert is due again, if anything is left to do."""
    alert.attempts += bool(failed)
    alert.due_at = datetime.now(UTC) + _pause(alert.attempts) if _open(alert) else None
    alert.save(using=using, update_fields=["attempts", "due_at"])


def _pause(attempts: int) -> timedelta:
    doublings = min(max(attempts - 1, 0), 10)  # far beyond the longest pause
    return min(_FIRST_PAUSE * (1 << doublings), _MAX_PAUSE)
