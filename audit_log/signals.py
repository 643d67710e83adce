"""The Django signals this app sends. A receiver that raises is logged, never felt by the caller."""

from __future__ import annotations

from typing import Final

from django.dispatch import Signal

captured: Final = Signal()
"""An event was captured; its transaction may still roll back. Arguments: `event`, `using`."""

failed: Final = Signal()
"""Something went wrong. Arguments: `reason`, a word `audit_log status` counts by, and `error`."""

parked: Final = Signal()
"""A batch was set aside. Arguments: `outbox_id`, `reason`."""

alert_fired: Final = Signal()
"""A rule of ALERTS reached its threshold. Sent at least once. Argument: `alert`, an Alert."""

tampering_found: Final = Signal()
"""Verification found altered records. Arguments: `findings`, a list of Finding."""
