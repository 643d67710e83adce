"""Ways to tell people of an alert: each a function that returns when it is told, or raises."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from audit_log.alerts.channels import email, log, signal
from audit_log.models import Alert

CHANNELS: Final[Mapping[str, Callable[[Alert], None]]] = {
    "log": log.send,
    "signal": signal.send,
    "email": email.send,  # the slow one is the last
}
