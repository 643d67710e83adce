"""One event of the past as somebody else wrote it down: checked, and made into ours.

The field policies and the rules for names apply as if it happened now.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from django.core.exceptions import FieldDoesNotExist
from django.db.models import Model

from audit_log.conf import get_settings
from audit_log.events import (
    ACTION,
    ACTOR_TYPES,
    OUTCOMES,
    VERSION,
    Actor,
    Event,
    Redaction,
    Request,
    Target,
    emitter,
    id_agrees,
)
from audit_log.privacy.maskers import shown
from audit_log.privacy.policies import FieldPolicy, Policy, data_policy, field_policy
from audit_log.privacy.redaction import redact, redact_query
from audit_log.recording.explicit import MAX_ACTION, as_actor, as_target, classified
from audit_log.recording.subjects import subject_of_target
from audit_log.recording.targets import model_of, target_id, target_type
from audit_log.recording.values import clean, key_text, plain, safe_str

_NAMES: Final = (
    *("action", "occurred_at", "id", "key", "outcome", "actor", "target", "tenant", "changes"),
    *("labels", "affected", "request", "trace_id", "parent_id", "reason", "data", "subject"),
)
_TEXTS: Final = ("tenant", "trace_id", "parent_id", "reason", "subject")
_REQUEST: Final = frozenset(Request.__struct_fields__) - {"session"}  # a token of our own making
_NUMBERS: Final = ("status", "duration_ms")
_STRICTEST: Final = (Policy.EXCLUDED, Policy.MASKED, Policy.SEALED, Policy.OPEN)
_PAIR: Final = 2


def imported(given: Event | Mapping[str, Any]) -> Event:
    """The event to be stored. Raises ValueError or TypeError saying what is wrong with it."""
    said = _members(given)
    moment = _past(said.get("occurred_at"))
    about = _about(said.get("target"))
    target = _target(about)
    sealed, redactions = _inherited(given)
    data, data_sealed, data_marks = classified(said.get("data"))
    changes = _Changes(said.get("changes"), target)
    if "subject" not in said and (subject := subject_of_target(about)) is not None:
        said["subject"] = subject
    texts: dict[str, Any] = {name: _text(name, said[name]) for name in _TEXTS if name in said}
    request, request_marks = _request(said.get("request"))
    return Event(
        version=VERSION,
        id=_id(said, moment),
        occurred_at=moment,
        action=_action(said.get("action")),
        outcome=_outcome(said.get("outcome", "success")),
        actor=_actor(said.get("actor")),
        target=target,
        changes=changes.values or None,
        labels=changes.labels(said.get("labels")),
        affected=_number("affected", said.get("affected")),
        request=request,
        source="import",
        data=data,
        sealed=tuple(dict.fromkeys((*sealed, *changes.sealed, *data_sealed))),
        redactions=(*redactions, *changes.redactions, *data_marks, *request_marks),
        **texts,
    )


def _members(given: Event | Mapping[str, Any]) -> dict[str, Any]:
    """What is there, by name; None is as good as nothing."""
    if isinstance(given, Event):
        given = {name: getattr(given, name, None) for name in _NAMES}
    if not isinstance(given, Mapping):
        raise TypeError(f"An event is a mapping or an Event, not {type(given).__name__}.")
    unknown = [str(name) for name in given if name not in _NAMES]
    if unknown:
        raise ValueError(
            f"An event has no {', '.join(unknown)}; what it can have: {', '.join(_NAMES)}."
        )
    return {name: value for name, value in given.items() if value is not None}


def _inherited(given: object) -> tuple[tuple[str, ...], tuple[Redaction, ...]]:
    """What an Event said of itself: it may ask for more to be sealed, never for less."""
    return (given.sealed, given.redactions) if isinstance(given, Event) else ((), ())


def _past(value: object) -> datetime:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError(f"occurred_at must be a datetime with a time zone, not {value!r}.")
    if not datetime(1970, 1, 1, tzinfo=UTC) <= value <= datetime.now(UTC):
        raise ValueError(f"occurred_at must be in the past, from 1970 on, not {value}.")
    return value.astimezone(UTC)


def _id(said: dict[str, Any], moment: datetime) -> uuid.UUID:
    if "id" not in said:
        key = said.get("key")
        scope = None if key is None else f"{get_settings().service}\0{safe_str(key)}".encode()
        return emitter().id_for(moment, scope)
    if "key" in said:
        raise ValueError("An event has an id or a key, not both.")
    id_ = said["id"] if isinstance(said["id"], uuid.UUID) else uuid.UUID(str(said["id"]))
    if not id_agrees(id_, moment):
        raise ValueError(
            f"The id {id_} must be a UUID of version 7 of the moment {moment}. Give a key instead "
            "to have one made from it."
        )
    return id_


def _action(value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_ACTION or not ACTION.fullmatch(value):
        raise ValueError(f"{value!r} is no action: write lower-case words joined by dots.")
    if value.startswith("audit_log."):
        raise ValueError(f"{value!r} is the log's own: what it says of itself is not imported.")
    return value


def _outcome(value: object) -> str:
    if value not in OUTCOMES:
        raise ValueError(f"outcome must be one of {', '.join(sorted(OUTCOMES))}, not {value!r}.")
    return str(value)


def _actor(value: Any) -> Actor | None:
    if value is None:
        return None
    if isinstance(value, Mapping):
        value = _struct(Actor, value, Actor.__struct_fields__)
    actor = as_actor(value)
    if actor.type not in ACTOR_TYPES:
        raise ValueError(f"An actor's type is one of {', '.join(sorted(ACTOR_TYPES))}.")
    return actor


def _about(value: Any) -> Target | Model | None:
    if isinstance(value, Mapping):
        value = _struct(Target, value, Target.__struct_fields__)
    if value is not None and not isinstance(value, (Target, Model)):
        raise TypeError(f"A target is a mapping, a model or a Target, not {value!r}.")
    return value


def _target(value: Target | Model | None) -> Target | None:
    target = as_target(value)
    model = model_of(target and target.type)
    if target is None or model is None or not isinstance(value, Target):
        return target
    # As it is spelled everywhere else: in lower case, a secret key as a fingerprint.
    return Target(target_type(model), target_id(model, value.id), target.label)


def _struct(kind: type[Any], values: Mapping[str, Any], allowed: Any) -> Any:
    unknown = [str(name) for name in values if name not in allowed]
    if unknown or (kind is Target and not values.get("type")):
        name = kind.__name__.lower()
        raise ValueError(f"{values!r} is no {name}: it has {', '.join(sorted(allowed))}.")
    return kind(**values)


def _number(name: str, value: object) -> int | None:
    if value is not None and (type(value) is not int or value < 0):
        raise ValueError(f"{name} must be a number of 0 or more, not {value!r}.")
    return value


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be text, not {value!r}.")
    return clean(value)


def _request(value: Any) -> tuple[Request | None, list[Redaction]]:
    if value is None:
        return None, []
    if isinstance(value, Request):
        value = {name: getattr(value, name) for name in _REQUEST}
    if not isinstance(value, Mapping):
        raise TypeError(f"A request is a mapping or a Request, not {value!r}.")
    request: Request = _struct(
        Request, {name: part for name, part in value.items() if part is not None}, _REQUEST
    )
    parts: dict[str, Any] = {
        name: _number(name, part) if name in _NUMBERS else _text(f"request.{name}", part)
        for name in _REQUEST - {"body"}
        if (part := getattr(request, name)) is not None
    }
    marks: list[Redaction] = []
    if "query" in parts:
        parts["query"], marks = redact_query(parts["query"], **get_settings().key_names)
    if request.body is not None:
        body, altered = plain(request.body, "request.body")
        parts["body"], masked = redact(body, "request.body", **get_settings().key_names)
        marks = [*marks, *altered, *masked]
    return Request(**parts), marks


class _Changes:
    """`{field: [old, new]}` by the policies of the target's model, else by names and types."""

    def __init__(self, given: Any, target: Target | None) -> None:
        self.values: dict[str, list[Any]] = {}
        self.sealed: list[str] = []
        self.redactions: list[Redaction] = []
        self._model = model_of(target and target.type)
        if not isinstance(given, Mapping | None):
            raise TypeError(f"changes must be {{field: [old, new]}}, not {given!r}.")
        for name, pair in (given or {}).items():
            self._add(key_text(name), pair)

    def labels(self, given: Any) -> dict[str, list[str | None]] | None:
        """What people read for the changes that are kept, and not masked."""
        if not isinstance(given, Mapping | None):
            raise TypeError(f"labels must be {{field: [old, new]}}, not {given!r}.")
        masked = {mark.path for mark in self.redactions}
        kept = {
            name: [None if label is None else safe_str(label) for label in _pair(name, pair)]
            for name, pair in (given or {}).items()
            if name in self.values and f"changes.{name}" not in masked
        }
        return kept or None

    def _add(self, name: str, pair: Any) -> None:
        path, raw = f"changes.{name}", _pair(name, pair)
        policy = self._policy(name, raw)
        if policy.policy is Policy.EXCLUDED:
            return
        values: list[Any] = []
        for item in raw:
            value, marks = plain(item, path)
            self.redactions += marks
            values.append(value)
        if policy.policy is Policy.MASKED:
            keep_last4, masker = policy.keep_last4, policy.masker
            values = [shown(value, path, keep_last4=keep_last4, masker=masker) for value in values]
            self.redactions.append(Redaction(path, policy.rule))
        else:
            values = [self._redacted(value, path) for value in values]
        if policy.policy is Policy.SEALED:
            self.sealed.append(path)
        self.values[name] = values

    def _redacted(self, value: Any, path: str) -> Any:
        value, marks = redact(value, path, **get_settings().key_names)
        self.redactions += marks
        return value

    def _policy(self, name: str, values: list[Any]) -> FieldPolicy:
        if self._model is not None:
            try:
                return field_policy(self._model, self._model._meta.get_field(name))
            except FieldDoesNotExist:
                pass  # a field of the past
        found = [data_policy(name, value) for value in values]
        return min(found, key=lambda policy: _STRICTEST.index(policy.policy))


def _pair(name: str, value: Any) -> list[Any]:
    if not isinstance(value, (list, tuple)) or len(value) != _PAIR:
        raise ValueError(f"{name} must be [old, new], not {value!r}.")
    return list(value)
