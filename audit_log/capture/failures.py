"""What happens when capture itself fails: the caller's write goes on, or it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from audit_log.conf import get_settings
from audit_log.exceptions import RecordingFailed
from audit_log.recording import losses


def guarded(reason: str, call: Callable[..., object], **arguments: Any) -> None:
    """Call. With `ON_FAILURE="allow"` an error is counted and logged, else it is raised."""
    try:
        call(**arguments)
    except Exception as error:
        if get_settings().on_failure == "block":
            raise RecordingFailed(f"An event could not be captured: {error}") from error
        losses.warn(reason, "An event could not be captured (%s).", reason)
