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
from typing import Any, Final, NamedTuple

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
_NULL: Final = b"null"
_UNCHANGED: Final = (_NULL, _NULL)


class _Written(msgspec.Struct):
    """What a trigger wrote. A row is the values of `key` and of `extra`, then those of `columns`.

    Of an update, the old key where it was another stands before these, and each of them is two.
    """

    v: int
    model: str
    op: str
    role: str
    rows: list[list[msgspec.Raw]]
    key: list[str]
    extra: list[str] = []
    columns: list[str] = []
    context: str | None = None
    began: float = 0.0
    application: str | None = None


class _Values(NamedTuple):
    """One row, by the names of columns. `old_key` is None where it is the same."""

    key: dict[str, bytes]
    changes: dict[str, tuple[bytes, bytes]]
    old_key: dict[str, bytes] | None


_decoder = msgspec.json.Decoder(_Written)
_row_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_event_decoder = msgspec.json.Decoder(Event)


def register() -> None:
    """Be the one who reads rows of this form."""
    forms.register(Form.ROWS, events_of)


def events_of(row: Waiting, using: str) -> list[Event]:
    """The events of a row of the outbox. Raises AuditLogError for what is not a trigger's doing."""
    moment = row.created_at
    if moment is None:
        raise EncodingError("A row of a trigger's has no time.")
    written = _decoded(bytes(row.payload))
    model = _model(written.model)
    told = _Told(written)
    if told.suspended:
        return []
    values = told.values()
    found = (
        _of_members(model, written) if model._meta.auto_created else _of_rows(model, written, using)
    )
    seed = f"{get_settings().service}\0{using}\0{row.id}\0{moment.isoformat()}"
    return [
        _bounded(
            Event(
                version=VERSION,
                id=_id(moment, seed, n),
                occurred_at=moment,
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
        if not self._written.application:
            return {}
        data = {"application": clean(self._written.application)[:_MAX_TEXT]}
        return {"data": data, "sealed": ("data.application",)}


def _together(values: Mapping[str, Any], event: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an event: what is said of all of them, and of this one."""
    both = {**values, **event}
    if values.get("data"):
        both["data"] = {**(event.get("data") or {}), **values["data"]}
    for name in ("redactions", "sealed"):
        both[name] = (*event.get(name, ()), *values.get(name, ()))
    return both


def _values(written: _Written) -> Iterator[_Values]:
    keys, names = written.key, written.columns
    for raw in written.rows:
        row = list(map(bytes, raw))
        if len(row) != _width(written):  # more than a function takes: an array of arrays
            row = [bytes(each) for part in row for each in _row_decoder.decode(part)]
        if len(row) != _width(written):
            raise EncodingError(f"A trigger of {written.model} wrote a row of another width.")
        key = dict(zip((*keys, *written.extra), row, strict=False))
        rest = row[len(key) :]
        if written.op == "insert":
            yield _Values(key, {n: (_NULL, v) for n, v in zip(names, rest, strict=True)}, None)
        elif written.op == "delete":
            yield _Values(key, {n: (v, _NULL) for n, v in zip(names, rest, strict=True)}, None)
        else:
            old = {n: v for n, v in zip(keys, rest, strict=False) if v != _NULL}
            pairs = zip(rest[len(keys) :: 2], rest[len(keys) + 1 :: 2], strict=True)
            changes = dict(zip(names, pairs, strict=True))
            yield _Values(key, changes, {**key, **old} if old else None)


def _width(written: _Written) -> int:
    width = len(written.key) + len(written.extra) + len(written.columns)
    if written.op == "update":
        return width + len(written.key) + len(written.columns)
    return width


def _of_rows(model: type[models.Model], written: _Written, using: str) -> Iterator[dict[str, Any]]:
    plan = full_plan_of(model)
    if plan is None:
        raise EncodingError(f"{written.model} is not audited.")
    if written.op == "truncate":
        yield {"action": "delete", "target": Target(type=plan.type), "data": {"truncated": True}}
        return
    for row in _values(written):
        event = _Row(plan, written.op, row, using).event()
        if event is not None:
            yield event


class _Row:
    """One row that was written."""

    def __init__(self, plan: Plan, operation: str, row: _Values, using: str) -> None:
        self.plan = plan
        self.operation = operation
        self.row = row
        self.using = using

    def event(self) -> dict[str, Any] | None:
        """The fields of its event; None where nothing that tells anything has changed."""
        found, telling = self._changes()
        data = None
        key, old_key = self._id(self.row.key), self.row.old_key
        if old_key is not None and (before := self._id(old_key)) != key:
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
            sides = self.row.changes.get(str(item.field.column), _UNCHANGED)
            if sides == _UNCHANGED:
                continue
            old, new = (columns.loaded(item.field, side, self.using) for side in sides)
            if columns.add(found, item, old, new):
                telling = telling or not item.incidental
        if self.operation == "update" and not telling:
            found = Changes()
        return found, telling

    def _id(self, key: Mapping[str, bytes]) -> str | None:
        fields = self.plan.model._meta.pk_fields
        values = [self._python(field, key) for field in fields]
        return self.plan.target_id(values[0] if len(values) == 1 else tuple(values))

    def _python(self, field: models.Field[Any, Any], key: Mapping[str, bytes]) -> Any:
        raw = key.get(str(field.column))
        return None if raw is None else columns.loaded(field, raw, self.using)

    def _subject(self) -> str | None:
        if self.plan.subject is None:
            return None
        # Not through the model's own __init__, which may do anything.
        instance = object.__new__(self.plan.model)
        for field in self.plan.model._meta.local_concrete_fields:
            if field.column in self.row.key:
                instance.__dict__[field.attname] = self._python(field, self.row.key)
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
    rows = list(_values(written))
    if written.op != "insert":
        gone = [row.old_key or row.key for row in rows]
        yield from _memberships("m2m.remove", field, about, gone)
    if written.op != "delete":
        yield from _memberships("m2m.add", field, about, [row.key for row in rows])


def _memberships(
    action: str, field: Any, about: Mapping[str, Any], rows: Sequence[Mapping[str, bytes]]
) -> Iterator[dict[str, Any]]:
    owner, member = field.m2m_column_name(), field.m2m_reverse_name()
    pairs = [(json.loads(row[owner]), json.loads(row[member])) for row in rows]
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
