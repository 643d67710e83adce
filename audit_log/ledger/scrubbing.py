"""What an event says, after the detectors: what stays open, and what is to be sealed.

The values are first encoded as they came, for they have to be encoded anyway, and every detector is
asked about all of them at once. Only where one could find something are they taken apart.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from audit_log.events import JSON, Actor, Event, Redaction, Request
from audit_log.exceptions import EncodingError
from audit_log.ledger.entries import canonical_decoded
from audit_log.privacy.detectors import (
    DETECTORS,
    Detector,
    is_suspect,
    like_any,
    scrub,
    scrub_value,
    suspects,
)
from audit_log.privacy.encryption import fingerprint

_Suspects = tuple[Detector, ...]
_NOBODY: Final = Actor()
_NO_REQUEST: Final = Request()


class Contents(msgspec.Struct, gc=False):
    """An event's values. The encoded ones are canonical JSON, and empty where there is nothing."""

    actor_id: str | None
    path: str | None
    changes: dict[str, JSON]
    data: dict[str, JSON]
    encoded_changes: bytes
    encoded_data: bytes
    sealed_actor: bytes
    sealed_data: bytes
    marks: list[Redaction]


def contents_of(event: Event) -> Contents:
    """The values of an event, scrubbed. Raises EncodingError for what no JSON holds."""
    try:
        plain = _contents(event, (), ())
    except EncodingError:  # the detectors mask what is too deep
        return _contents(event, DETECTORS, DETECTORS)
    # JSON escapes nothing that a pretest looks for, so the encoded text stands for each value.
    open_ = (plain.encoded_changes + b"\n" + plain.encoded_data).decode()
    open_ = f"{open_}\n{plain.actor_id}\n{plain.path}"
    hidden = (plain.sealed_actor + b"\n" + plain.sealed_data).decode()
    if not like_any(f"{open_}\n{hidden}", personal=open_):
        return plain
    return _contents(event, suspects(open_, personal=True), suspects(hidden, personal=False))


def _contents(event: Event, open_: _Suspects, hidden: _Suspects) -> Contents:
    scrubbed = _Scrubbed(event, open_, hidden)
    actor, request = event.actor or _NOBODY, event.request or _NO_REQUEST
    actor_id = scrubbed.text(actor.id, "actor.id", sealed=False)
    path = scrubbed.text(request.path, "request.path", sealed=False)
    changes, data, sealed_actor, sealed_data = canonical_decoded(
        scrubbed.open_changes,
        scrubbed.open_data,
        _actor_part(scrubbed, actor, request),
        _data_part(scrubbed),
    )
    return Contents(
        actor_id=actor_id,
        path=path,
        changes=scrubbed.open_changes,
        data=scrubbed.open_data,
        encoded_changes=changes,
        encoded_data=data,
        sealed_actor=sealed_actor,
        sealed_data=sealed_data,
        marks=scrubbed.marks,
    )


class _Scrubbed:
    """The values of an event, split into what stays open and what is sealed.

    Without suspects they are left as they are.
    """

    def __init__(self, event: Event, open_: _Suspects, hidden: _Suspects) -> None:
        self.event = event
        self.marks: list[Redaction] = list(event.redactions)
        self._suspects = (open_, hidden)
        self._sealed = frozenset(event.sealed)
        self.open_changes, self.sealed_changes = self._split("changes", event.changes)
        self.open_data, self.sealed_data = self._split("data", event.data)

    def value(self, value: JSON, path: str, *, sealed: bool) -> JSON:
        """Secrets are masked everywhere, personal patterns only in what stays readable."""
        if not self._suspects[sealed]:
            return value
        scrubbed, marks = scrub_value(value, path, personal=not sealed, fingerprint=fingerprint)
        self.marks += marks
        return scrubbed

    def text(self, text: str | None, path: str, *, sealed: bool = True) -> str | None:
        """The same for one text."""
        if not text:
            return None
        suspected = self._suspects[sealed]
        if not suspected or not is_suspect(text, suspected):
            return text
        scrubbed, rules = scrub(text, personal=not sealed, fingerprint=fingerprint)
        self.marks += [Redaction(path, rule) for rule in rules]
        return scrubbed

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
