"""From what a trigger wrote to events, by the same plans that our own hooks follow.

Values are made into what Python would have loaded, and from there take the way of all others: so a
record does not show who captured it. No row of the project is looked at.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, Final

import msgspec
from django.apps import apps
from django.db import models

from audit_log.capture.changes import Changes
from audit_log.capture.plans import Plan, by_triggers, full_plan_of
from audit_log.capture.triggers import columns, surroundings
from audit_log.capture.triggers.surroundings import Surroundings
from audit_log.capture.triggers.watched import member_field
from audit_log.conf import get_settings
from audit_log.events import VERSION, Actor, Event, Redaction, Target, encode_event, id_from
from audit_log.exceptions import DecryptionError, EncodingError, UnknownVersion
from audit_log.models.outbox import Form
from audit_log.privacy.encryption import fingerprint
from audit_log.recording import forms
from audit_log.recording.forms import Waiting
from audit_log.recording.targets import target_id, target_type
from audit_log.recording.values import MAX_EVENT_BYTES, clean, encode_bounded

_VERSION: Final = 1
_ACTIONS: Final = {"insert": "create", "update": "update", "delete": "delete"}
_MAX_TEXT: Final = 255


class _Written(msgspec.Struct):
    """What a trigger wrote. A row is `[key, values]`, with the old key behind where it changed."""

    v: int
    model: str
    op: str
    role: str
    rows: list[list[dict[str, msgspec.Raw]]]
    context: str | None = None
    began: float = 0.0
    application: str | None = None
    address: str | None = None


_decoder = msgspec.json.Decoder(_Written)
_event_decoder = msgspec.json.Decoder(Event)


def register() -> None:
    """Be the one who reads rows of this form."""
    forms.register(Form.ROWS, events_of)


def events_of(row: Waiting, using: str) -> list[Event]:
    """The events of a row of the outbox. Raises AuditLogError for what is not a trigger's doing."""
    written = _decoded(bytes(row.payload))
    model = _model(written.model)
    told = _Told(written)
    if told.suspended:
        return []
    values = told.values()
    found = (
        _of_members(model, written) if model._meta.auto_created else _of_rows(model, written, using)
    )
    seed = f"{get_settings().service}\0{using}\0{row.id}\0{row.created_at.isoformat()}"
    return [
        _bounded(
            Event(
                version=VERSION,
                id=_id(row.created_at, seed, n),
                occurred_at=row.created_at,
                source="trigger",
                **_together(values, each),
            )
        )
        for n, each in enumerate(found)
    ]


def _decoded(payload: bytes) -> _Written:
    try:
        written = _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EncodingError(f"Not what a trigger writes: {error}") from error
    if written.v > _VERSION:
        raise UnknownVersion(f"A trigger wrote version {written.v}. Upgrade the relay.")
    return written


def _model(label: str) -> type[models.Model]:
    app, _, name = label.partition(".")
    try:
        model = apps.get_model(app, name)
    except LookupError as error:
        raise EncodingError(f"A trigger names {label}, which is no model here.") from error
    owner: Any = model._meta.auto_created or model
    if not by_triggers(owner):
        raise EncodingError(
            f'A trigger of {label} wrote this, but its capture is not "triggers" here.'
        )
    return model


def _id(moment: datetime, seed: str, number: int) -> uuid.UUID:
    """The id of one of the events of a row: the same each time, increasing, of that moment.

    Not made in SQL, where it would cost as much as the rest; nobody without our key can guess it.
    """
    digest = bytes.fromhex(fingerprint("trigger-event", seed, 64))
    return id_from(moment, int.from_bytes(digest[:8]) >> 1, number)


def _bounded(event: Event) -> Event:
    if len(encode_event(event)) <= MAX_EVENT_BYTES:
        return event
    return _event_decoder.decode(encode_bounded(event))


class _Told:
    """Who acted: what this app said about the transaction, or the role that was logged in."""

    def __init__(self, written: _Written) -> None:
        self._written = written
        self._marks: tuple[Redaction, ...] = ()
        self._said = self._opened()

    @property
    def suspended(self) -> bool:
        return self._said is not None and self._said.suspended

    def _opened(self) -> Surroundings | None:
        text = self._written.context
        if not text:
            return None
        try:
            said = surroundings.opened(text)
        except (DecryptionError, EncodingError):
            self._marks = (Redaction("actor", "context:unreadable"),)
            return None
        if not said.holds_for(self._written.began):
            self._marks = (Redaction("actor", "context:copied"),)
            return None
        return said

    def values(self) -> dict[str, Any]:
        """As fields of Event; `redactions` are to be added to."""
        said = self._said
        if said is None:
            return {
                "actor": self._role(),
                "service": get_settings().service,
                "redactions": self._marks,
                **self._client(),
            }
        return {
            "actor": said.actor,
            "request": said.request,
            "tenant": said.tenant,
            "reason": said.reason,
            "trace_id": said.trace_id,
            "parent_id": said.parent_id,
            "service": said.service,
            "emitter": said.emitter,
        }

    def _role(self) -> Actor:
        role = clean(self._written.role)[:_MAX_TEXT]
        return Actor(type="service", id=f"database:{role}"[:_MAX_TEXT], label=role)

    def _client(self) -> dict[str, Any]:
        """What the connection said of itself: anybody may say anything there, so it is sealed."""
        parts = {"application": self._written.application, "address": self._written.address}
        data = {name: clean(text)[:_MAX_TEXT] for name, text in parts.items() if text}
        if not data:
            return {}
        return {"data": data, "sealed": tuple(f"data.{name}" for name in data)}


def _together(values: Mapping[str, Any], event: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an event: what is said of all of them, and of this one."""
    both = {**values, **event}
    if values.get("data"):
        both["data"] = {**(event.get("data") or {}), **values["data"]}
    for name in ("redactions", "sealed"):
        both[name] = (*event.get(name, ()), *values.get(name, ()))
    return both


def _of_rows(
    model: type[models.Model], written: _Written, using: str
) -> Iterator[dict[str, Any]]:
    plan = full_plan_of(model)
    if plan is None:
        raise EncodingError(f"{written.model} is not audited.")
    if written.op == "truncate":
        yield {"action": "delete", "target": Target(type=plan.type), "data": {"truncated": True}}
        return
    for row in written.rows:
        event = _Row(plan, written.op, row, using).event()
        if event is not None:
            yield event


class _Row:
    """One row that was written."""

    def __init__(
        self, plan: Plan, operation: str, row: Sequence[Mapping[str, Any]], using: str
    ) -> None:
        self.plan = plan
        self.operation = operation
        self.key, self.values = row[0], row[1]
        self.old_key = row[2] if len(row) > 2 else None  # noqa: PLR2004 - where it was another
        self.using = using

    def event(self) -> dict[str, Any] | None:
        """The fields of its event; None where nothing that tells anything has changed."""
        found, telling = self._changes()
        data = None
        key = self._id(self.key)
        if self.old_key is not None and (before := self._id(self.old_key)) != key:
            data, key = {"key": [before, key]}, before
        if self.operation == "update" and not telling and data is None:
            return None
        return {
            "action": _ACTIONS[self.operation],
            "target": Target(type=self.plan.type, id=key),
            "changes": found.values or None,
            "labels": found.labels or None,
            "redactions": tuple(found.redactions),
            "sealed": tuple(found.sealed),
            "subject": self._subject(),
            "data": data,
        }

    def _changes(self) -> tuple[Changes, bool]:
        found, telling = Changes(), False
        for item in self.plan.fields:
            raw = self.values.get(item.field.column)
            if raw is None:
                continue
            sides = columns.sides(bytes(raw), self.operation)
            old, new = (columns.loaded(item.field, side, self.using) for side in sides)
            if columns.add(found, item, old, new):
                telling = telling or not item.incidental
        if self.operation == "update" and not telling:
            found = Changes()
        return found, telling

    def _id(self, key: Mapping[str, Any]) -> str | None:
        fields = self.plan.model._meta.pk_fields
        values = [self._python(field, key) for field in fields]
        return self.plan.target_id(values[0] if len(values) == 1 else tuple(values))

    def _python(self, field: models.Field[Any, Any], key: Mapping[str, Any]) -> Any:
        raw = key.get(field.column)
        return None if raw is None else columns.loaded(field, bytes(raw), self.using)

    def _subject(self) -> str | None:
        if self.plan.options.subject is None:
            return None
        # Not through the model's own __init__, which may do anything.
        instance = object.__new__(self.plan.model)
        for field in self.plan.model._meta.local_concrete_fields:
            if field.column in self.key:
                instance.__dict__[field.attname] = self._python(field, self.key)
        return self.plan.subject_of(instance)


def _of_members(through: type[models.Model], written: _Written) -> Iterator[dict[str, Any]]:
    """As `capture.memberships` has them, but for how the members are called."""
    field = member_field(through)
    about = {"field": field.name, "type": target_type(field.remote_field.model)}
    kind = target_type(field.model)
    if written.op == "truncate":
        yield {
            "action": "m2m.clear",
            "target": Target(type=kind),
            "data": {**about, "truncated": True},
        }
        return
    if written.op != "insert":
        gone = [row[2] if len(row) > 2 else row[0] for row in written.rows]  # noqa: PLR2004
        yield from _memberships("m2m.remove", field, about, gone)
    if written.op != "delete":
        yield from _memberships("m2m.add", field, about, [row[0] for row in written.rows])


def _memberships(
    action: str, field: Any, about: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    owner, member = field.m2m_column_name(), field.m2m_reverse_name()
    pairs = [(json.loads(bytes(row[owner])), json.loads(bytes(row[member]))) for row in rows]
    ordered = sorted(pairs, key=lambda pair: hashlib.sha256(repr(pair[0]).encode()).digest())
    for key, some in groupby(ordered, key=lambda pair: pair[0]):
        ids = [target_id(field.remote_field.model, each) for _, each in some]
        yield {
            "action": action,
            "target": Target(type=target_type(field.model), id=target_id(field.model, key)),
            "affected": len(ids),
            "data": {**about, "ids": ids, "labels": []},
            "sealed": ("data.labels",),
        }
