"""The open columns of a record, made to fit: no database cuts or refuses anything for us."""

from __future__ import annotations

import hashlib
from typing import Any, Final

from django.db import models

from audit_log.events import Actor, Event, Redaction, Request, Target
from audit_log.ledger.scrubbing import Contents
from audit_log.models import Record
from audit_log.recording.values import clean

_MAX_REDACTIONS: Final = 64
_MAX_RULE: Final = 255
_DIGEST_CHARACTERS: Final = 64
_KEPT_OF_KEY: Final = 180  # as `recording.targets` cuts primary keys
_CUT: Final = "cut"
_NOBODY: Final = Actor()
_NO_TARGET: Final = Target(type="")
_NO_REQUEST: Final = Request()

# What is too long is cut; what identifies is cut so that two never become one.
_KEYS: Final = frozenset(
    {"emitter", "actor_id", "actor_via", "session_token", "target_id", "tenant"}
    | {"request_id", "trace_id", "parent_id"}
)
_PATHS: Final = {  # where in the event, for the marks
    **{name: name for name in ("service", "emitter", "action", "outcome", "source", "tenant")},
    **{name: name for name in ("trace_id", "parent_id")},
    **{f"actor_{name}": f"actor.{name}" for name in ("type", "id", "via")},
    **{f"target_{name}": f"target.{name}" for name in ("type", "id")},
    **{name: f"request.{name}" for name in ("method", "route", "path")},
    "request_id": "request.id",
    "session_token": "request.session",
}
_WIDTHS: Final = tuple(
    (field.attname, field.max_length or 0)
    for field in Record._meta.concrete_fields
    if isinstance(field, models.CharField) and field.attname in _PATHS
)
_LIMITS: Final = {
    "status": ("request.status", 2**15),
    "duration_ms": ("request.duration_ms", 2**31),
    "affected": ("affected", 2**53),
    "emitter_seq": ("emitter_seq", 2**53),
}


def envelope(event: Event, contents: Contents) -> dict[str, Any]:
    """The open columns by name, but for `changes` and `data`. Adds its marks to the contents'."""
    columns = _columns(event, contents)
    for column, width in _WIDTHS:
        text = columns[column]
        if not text:
            columns[column] = None
        elif len(text) > width or not text.isascii() or "\0" in text:  # few are
            columns[column] = _fitting(column, text, width, contents.marks)
    for column, (path, limit) in _LIMITS.items():
        number = columns[column]
        if number is not None and not -limit <= number < limit:
            columns[column] = None
            contents.marks.append(Redaction(path, "range"))
    return columns


def _columns(event: Event, contents: Contents) -> dict[str, Any]:
    actor = event.actor or _NOBODY
    target = event.target or _NO_TARGET
    request = event.request or _NO_REQUEST
    return {
        "occurred_at": event.occurred_at,
        "service": event.service,
        "emitter": event.emitter,
        "emitter_seq": event.emitter_seq,
        "action": event.action,
        "outcome": event.outcome,
        "actor_type": actor.type,
        "actor_id": contents.actor_id,
        "actor_via": contents.actor_via,
        "session_token": request.session,
        "target_type": target.type,
        "target_id": target.id,
        "tenant": contents.tenant,
        "request_id": request.id,
        "trace_id": event.trace_id,
        "parent_id": event.parent_id,
        "source": event.source,
        "method": request.method,
        "route": request.route,
        "path": contents.path,
        "status": request.status,
        "duration_ms": request.duration_ms,
        "affected": event.affected,
    }


def _fitting(column: str, text: str, width: int, marks: list[Redaction]) -> str:
    """As much of a text as its column takes, with a mark."""
    path = _PATHS[column]
    cleaned = clean(text)
    if cleaned != text:
        marks.append(Redaction(path, "sanitised"))
    if len(cleaned) <= width:
        return cleaned
    marks.append(Redaction(path, _CUT))
    return _shortened(cleaned, width) if column in _KEYS else cleaned[:width]


def _shortened(key: str, width: int) -> str:
    kept = min(_KEPT_OF_KEY, width - _DIGEST_CHARACTERS - 1)
    digest = hashlib.sha256(key.encode()).hexdigest()[:width]
    return f"{key[:kept]}…{digest}" if kept > 0 else digest


def redactions(marks: list[Redaction]) -> list[dict[str, str]] | None:
    """The marks as they are stored. The last one counts those there is no room for."""
    if not marks:
        return None
    kept = sorted(set(marks))
    if len(kept) > _MAX_REDACTIONS:
        left_out = len(kept) - _MAX_REDACTIONS + 1
        kept[_MAX_REDACTIONS - 1 :] = [Redaction("redactions", f"{_CUT}:{left_out}")]
    return [{"path": mark.path[:_MAX_RULE], "rule": mark.rule[:_MAX_RULE]} for mark in kept]
