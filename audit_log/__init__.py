"""An audit log for Django that loses nothing and can prove it was not altered.

The public names below are loaded when first used: importing the package imports no Django.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audit_log import testing
    from audit_log.capture.traces import correlation_headers
    from audit_log.capture.viewing import ViewedMixin, views_of
    from audit_log.capture.views import viewed
    from audit_log.reading.contents import contents
    from audit_log.reading.search import history, search
    from audit_log.recording.backfill import backfill
    from audit_log.recording.explicit import acting, record, suspended
    from audit_log.registry import audited, register, unregister
    from audit_log.schedule import beat_schedule

_HOMES = {
    "ViewedMixin": "audit_log.capture.viewing",
    "acting": "audit_log.recording.explicit",
    "audited": "audit_log.registry",
    "backfill": "audit_log.recording.backfill",
    "beat_schedule": "audit_log.schedule",
    "contents": "audit_log.reading.contents",
    "correlation_headers": "audit_log.capture.traces",
    "history": "audit_log.reading.search",
    "record": "audit_log.recording.explicit",
    "register": "audit_log.registry",
    "search": "audit_log.reading.search",
    "suspended": "audit_log.recording.explicit",
    "unregister": "audit_log.registry",
    "viewed": "audit_log.capture.views",
    "views_of": "audit_log.capture.viewing",
}

__all__ = [
    "ViewedMixin",
    "acting",
    "audited",
    "backfill",
    "beat_schedule",
    "contents",
    "correlation_headers",
    "history",
    "record",
    "register",
    "search",
    "suspended",
    "testing",
    "unregister",
    "viewed",
    "views_of",
]


def __getattr__(name: str) -> Any:
    if name == "testing":
        return import_module("audit_log.testing")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'audit_log' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
