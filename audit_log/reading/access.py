"""Looking at the log is itself recorded, in the bookkeeping stream."""

from __future__ import annotations

import threading
import time
from typing import Any, Final

from audit_log.context import actor_now
from audit_log.events import Target
from audit_log.models import Record
from audit_log.recording.explicit import record

_COLLAPSE_SECONDS: Final = 60.0
_MAX_REMEMBERED: Final = 1_000
_lock = threading.Lock()
_seen: dict[tuple[str | None, str], float] = {}


def note_viewed(what: str, **data: Any) -> None:
    """Somebody read a list or a record; once a minute for the same person and thing."""
    actor = actor_now()
    key = (None if actor is None else actor.id, what)
    now = time.monotonic()
    with _lock:
        if now - _seen.get(key, -_COLLAPSE_SECONDS) < _COLLAPSE_SECONDS:
            return
        if len(_seen) >= _MAX_REMEMBERED:
            _seen.clear()
        _seen[key] = now
    record("audit_log.viewed", data={"what": what, **data})


def note_revealed(row: Record, reason: str | None = None) -> None:
    """Somebody opened the sealed contents of a record; always recorded."""
    record(
        "audit_log.revealed",
        target=Target(type="audit_log.record", id=str(row.pk)),
        data={"stream": row.stream, "sequence": row.sequence},
        reason=reason,
    )
