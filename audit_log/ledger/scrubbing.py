"""What an event says, after the detectors: what stays open, and what is to be sealed.

The values are first encoded as they came, for they have to be encoded anyway, and every detector is
asked about those of many events at once. Only where one could find something are they taken apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import quote_plus, unquote_plus

import msgspec

from audit_log.events import JSON, Actor, Event, Redaction, Request
from audit_log.exceptions import EncodingError
from audit_log.ledger.entries import canonical_decoded, encode_decoded, is_surely_canonical
from audit_log.ledger.theirs import Name, left_out, names_in
from audit_log.privacy.detectors import (
    Detector,
    in_force,
    is_suspect,
    scrub,
    scrub_value,
    suspects,
)
from audit_log.privacy.encryption import fingerprint

_Suspects = tuple[Detector, ...]
_Encode = Callable[..., list[bytes]]
_TOGETHER: Final = 64  # events asked about at once: few enough to stay in the processor's cache
_NOBODY: Final = Actor()
_NO_REQUEST: Final = Request()


class Contents(msgspec.Struct, gc=False):
    """An event's values. The encoded ones are canonical JSON, and empty where there is nothing."""

    actor_id: str | None
    actor_via: str | None
    tenant: str | None
    path: str | None
    query: str
    changes: dict[str, JSON]
    data: dict[str, JSON]
    encoded_changes: bytes
    encoded_data: bytes
    sealed_actor: bytes
    sealed_data: bytes
    marks: list[Redaction]
    theirs: tuple[Name, ...] = ()  # to be sealed apart

    @property
    def encoded(self) -> tuple[bytes, bytes, bytes, bytes]:
        """All that is encoded."""
        return self.encoded_changes, self.encoded_data, self.sealed_actor, self.sealed_data

    @property
    def open_text(self) -> str:
        """What is stored readable, for the detectors.

        JSON escapes nothing that a pretest looks for, so encoded text stands for each value.
        """
        encoded = f"{self.encoded_changes.decode()}\n{self.encoded_data.decode()}"
        return f"{encoded}\n{self.actor_id}\n{self.actor_via}\n{self.tenant}\n{self.path}"

    @property
    def hidden_text(self) -> str:
        """What is to be sealed, for the detectors."""
        names = "\n".join([name.text for name in self.theirs])
        return f"{self.sealed_actor.decode()}\n{self.sealed_data.decode()}\n{self.query}\n{names}"


def contents_of_all(events: Sequence[Event]) -> list[Contents | Exception]:
    """The values of events, scrubbed, in their order; an EncodingError for what no JSON holds."""
    found: list[Contents | Exception] = []
    for first in range(0, len(events), _TOGETHER):
        found += _contents_together(events[first : first + _TOGETHER])
    return found


def _contents_together(events: Sequence[Event]) -> list[Contents | Exception]:
    """Most events hold nothing to find or to doubt, which one look at all of them shows."""
    try:
        plain = [_contents(event, (), (), encode_decoded) for event in events]
    except Exception:  # noqa: BLE001 - whose fault it is shows one by one
        return [_contents_alone(event) for event in events]
    if is_surely_canonical(*[value for contents in plain for value in contents.encoded]):
        return _without_secrets(events, plain)
    return [
        _without_secrets([event], [contents])[0]
        if is_surely_canonical(*contents.encoded)
        else _contents_alone(event)
        for event, contents in zip(events, plain, strict=True)
    ]


def _contents_alone(event: Event) -> Contents | Exception:
    try:
        plain = _contents(event, (), (), canonical_decoded)
    except EncodingError:  # the detectors mask what is too deep
        return _scrubbed(event, in_force(), in_force())
    except Exception as error:  # noqa: BLE001 - one must not stop the others
        return error
    return _without_secrets([event], [plain])[0]


def _without_secrets(
    events: Sequence[Event], plain: Sequence[Contents]
) -> list[Contents | Exception]:
    """Those in which detectors could find something made again, through these detectors."""
    open_ = [contents.open_text for contents in plain]
    hidden = [contents.hidden_text for contents in plain]
    anywhere = suspects("\n".join(open_), personal=True)
    anywhere_hidden = suspects("\n".join(hidden), personal=False)
    if not anywhere and not anywhere_hidden:
        return list(plain)
    found: list[Contents | Exception] = []
    for event, contents, text, hidden_text in zip(events, plain, open_, hidden, strict=True):
        own = suspects(text, personal=True, detectors=anywhere)
        own_hidden = suspects(hidden_text, personal=False, detectors=anywhere_hidden)
        found.append(_scrubbed(event, own, own_hidden) if own or own_hidden else contents)
    return found


def _scrubbed(event: Event, open_: _Suspects, hidden: _Suspects) -> Contents | Exception:
    try:
        return _contents(event, open_, hidden, canonical_decoded)
    except Exception as error:  # noqa: BLE001 - one must not stop the others
        return error


def _contents(event: Event, open_: _Suspects, hidden: _Suspects, encode: _Encode) -> Contents:
    scrubbed = _Scrubbed(event, open_, hidden)
    actor, request = event.actor or _NOBODY, event.request or _NO_REQUEST
    actor_id = scrubbed.text(actor.id, "actor.id", sealed=False)
    actor_via = scrubbed.text(actor.via, "actor.via", sealed=False)
    tenant = scrubbed.text(event.tenant, "tenant", sealed=False)
    path = scrubbed.text(request.path, "request.path", sealed=False)
    changes, data, sealed_actor, sealed_data = encode(
        scrubbed.open_changes,
        scrubbed.open_data,
        _actor_part(scrubbed, actor, request),
        _data_part(scrubbed),
    )
    return Contents(
        actor_id=actor_id,
        actor_via=actor_via,
        tenant=tenant,
        path=path,
        query=_decoded(request.query),
        changes=scrubbed.open_changes,
        data=scrubbed.open_data,
        encoded_changes=changes,
        encoded_data=data,
        sealed_actor=sealed_actor,
        sealed_data=sealed_data,
        marks=scrubbed.marks,
        theirs=tuple(scrubbed.theirs),
    )


_ENCODED: Final = frozenset("%+")


def _decoded(query: str | None) -> str:
    """A query string for the detectors, if it is not what it says."""
    return unquote_plus(query) if query and not _ENCODED.isdisjoint(query) else ""


class _Scrubbed:
    """The values of an event, split into what stays open and what is sealed.

    Without suspects they are left as they are.
    """

    def __init__(self, event: Event, open_: _Suspects, hidden: _Suspects) -> None:
        self.event = event
        self.marks: list[Redaction] = list(event.redactions)
        self._suspects = (open_, hidden)
        self.open_changes, self.sealed_changes = self._split("changes", event.changes)
        self.open_data, self.sealed_data = self._split("data", event.data)
        self.theirs = [
            Name(name.path, name.subject, self.text(name.text, name.path) or "")
            for name in names_in(event)
        ]

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

    def query(self, query: str | None, path: str) -> str | None:
        """The same for a query string: its values are looked at as the view has read them."""
        if not query or not self._suspects[True]:
            return query
        pieces = [self._piece(piece, path) for piece in query.split("&")]
        return self.text("&".join(pieces), path)

    def _piece(self, piece: str, path: str) -> str:
        if not _ENCODED.intersection(piece):
            return piece
        name, equals, value = piece.partition("=")
        found = [unquote_plus(name), unquote_plus(value)]
        left = [self.text(each, path) or "" for each in found]
        return piece if left == found else equals.join(map(quote_plus, left))

    def _split(
        self, name: str, values: dict[str, Any] | None
    ) -> tuple[dict[str, JSON], dict[str, JSON]]:
        if not values:
            return {}, {}
        open_, sealed = dict(values), {}
        for path in self.event.sealed:
            root, _, key = path.partition(".")
            if root == name and key in open_:
                sealed[key] = open_.pop(key)
        for part, hidden in ((open_, False), (sealed, True)):
            if self._suspects[hidden]:
                for key, value in part.items():
                    part[key] = self.value(value, f"{name}.{key}", sealed=hidden)
        return open_, sealed


# The sealed parts, their members in the order of their names.
class _ActorPart(msgspec.Struct, omit_defaults=True, gc=False):
    """What the actor said and sent."""

    body: JSON = None
    email: str | None = None
    ip: str | None = None
    label: str | None = None
    query: str | None = None
    reason: str | None = None
    user_agent: str | None = None


class _DataPart(msgspec.Struct, omit_defaults=True, gc=False):
    """What it was about."""

    changes: dict[str, JSON] | None = None
    data: dict[str, JSON] | None = None
    labels: dict[str, list[str | None]] | None = None
    target_label: str | None = None


def _actor_part(scrubbed: _Scrubbed, actor: Actor, request: Request) -> _ActorPart:
    return _ActorPart(
        label=scrubbed.text(actor.label, "actor.label"),
        email=scrubbed.text(actor.email, "actor.email"),
        ip=request.ip,
        user_agent=scrubbed.text(request.user_agent, "request.user_agent"),
        query=scrubbed.query(request.query, "request.query"),
        body=scrubbed.value(request.body, "request.body", sealed=True),
        reason=scrubbed.text(scrubbed.event.reason, "reason"),
    )


def _data_part(scrubbed: _Scrubbed) -> _DataPart:
    event = scrubbed.event
    labels = event.labels and {
        name: [scrubbed.text(label, f"labels.{name}") for label in pair]
        for name, pair in event.labels.items()
    }
    if scrubbed.theirs:
        texts = scrubbed.sealed_data.get("labels")
        labels, texts = left_out(labels, texts, scrubbed.theirs)
        if texts is not None:
            scrubbed.sealed_data["labels"] = texts
    return _DataPart(
        target_label=scrubbed.text(event.target.label if event.target else None, "target.label"),
        changes=scrubbed.sealed_changes or None,
        labels=labels or None,
        data=scrubbed.sealed_data or None,
    )
