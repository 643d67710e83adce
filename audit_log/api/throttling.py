"""How often one user may ask. The project's DEFAULT_THROTTLE_RATES may say otherwise by scope."""

from __future__ import annotations

from typing import Final

from rest_framework.settings import api_settings
from rest_framework.throttling import ScopedRateThrottle

READING: Final = "audit_log"
OPENING: Final = "audit_log_contents"
COUNTING: Final = "audit_log_statistics"
RATES: Final[dict[str, str | None]] = {READING: "600/min", OPENING: "60/min", COUNTING: "60/min"}


class Throttle(ScopedRateThrottle):
    """The rate of the view's scope; None in DEFAULT_THROTTLE_RATES is no limit."""

    def get_rate(self) -> str | None:
        """Read when it is needed: a project's test may override its settings."""
        scope = str(self.scope)
        rate = api_settings.DEFAULT_THROTTLE_RATES.get(scope, RATES[scope])
        return None if rate is None else str(rate)
