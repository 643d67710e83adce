"""What today's rules would mask in a record that was stored by yesterday's.

Everything here yields (path, rule), never a value. What is masked already is not found again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote_plus

from django.core.exceptions import FieldDoesNotExist
from django.db import models

from audit_log.conf import get_settings
from audit_log.events import JSON
from audit_log.privacy import names
from audit_log.privacy.detectors import UNCLASSIFIED, detect, scrub_value
from audit_log.privacy.finders import no_fingerprint
from audit_log.privacy.policies import Policy, decide_data, field_policy, key_kind
from audit_log.privacy.redaction import MASK, redact, redact_query, step
from audit_log.recording.targets import model_of

Exposed = tuple[str, str]

_MASKS: Final = re.compile(
    rf"{re.escape(MASK)}|{re.escape(UNCLASSIFIED)}|(?:\*{{4}} ){{3}}[0-9]{{4}}"
)
_FINGERPRINT: Final = "fp:"
_NO_RULE: Final = ("limit:", "error")  # about size and faults of the search, not about a secret
_TYPE: Final = "type:"
_TEXT_KEYS: Final = (models.CharField, models.TextField)


def in_envelope(row: Mapping[str, Any]) -> Iterator[Exposed]:
    """In the open columns beside `changes` and `data`."""
    for column in ("actor_id", "actor_via", "tenant", "path"):
        yield from in_text(row[column], column, personal=True)
    yield from _in_target_id(row["target_type"], row["target_id"])


def in_changes(
    changes: object, target_type: str | None, *, sealed: bool = False
) -> Iterator[Exposed]:
    """In `{field: [old, new]}`, stored open or sealed: by the policies of the model, if known."""
    model = model_of(target_type)
    for field, pair in _items(changes):
        path = f"changes.{step(field)}"
        rule = _rule_of_field(model, field, sealed=sealed)
        values = pair if isinstance(pair, list) else [pair]
        if rule is not None and any(_is_shown(value) for value in values):
            yield path, rule
        else:
            yield from in_value(pair, path, personal=not sealed)


def in_data(data: object, *, sealed: bool = False) -> Iterator[Exposed]:
    """In what was recorded as `data`."""
    settings = get_settings()
    for key, value in _items(data):
        path = f"data.{step(key)}"
        policy = decide_data(key, value, settings.mask_keys, settings.safe_keys)
        if policy.policy is Policy.MASKED and _is_shown(value):
            yield path, policy.rule
        else:
            yield from in_value(value, path, personal=not sealed)


def in_contents(opened: Mapping[str, Any], row: Mapping[str, Any]) -> Iterator[Exposed]:
    """In what `reading.contents` has opened of a record, without what stands open in it."""
    yield from in_changes(_beside(opened, row, "changes"), row["target_type"], sealed=True)
    yield from in_data(_beside(opened, row, "data"), sealed=True)
    for field, pair in _items(opened["labels"]):
        yield from in_value(pair, f"labels.{step(field)}", personal=False)
    for part in ("label", "email", "user_agent"):
        yield from in_text(opened["actor"][part], f"actor.{part}", personal=False)
    yield from in_text(opened["target_label"], "target.label", personal=False)
    yield from in_text(opened["reason"], "reason", personal=False)
    yield from _in_query(opened["request"]["query"])
    yield from in_value(opened["request"]["body"], "request.body", personal=False)


def in_text(text: object, path: str, *, personal: bool) -> Iterator[Exposed]:
    """In one text, by its form."""
    if isinstance(text, str) and text:
        yield from ((path, rule) for rule in detect(text, personal=personal))


def in_value(value: JSON, path: str, *, personal: bool) -> Iterator[Exposed]:
    """In a value: by the names of its members, and the forms of its texts."""
    _, named = redact(_without_masks(value), path, **get_settings().key_names)
    _, formed = scrub_value(value, path, personal=personal, fingerprint=no_fingerprint)
    for mark in (*named, *formed):
        if not mark.rule.startswith(_NO_RULE):
            yield mark.path, mark.rule


def _in_target_id(target_type: str | None, target_id: str | None) -> Iterator[Exposed]:
    model = model_of(target_type)
    if not isinstance(target_id, str) or target_id.startswith(_FINGERPRINT):
        return
    if model is None:
        yield from in_text(target_id, "target_id", personal=True)
        return
    kind = key_kind(model)
    if kind is not None:
        yield "target_id", f"key:{kind}"
    elif isinstance(model._meta.pk, _TEXT_KEYS):  # numbers of rows can look like those of cards
        yield from in_text(target_id, "target_id", personal=True)


def _in_query(query: object) -> Iterator[Exposed]:
    if not isinstance(query, str) or not query:
        return
    pieces = [piece for piece in query.split("&") if not _is_mask(_value_of(piece))]
    _, named = redact_query("&".join(pieces), **get_settings().key_names)
    yield from ((mark.path, mark.rule) for mark in named if not mark.rule.startswith(_NO_RULE))
    yield from in_text(unquote_plus(query), "request.query", personal=False)


def _value_of(piece: str) -> str:
    return unquote_plus(piece.partition("=")[2])


def _rule_of_field(model: type[models.Model] | None, name: str, *, sealed: bool) -> str | None:
    """The rule by which the field would not stand as it does now; None where it may."""
    settings = get_settings()
    if model is not None:
        try:
            policy = field_policy(model, model._meta.get_field(name))
        except FieldDoesNotExist:
            pass  # it was called so once
        else:
            hidden = {Policy.MASKED} if sealed else {Policy.MASKED, Policy.SEALED}
            # That texts are sealed is caution about what they might hold; so they are looked at.
            found = policy.policy in hidden and not policy.rule.startswith(_TYPE)
            return policy.rule if found else None
    named = names.judge(name, settings.mask_keys, settings.safe_keys)
    if named is None or (sealed and named.kind not in _NEVER_KEPT):
        return None
    return named.rule


_NEVER_KEPT: Final = frozenset({names.Kind.SECRET, names.Kind.CARD_SECRET, names.Kind.CARD})


def _items(value: object) -> Iterator[tuple[str, Any]]:
    # Somebody who altered the row may have put anything there.
    return iter(value.items() if isinstance(value, dict) else ())


def _beside(opened: Mapping[str, Any], row: Mapping[str, Any], name: str) -> dict[str, Any]:
    known = dict(_items(row[name]))
    return {key: value for key, value in opened[name].items() if key not in known}


def _is_mask(value: object) -> bool:
    return isinstance(value, str) and _MASKS.fullmatch(value) is not None


def _is_shown(value: object) -> bool:
    """Whether a value that should be a mask is none."""
    return value is not None and value != "" and not _is_mask(value)


def _without_masks(value: JSON) -> JSON:
    """`value` with None for masks, also in JSON that stands in it as text."""
    if isinstance(value, dict):
        return {key: _without_masks(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_without_masks(item) for item in value]
    if _is_mask(value):
        return None
    if isinstance(value, str) and value[:1] in {"{", "["}:
        try:
            return json.dumps(_without_masks(json.loads(value)))
        except (ValueError, RecursionError):
            return value
    return value
