"""The project's own code."""

from __future__ import annotations

from audit_log import signals
from audit_log.models import Alert
from audit_log.recording import losses


def send(alert: Alert) -> None:
    """Send `alert_fired`. A receiver that raises is logged: asking all again would help nobody."""
    for receiver, error in signals.alert_fired.send_robust(sender=None, alert=alert):
        if isinstance(error, Exception):
            losses.warn("receiver_failed", "A receiver of `alert_fired` failed: %r.", receiver)
