"""From an event to the record that is stored: columns, sealed parts, blind indexes, entry.

All of it happens before the stream's head is locked; only the number and the moment are missing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Final

import msgspec
from django.db import DatabaseError

from audit_log.conf import get_settings
from audit_log.events import Actor, Event, Redaction, Request, format_time
from audit_log.exceptions import Erased, KeysUnavailable
from audit_log.ledger import devices, insertion, theirs
from audit_log.ledger.entries import SALT_BYTES, EntryTemplate, Spelling
from audit_log.ledger.envelope import envelope, redactions
from audit_log.ledger.scrubbing import Contents, contents_of_all
from audit_log.privacy import data_keys
from audit_log.privacy.addresses import network_of
from audit_log.privacy.encryption import blind_index, place_of, seal

ERASED: Final = "erased"
PERSONS: Final = frozenset({"user", "admin"})
SEALED_COLUMNS: Final = ("sealed_actor", "sealed_data")
TOKENS: Final = ("actor_token", "ip_token", "net_token", "agent_token")
_NOBODY: Final = Actor()
_NO_REQUEST: Final = Request()

# A few thousand people and pages come again and again.
_network_of = lru_cache(maxsize=1024)(network_of)
_json = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class Place:
    """Where records go: the stream, its length or a little less, and the database."""

    stream: str
    size: int
    using: str

    @cached_property
    def table(self) -> insertion.Table:
        return insertion.table(self.using)


class Prepared(msgspec.Struct, frozen=True, gc=False):
    """A record without its number: by column, as an entry, and as its table takes it.

    Not a model's instance: to make one takes longer than all the rest.
    """

    event: Event
    columns: dict[str, Any]
    entry: EntryTemplate
    row: insertion.Row


def prepare(event: Event, at: Place) -> Prepared:
    """The record of an event. May create data keys."""
    (result,) = prepare_all([(event, at)])
    if isinstance(result, Exception):
        raise result
    return result


def prepare_all(events: Iterable[tuple[Event, Place]]) -> list[Prepared | Exception]:
    """The records of many events, in their order; the error of each that cannot be prepared.

    Every step is done for all of them before the next: the processor then keeps the step's code at
    hand, which takes a third off the time. Raises DatabaseError and KeysUnavailable, which are no
    event's own fault.
    """
    drafts = [_Draft(event, at) for event, at in events]
    _scrub(drafts)
    for step in (_fit, _seal_actor, _seal_data, _tokenise, _enter, _encode):
        for draft in drafts:
            if draft.error is None:
                try:
                    step(draft)
                except (DatabaseError, KeysUnavailable):
                    raise
                except Exception as error:  # noqa: BLE001 - one must not stop the others
                    draft.error = error
    return [draft.error or draft.prepared() for draft in drafts]


class _Draft(msgspec.Struct):
    """An event on its way to a record: each step adds to it.

    The collector sees these: an error's traceback leads back to them.
    """

    event: Event
    at: Place
    error: Exception | None = None
    actor_is_erased: bool = False
    # Unset until their step.
    contents: Contents = msgspec.UNSET  # type: ignore[assignment]
    columns: dict[str, Any] = msgspec.UNSET  # type: ignore[assignment]
    spelling: Spelling = msgspec.UNSET  # type: ignore[assignment]
    entry: EntryTemplate = msgspec.UNSET  # type: ignore[assignment]
    row: insertion.Row = msgspec.UNSET  # type: ignore[assignment]

    def prepared(self) -> Prepared:
        return Prepared(self.event, self.columns, self.entry, self.row)


def _scrub(drafts: Sequence[_Draft]) -> None:
    found = contents_of_all([devices.described(draft.event) for draft in drafts])
    for draft, contents in zip(drafts, found, strict=True):
        if isinstance(contents, Exception):
            draft.error = contents
        else:
            draft.contents = contents


def _fit(draft: _Draft) -> None:
    event, contents = draft.event, draft.contents
    draft.columns = columns = envelope(event, contents)
    columns["id"] = event.id
    columns["version"] = event.version
    columns["stream"] = draft.at.stream
    columns["changed_fields"] = fields = sorted(event.changes) if event.changes else None
    columns["changes"] = contents.changes or None
    columns["data"] = contents.data or None
    columns["redactions"] = marks = redactions(contents.marks)
    draft.spelling = Spelling(
        id=str(event.id),
        occurred_at=format_time(event.occurred_at),
        changed_fields=_json(fields) if fields else b"",
        redactions=_json(marks) if marks else b"",
        changes=contents.encoded_changes,
        data=contents.encoded_data,
    )


def _seal_actor(draft: _Draft) -> None:
    draft.columns["sealed_actor"] = _sealed(draft, "sealed_actor", draft.contents.sealed_actor)


def _seal_data(draft: _Draft) -> None:
    plaintext = draft.contents.sealed_data
    if draft.contents.theirs:
        plaintext = _with_theirs(draft, plaintext)
    draft.columns["sealed_data"] = _sealed(draft, "sealed_data", plaintext)


def _with_theirs(draft: _Draft, plaintext: bytes) -> bytes:
    """What other people are called, under their own keys; whose they are not known is left out."""
    sealed: dict[str, bytes] = {}
    for path, subject, text in draft.contents.theirs:
        if subject is not None and text:
            scope = data_keys.subject_scope(subject)
            if value := _sealed_under(draft, scope, path, text.encode()):
                sealed[path] = value
    return theirs.added(plaintext, sealed) if sealed else plaintext


def _sealed(draft: _Draft, column: str, plaintext: bytes) -> bytes | None:
    if not plaintext:
        return None
    scope = scope_of(draft.event, column, draft.at.stream)
    return _sealed_under(draft, scope, column, plaintext)


def _sealed_under(draft: _Draft, scope: str, place: str, plaintext: bytes) -> bytes | None:
    """Sealed under the key of a scope, for this place of the record; None of an erased person."""
    event, at = draft.event, draft.at
    try:
        key = data_keys.key_for(scope, at.using, at.size, event.occurred_at)
    except Erased:
        _mark_erased(draft, place)
        return None
    return seal(key.id, key.cipher, plaintext, place_of(event.id, place))


def _mark_erased(draft: _Draft, column: str) -> None:
    """What waited while its person was erased is left out, and the record says so."""
    draft.contents.marks.append(Redaction(column, ERASED))
    draft.columns["redactions"] = marks = redactions(draft.contents.marks)
    draft.spelling = msgspec.structs.replace(draft.spelling, redactions=_json(marks))
    draft.actor_is_erased |= column == "sealed_actor"


def _tokenise(draft: _Draft) -> None:
    columns = draft.columns
    if draft.actor_is_erased:
        columns.update(dict.fromkeys(TOKENS))
        return
    actor, request = draft.event.actor or _NOBODY, draft.event.request or _NO_REQUEST
    columns["actor_token"] = blind_index("actor", actor.label)
    columns["ip_token"] = blind_index("ip", request.ip)
    columns["net_token"] = blind_index("net", _network_of(request.ip)) if request.ip else None
    columns["agent_token"] = blind_index("agent", request.user_agent)


def _enter(draft: _Draft) -> None:
    draft.columns["salt"] = os.urandom(SALT_BYTES)
    draft.entry = EntryTemplate(draft.columns, spelling=draft.spelling)


def _encode(draft: _Draft) -> None:
    draft.row = draft.at.table.encode(draft.columns, draft.spelling)


def person(actor_id: str) -> str:
    """What a user is called as a subject: `app.model:id`, as the rows that are theirs say it."""
    return f"{get_settings().user_model.lower()}:{actor_id}"


def scopes_of(event: Event, stream: str) -> set[str]:
    """Every scope whose key a record of the event needs."""
    found = {scope_of(event, column, stream) for column in SEALED_COLUMNS}
    for name in theirs.names_in(event):
        if name.subject is not None:
            found.add(data_keys.subject_scope(name.subject))
    return found


def scope_of(event: Event, column: str, stream: str) -> str:
    """Whose key seals a column: the actor's or the subject's, else the stream's of the month."""
    actor = event.actor
    if column == "sealed_data" and event.subject:
        return data_keys.subject_scope(event.subject)
    if column == "sealed_actor" and actor is not None and actor.id and actor.type in PERSONS:
        return data_keys.subject_scope(person(actor.id))
    return data_keys.stream_scope(stream, event.occurred_at)
