"""From an event to the record that is stored: columns, sealed parts, blind indexes, entry.

All of it happens before the stream's head is locked; only the number and the moment are missing.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Any, Final

from django.db import models

from audit_log.events import JSON, Actor, Event, Redaction, Request, Target
from audit_log.ledger.entries import SALT_BYTES, EntryTemplate, canonical
from audit_log.models import Record
from audit_log.privacy import data_keys
from audit_log.privacy.addresses import network_of
from audit_log.privacy.detectors import scrub, scrub_value
from audit_log.privacy.encryption import blind_index, fingerprint, place_of, seal
from audit_log.recording.values import clean

PERSONS: Final = frozenset({"user", "admin"})
SEALED_COLUMNS: Final = ("sealed_actor", "sealed_data")
_MAX_REDACTIONS: Final = 64
_MAX_RULE: Final = 255
_DIGEST_CHARACTERS: Final = 64
_KEPT_OF_KEY: Final = 180  # as `recording.targets` cuts primary keys
_CUT: Final = "cut"
_WIDTHS: Final = {
    field.attname: field.max_length
    for field in Record._meta.concrete_fields
    if isinstance(field, models.CharField)
}
_LIMITS: Final = {"status": 2**15, "duration_ms": 2**31, "affected": 2**53, "emitter_seq": 2**53}


@dataclass(frozen=True, slots=True)
class Place:
    """Where records go: the stream, its length or a little less, and the database."""

    stream: str
    size: int
    using: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """A record without its number, and its entry without it."""

    event: Event
    record: Record
    entry: EntryTemplate


class _Scrubbed:
    """An event's values after the detectors, split into what stays open and what is sealed."""

    def __init__(self, event: Event) -> None:
        self.event = event
        self.marks: list[Redaction] = list(event.redactions)
        self._sealed = frozenset(event.sealed)
        self.open_changes, self.sealed_changes = self._split("changes", event.changes)
        self.open_data, self.sealed_data = self._split("data", event.data)

    def value(self, value: JSON, path: str, *, sealed: bool) -> JSON:
        """Secrets are masked everywhere, personal patterns only in what stays readable."""
        scrubbed, marks = scrub_value(value, path, personal=not sealed, fingerprint=fingerprint)
        self.marks += marks
        return scrubbed

    def text(self, text: str | None, path: str, *, sealed: bool = True) -> str | None:
        """The same for one text."""
        if not text:
            return None
        scrubbed, rules = scrub(text, personal=not sealed, fingerprint=fingerprint)
        self.marks += [Redaction(path, rule) for rule in rules]
        return scrubbed

    def cut(self, column: str, text: str | None, path: str) -> str | None:
        """As much of a text as its column takes, with a mark: no database does it for us."""
        text, width = self._clean(text, path), _WIDTHS[column]
        if text is None or width is None or len(text) <= width:
            return text
        self.marks.append(Redaction(path, _CUT))
        return text[:width]

    def key(self, column: str, text: str | None, path: str) -> str | None:
        """The same for what identifies: two long keys must not become one."""
        text, width = self._clean(text, path), _WIDTHS[column]
        if text is None or width is None or len(text) <= width:
            return text
        self.marks.append(Redaction(path, _CUT))
        kept = min(_KEPT_OF_KEY, width - _DIGEST_CHARACTERS - 1)
        digest = hashlib.sha256(text.encode()).hexdigest()[:width]
        return f"{text[:kept]}…{digest}" if kept > 0 else digest

    def _clean(self, text: str | None, path: str) -> str | None:
        if not text:
            return None
        result = clean(text)
        if result != text:
            self.marks.append(Redaction(path, "sanitised"))
        return result

    def number(self, column: str, number: int | None, path: str) -> int | None:
        """A number that its column can hold, else none, and a mark."""
        if number is None or -_LIMITS[column] <= number < _LIMITS[column]:
            return number
        self.marks.append(Redaction(path, "range"))
        return None

    def redactions(self) -> list[dict[str, str]] | None:
        """The marks as they are stored. The last one counts those there is no room for."""
        marks = sorted(set(self.marks))
        if len(marks) > _MAX_REDACTIONS:
            left_out = len(marks) - _MAX_REDACTIONS + 1
            marks[_MAX_REDACTIONS - 1 :] = [Redaction("redactions", f"{_CUT}:{left_out}")]
        return [
            {"path": mark.path[:_MAX_RULE], "rule": mark.rule[:_MAX_RULE]} for mark in marks
        ] or None

    def _split(
        self, name: str, values: dict[str, Any] | None
    ) -> tuple[dict[str, JSON], dict[str, JSON]]:
        open_: dict[str, JSON] = {}
        sealed: dict[str, JSON] = {}
        for key, value in (values or {}).items():
            path = f"{name}.{key}"
            hidden = path in self._sealed
            (sealed if hidden else open_)[key] = self.value(value, path, sealed=hidden)
        return open_, sealed


def prepare(event: Event, at: Place) -> Prepared:
    """The record of an event. May create data keys. Raises UnknownKey when a person was erased."""
    scrubbed = _Scrubbed(event)
    actor, request = event.actor or Actor(), event.request or Request()
    record = Record(
        id=event.id,
        version=event.version,
        stream=at.stream,
        **_envelope(scrubbed, actor, request),
        changed_fields=sorted(event.changes) if event.changes else None,
        changes=scrubbed.open_changes or None,
        data=scrubbed.open_data or None,
        salt=os.urandom(SALT_BYTES),
        actor_token=blind_index("actor", actor.label),
        ip_token=blind_index("ip", request.ip),
        net_token=blind_index("net", network_of(request.ip) if request.ip else None),
        agent_token=blind_index("agent", request.user_agent),
    )
    _seal(record, event, "sealed_actor", _actor_part(scrubbed, actor, request), at)
    _seal(record, event, "sealed_data", _data_part(scrubbed), at)
    record.redactions = scrubbed.redactions()
    return Prepared(event, record, EntryTemplate(record.__dict__))


def _envelope(scrubbed: _Scrubbed, actor: Actor, request: Request) -> dict[str, Any]:
    event = scrubbed.event
    target = event.target or Target(type="")
    cut, key, number = scrubbed.cut, scrubbed.key, scrubbed.number
    actor_id = scrubbed.text(actor.id, "actor.id", sealed=False)
    path = scrubbed.text(request.path, "request.path", sealed=False)
    return {
        "occurred_at": event.occurred_at,
        "service": cut("service", event.service, "service"),
        "emitter": key("emitter", event.emitter, "emitter"),
        "emitter_seq": number("emitter_seq", event.emitter_seq, "emitter_seq"),
        "action": cut("action", event.action, "action"),
        "outcome": cut("outcome", event.outcome, "outcome"),
        "actor_type": cut("actor_type", actor.type, "actor.type"),
        "actor_id": key("actor_id", actor_id, "actor.id"),
        "actor_via": key("actor_via", actor.via, "actor.via"),
        "session_token": key("session_token", request.session, "request.session"),
        "target_type": cut("target_type", target.type, "target.type"),
        "target_id": key("target_id", target.id, "target.id"),
        "tenant": key("tenant", event.tenant, "tenant"),
        "request_id": key("request_id", request.id, "request.id"),
        "trace_id": key("trace_id", event.trace_id, "trace_id"),
        "parent_id": key("parent_id", event.parent_id, "parent_id"),
        "source": cut("source", event.source, "source"),
        "method": cut("method", request.method, "request.method"),
        "route": cut("route", request.route, "request.route"),
        "path": cut("path", path, "request.path"),
        "status": number("status", request.status, "request.status"),
        "duration_ms": number("duration_ms", request.duration_ms, "request.duration_ms"),
        "affected": number("affected", event.affected, "affected"),
    }


def _actor_part(scrubbed: _Scrubbed, actor: Actor, request: Request) -> dict[str, JSON]:
    """What the actor said and sent."""
    part = {
        "label": scrubbed.text(actor.label, "actor.label"),
        "email": actor.email,
        "ip": request.ip,
        "user_agent": scrubbed.text(request.user_agent, "request.user_agent"),
        "query": scrubbed.text(request.query, "request.query"),
        "body": scrubbed.value(request.body, "request.body", sealed=True),
        "reason": scrubbed.text(scrubbed.event.reason, "reason"),
    }
    return {name: value for name, value in part.items() if value is not None}


def _data_part(scrubbed: _Scrubbed) -> dict[str, JSON]:
    """What it was about."""
    event = scrubbed.event
    labels = {
        name: [scrubbed.text(label, f"labels.{name}") for label in pair]
        for name, pair in (event.labels or {}).items()
    }
    target = event.target
    part: dict[str, JSON] = {
        "target_label": scrubbed.text(target.label if target else None, "target.label"),
        "changes": scrubbed.sealed_changes,
        "labels": labels,
        "data": scrubbed.sealed_data,
    }
    return {name: value for name, value in part.items() if value}


def scope_of(event: Event, column: str, stream: str) -> str:
    """Whose key seals a column: the actor's or the subject's, else the stream's of the month."""
    actor = event.actor
    if column == "sealed_data" and event.subject:
        return data_keys.subject_scope(event.subject)
    if column == "sealed_actor" and actor is not None and actor.id and actor.type in PERSONS:
        return data_keys.subject_scope(f"user:{actor.id}")
    return data_keys.stream_scope(stream, event.occurred_at)


def _seal(record: Record, event: Event, column: str, part: dict[str, JSON], at: Place) -> None:
    if not part:
        return
    key = data_keys.key_for(scope_of(event, column, record.stream), at.using, at.size)
    plaintext = canonical(part)
    setattr(record, column, seal(key.id, key.cipher, plaintext, place_of(record.pk, column)))
