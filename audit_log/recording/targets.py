"""Model instances as targets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from django.apps import apps
from django.db.models import Model

from audit_log.events import Target
from audit_log.privacy.encryption import fingerprint
from audit_log.privacy.policies import key_kind
from audit_log.privacy.words import cut
from audit_log.recording.values import plain, safe_str

MAX_LABEL = 256
SNAPSHOT = "audit_log"
"""The attribute of `_state` where capture keeps what it knows of a row."""
_MAX_HELD = 50
MAX_ID = 255


def target_type(model: type[Model]) -> str:
    """`app.model` of the concrete model, so that a proxy shares its history."""
    concrete = model._meta.concrete_model or model
    return concrete._meta.label_lower


def model_of(label: object) -> type[Model] | None:
    """The model of a target's type; None for one of the past, or a word of the project's."""
    try:
        return apps.get_model(label) if isinstance(label, str) else None
    except (LookupError, ValueError):
        return None


def target_id(model: type[Model], pk: Any) -> str | None:
    """A primary key as text; a composite one as a JSON array; a secret one as a fingerprint."""
    if pk is None:
        return None
    if isinstance(pk, (tuple, list)):
        text = json.dumps([plain(part)[0] for part in pk], ensure_ascii=False)
    else:
        value, _ = plain(pk)
        text = value if isinstance(value, str) else safe_str(value)
    kind = key_kind(model)
    if kind is not None:
        return f"fp:{fingerprint(kind, text, 32)}"
    if len(text) > MAX_ID:
        # Cut, but so that two long keys never become one.
        return f"{text[:180]}…{hashlib.sha256(text.encode()).hexdigest()}"
    return text


def target_of(instance: Model) -> Target:
    """The target an instance is, labelled as it prints itself now."""
    model = instance.__class__  # not type(): `request.user` is a lazy object
    known = knowledge(instance)
    label = label_of(instance)
    forget_news(known)
    return Target(type=target_type(model), id=target_id(model, instance.pk), label=label)


def label_of(instance: Model) -> str:
    """How an instance prints itself, at most 256 characters.

    What its `__str__` loads is let go of again: else the project would find a foreign key or a
    deferred field loaded already, and its tests would count a query less.
    """
    own, cache = instance.__dict__, instance._state.fields_cache
    if cache:
        held = [(place, tuple(place)) for place in places(instance)]
        text = cut(safe_str(instance), MAX_LABEL)
        let_go(held)
        return text
    before = tuple(own)
    text = safe_str(instance)
    if cache or len(own) > len(before):
        let_go([(own, before), (cache, ())])
    return cut(text, MAX_LABEL)


def let_go(held: Iterable[tuple[dict[str, Any], tuple[str, ...]]]) -> None:
    """Take out of these places whatever they did not hold before."""
    for place, names in held:
        if len(place) > len(names):
            for name in set(place).difference(names):
                del place[name]


Knowledge = list[tuple[dict[str, Any], Any]]
"""What was known of some rows, and where that is kept."""


def knowledge(instance: Model) -> Knowledge:
    """What is known of the row of an instance, and of those it has loaded already."""
    states = [place["_state"].__dict__ for place in places(instance) if "_state" in place]
    return [(state, state.get(SNAPSHOT)) for state in states]


def forget_news(known: Knowledge) -> None:
    """Believe no more than before of what `__str__` loaded, and the project never saw.

    It is let go of, so no `refresh_from_db` would read it again.
    """
    for state, before in known:
        if state.get(SNAPSHOT) is not before:
            state[SNAPSHOT] = before


def places(instance: Model) -> list[dict[str, Any]]:
    """Where an instance, and those it has loaded already, keep what they load."""
    if not instance._state.fields_cache:
        return [instance.__dict__, instance._state.fields_cache]
    found: dict[int, dict[str, Any]] = {}
    waiting = [instance]
    while waiting and len(found) < _MAX_HELD:
        one = waiting.pop()
        if id(one.__dict__) in found:
            continue
        cache: dict[str, Any] = one._state.fields_cache
        found[id(one.__dict__)] = one.__dict__
        found[id(cache)] = cache
        waiting += [other for other in cache.values() if isinstance(other, Model)]
    return list(found.values())
