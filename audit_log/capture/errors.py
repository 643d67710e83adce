"""By which exception a request became a 500: its type, never its words."""

from __future__ import annotations

import sys
from typing import Any, Final

from django.core.signals import got_request_exception

from audit_log import context
from audit_log.recording.values import safe_str

_UID: Final = "audit_log.errors"
_MAX_NAME: Final = 128


def install() -> None:
    """Connect to the signal that Django sends for an error nobody handled. Harmless if repeated."""
    got_request_exception.connect(_failed, dispatch_uid=_UID)


def uninstall() -> None:
    """Disconnect from it."""
    got_request_exception.disconnect(dispatch_uid=_UID)


def _failed(sender: Any, **_: Any) -> None:
    scope, error = context.current().scope, sys.exc_info()[0]
    if scope is not None and error is not None:
        scope.exception = safe_str(error.__qualname__)[:_MAX_NAME]  # type: ignore[attr-defined]
