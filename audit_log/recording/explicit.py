"""What projects call themselves: `record`, `acting`, `suspended`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.db import DEFAULT_DB_ALIAS, connections, router

from audit_log import context
from audit_log.conf import get_settings
from audit_log.events import ACTION, OUTCOMES, Actor, Event, Redaction, Target
from audit_log.privacy.policies import Policy, data_policy
from audit_log.privacy.redaction import mask, redact
from audit_log.privacy.words import cut
from audit_log.recording import buffer, pending
from audit_log.recording.people import actor_of, via_of
from audit_log.recording.subjects import subject_of_target
from audit_log.recording.targets import MAX_ID, MAX_LABEL, target_of
from audit_log.recording.values import key_text, plain, safe_str

if TYPE_CHECKING:
    from django.db.models import Model

MAX_ACTION = 128


def record(
    action: str,
    *,
    target: Model | Target | None = None,
    data: Mapping[str, Any] | None = None,
    reason: str | None = None,
    outcome: str = "success",
    using: str | None = None,
) -> Event:
    """Record something only the project knows about, in the transaction that is open.

    With `ENABLED` False nothing is written. Async code calls it by `sync_to_async`.
    `data` follows the field policies: by name, then by type (text is sealed). Returns the event.
    Raises ValueError for an action that is not `words.with_dots` or an unknown outcome, and
    TypeError for `data` that is no mapping.
    """
    if len(action) > MAX_ACTION or not ACTION.fullmatch(action):
        raise ValueError(
            f"{action!r} is no action: write lower-case words joined by dots, "
            f"{MAX_ACTION} characters at most, such as 'payment.refunded'."
        )
    if outcome not in OUTCOMES:
        raise ValueError(f"outcome must be one of {', '.join(sorted(OUTCOMES))}, not {outcome!r}.")
    values, sealed, redactions = classified(data)
    extra = {} if reason is None else {"reason": safe_str(reason)}
    event = context.new_event(
        action,
        source="explicit",
        outcome=outcome,
        target=as_target(target),
        subject=subject_of_target(target),
        data=values,
        sealed=sealed,
        redactions=redactions,
        **extra,
    )
    if get_settings().enabled:
        pending.add(connections[using or _database_of(target)], event)
    return event


def _database_of(target: Model | Target | None) -> str:
    if target is None or isinstance(target, Target):
        return DEFAULT_DB_ALIAS
    # Not where it was read from: that may be a replica.
    return router.db_for_write(target.__class__, instance=target)


def as_target(target: Model | Target | None) -> Target | None:
    """A model instance, or what a project says it is, as a target that can be stored."""
    if target is None:
        return None
    if not isinstance(target, Target):
        return target_of(target)
    # A project may have put a number there, which would make the whole batch unreadable.
    return Target(
        type=safe_str(target.type),
        id=_text(target.id, MAX_ID),
        label=_label(target.label),
    )


def _label(value: object) -> str | None:
    return None if value is None else cut(safe_str(value), MAX_LABEL)


def _text(value: object, length: int) -> str | None:
    return None if value is None else safe_str(value)[:length]


def classified(
    data: Mapping[str, Any] | None,
) -> tuple[dict[str, Any] | None, tuple[str, ...], tuple[Redaction, ...]]:
    """`data` by the field policies: what is left of it, the paths to seal, and what was done."""
    if not data:
        return None, (), ()
    if not isinstance(data, Mapping):
        raise TypeError(f"data must be a mapping of names and values, not {type(data).__name__}.")
    values: dict[str, Any] = {}
    sealed: list[str] = []
    redactions: list[Redaction] = []
    for raw_key, raw in data.items():
        key = key_text(raw_key)
        path = f"data.{key}"
        value, marks = plain(raw, path)
        redactions += marks
        policy = data_policy(key, raw)  # as it was given: a date is open, its text would be sealed
        if policy.policy is Policy.EXCLUDED:
            continue
        if policy.policy is Policy.MASKED:
            value = mask(value, keep_last4=policy.keep_last4)
            redactions.append(Redaction(path, policy.rule))
        else:
            value, marks = redact(value, path, **get_settings().key_names)
            redactions += marks
        if policy.policy is Policy.SEALED:
            sealed.append(path)
        values[key] = value
    return values, tuple(sealed), tuple(redactions)


@contextmanager
def acting(
    actor: Any = None,
    *,
    via: Any = None,
    reason: str | None = None,
    tenant: str | None = None,
) -> Iterator[None]:
    """Everything inside is done by `actor` (a user, an Actor, or a name), for `reason`.

    `via` is who or what the actor acts through: an impersonator or an API key, as an object, an
    Actor or a name. What is not given stays as it was; nested blocks restore the outer one.
    """
    values: dict[str, Any] = {}
    if actor is not None:
        values["actor"] = as_actor(actor)
    if via is not None:
        values["via"] = via_of(via)
    if reason is not None:
        values["reason"] = safe_str(reason)
    if tenant is not None:
        values["tenant"] = safe_str(tenant)
    with context.changed(**values):
        yield


def as_actor(actor: Any) -> Actor:
    """A user, an Actor, or the name of a service, as an actor that can be stored."""
    if isinstance(actor, Actor):
        return Actor(
            type=safe_str(actor.type),
            id=_text(actor.id, MAX_ID),
            label=_label(actor.label),
            email=_text(actor.email, MAX_ID),
            via=_text(actor.via, MAX_ID),
        )
    if isinstance(actor, str):
        return Actor(type="service", id=_text(actor, MAX_ID), label=_label(actor))
    return actor_of(actor)


@contextmanager
def suspended(reason: str | None = None) -> Iterator[None]:
    """Capture nothing inside, in this thread or task. That it was so is recorded.

    What `record()` is told to say is still recorded.
    """
    if not context.current().suspended and get_settings().enabled:
        _note_suspended(reason)
    with context.changed(suspended=True):
        yield


def _note_suspended(reason: str | None) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        record("audit_log.suspended", reason=reason)
        return
    # Nothing may be written from here, and a context manager cannot wait for a thread.
    extra = {} if reason is None else {"reason": safe_str(reason)}
    buffer.enqueue(context.new_event("audit_log.suspended", source="explicit", **extra))
