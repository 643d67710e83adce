"""From an event to the record that is stored: columns, sealed parts, blind indexes, entry.

All of it happens before the stream's head is locked; only the number and the moment are missing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Final

from audit_log.events import JSON, Actor, Event, Redaction, Request
from audit_log.ledger.entries import SALT_BYTES, EntryTemplate, canonical
from audit_log.models import Record
from audit_log.privacy import data_keys
from audit_log.privacy.addresses import network_of
from audit_log.privacy.detectors import scrub, scrub_value
from audit_log.privacy.encryption import blind_index, fingerprint, place_of, seal

PERSONS: Final = frozenset({"user", "admin"})
_MAX_REDACTIONS: Final = 64


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
        clean, marks = scrub_value(value, path, personal=not sealed, fingerprint=fingerprint)
        self.marks += marks
        return clean

    def text(self, text: str | None, path: str, *, sealed: bool = True) -> str | None:
        """The same for one text."""
        if not text:
            return None
        clean, rules = scrub(text, personal=not sealed, fingerprint=fingerprint)
        self.marks += [Redaction(path, rule) for rule in rules]
        return clean

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
    marks = sorted(set(scrubbed.marks))
    record.redactions = [
        {"path": mark.path[:255], "rule": mark.rule[:255]} for mark in marks[:_MAX_REDACTIONS]
    ] or None
    return Prepared(event, record, EntryTemplate(record.__dict__))


def _envelope(scrubbed: _Scrubbed, actor: Actor, request: Request) -> dict[str, Any]:
    event = scrubbed.event
    target = event.target
    return {
        "occurred_at": event.occurred_at,
        "service": _cut(event.service, 64),
        "emitter": event.emitter,
        "emitter_seq": event.emitter_seq,
        "action": event.action[:128],
        "outcome": event.outcome[:16],
        "actor_type": actor.type[:16],
        "actor_id": _cut(scrubbed.text(actor.id, "actor.id", sealed=False), 255),
        "actor_via": _cut(actor.via, 255),
        "session_token": _cut(request.session, 32),
        "target_type": _cut(target.type if target else None, 128),
        "target_id": _cut(target.id if target else None, 255),
        "tenant": _cut(event.tenant, 64),
        "request_id": _cut(request.id, 128),
        "trace_id": _cut(event.trace_id, 64),
        "parent_id": _cut(event.parent_id, 64),
        "source": event.source[:16],
        "method": _cut(request.method, 16),
        "route": _cut(request.route, 200),
        "path": _cut(scrubbed.text(request.path, "request.path", sealed=False), 2048),
        "status": request.status,
        "duration_ms": request.duration_ms,
        "affected": event.affected,
    }


def _cut(text: str | None, length: int) -> str | None:
    return text[:length] if text else None


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
