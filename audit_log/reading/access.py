"""Looking at the log is itself recorded, in the bookkeeping stream."""

from __future__ import annotations

import time
from typing import Any, Final

from audit_log import conf
from audit_log.context import actor_now
from audit_log.events import Target
from audit_log.ledger.heads import BOOKKEEPING
from audit_log.models import Record
from audit_log.privacy.redaction import redact_query
from audit_log.recording.explicit import record

_COLLAPSE_SECONDS: Final = 60.0
_MAX_REMEMBERED: Final = 1_000
_MAX_QUERY: Final = 2_048
_VIEWED: Final = "audit_log.viewed"
_DENIED: Final = "denied"
# No lock: two threads at once record the same look twice at worst.
_seen: dict[tuple[str | None, str, str | None, str | None], float] = {}


@conf.on_change
def forget() -> None:
    """Collapse nothing that was seen before now."""
    _seen.clear()


def note_viewed(
    what: str,
    *,
    row: Record | None = None,
    query: str | None = None,
    results: int | None = None,
    stream: str | None = None,
) -> None:
    """Somebody read a list, a history or (`row`) one record; `stream`, if it was of one only.

    Once a minute for the same person, thing and query: a reload says nothing new, another search
    does. Reading what was read is not recorded again, else who follows the log would fill it.
    """
    if stream == BOOKKEEPING or (row is not None and row.action == _VIEWED):
        return
    if _is_news(what, None if row is None else str(row.pk), query):
        said: dict[str, Any] = {"what": what, "query": query or None, "results": results}
        record(
            _VIEWED,
            target=None if row is None else _target(row),
            data={name: value for name, value in said.items() if value is not None},
        )


def note_denied(what: str, query: str | None = None) -> None:
    """Somebody asked for what they may not see: once a minute for the same person and thing.

    Whatever they ask: who varies the question may not fill the log.
    """
    if _is_news(_DENIED, what, None):
        said = {"what": what}
        if query:
            # Nobody has looked at it yet: it may hold anything.
            said["query"], _ = redact_query(query[:_MAX_QUERY], **conf.get_settings().key_names)
        record(_VIEWED, data=said, outcome=_DENIED)


def _is_news(what: str, which: str | None, query: str | None) -> bool:
    if not conf.get_settings().enabled:
        return False
    actor = actor_now()
    key = (None if actor is None else actor.id, what, which, query)
    now = time.monotonic()
    if now - _seen.get(key, -_COLLAPSE_SECONDS) < _COLLAPSE_SECONDS:
        return False
    if len(_seen) >= _MAX_REMEMBERED:
        _seen.clear()
    _seen[key] = now
    return True


def note_revealed(row: Record, reason: str | None = None) -> None:
    """Somebody opens the sealed contents of a record: always recorded, before they are shown."""
    record(
        "audit_log.revealed",
        target=_target(row),
        data={"stream": row.stream, "sequence": row.sequence},
        reason=reason,
    )


def _target(row: Record) -> Target:
    return Target(type=Record._meta.label_lower, id=str(row.pk))
