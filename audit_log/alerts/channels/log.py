"""One line in the project's own log."""

from __future__ import annotations

import logging

from audit_log.alerts.wording import details, headline
from audit_log.conf import get_settings
from audit_log.models import Alert

logger = logging.getLogger("audit_log.alerts")


def send(alert: Alert) -> None:
    """A warning; nothing of it was sealed, and nothing of it breaks the line."""
    service = get_settings().service
    logger.warning("[%s] Alert %s: %s, %s.", service, alert.pk, headline(alert), details(alert))
