"""Everything the log holds of one person, for that person (GDPR Art. 15).

From the database, and from the parts of the archive whose records have left it. Other people's data
stay out of it: who else acted is told by kind only, and what is sealed under another person's key
is not opened.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

from audit_log.conf import get_settings
from audit_log.events import Target, format_time
from audit_log.exceptions import DecryptionError, TamperedValue
from audit_log.ledger.records import PERSONS, SEALED_COLUMNS
from audit_log.models import ArchivePart, DataKey, Record
from audit_log.privacy import data_keys
from audit_log.privacy.encryption import key_id_of, open_sealed, place_of
from audit_log.reading import persons
from audit_log.reading.persons import Person, Progress
from audit_log.retention import bookkeeping, policy
from audit_log.retention.parts import Line, read_part

ACTION: Final = "audit_log.exported"
_CHUNK: Final = 500
_GONE: Final = (ArchivePart.State.PURGING, ArchivePart.State.PURGED)
_ENVELOPE: Final = (
    *("action", "outcome", "source", "service", "tenant", "request_id", "method", "route", "path"),
    *("status", "affected", "changed_fields"),
)


@dataclass(slots=True)
class Disclosure:
    """What there is of a person. `entries` is read once, in constant memory; `count` follows it.

    `unread` says which archived parts could not be read, and why.
    """

    person: Person
    using: str
    progress: Progress
    count: int = 0
    unread: list[str] = field(default_factory=list)

    @property
    def head(self) -> dict[str, Any]:
        """What the export says of itself."""
        return {
            "subject": self.person.subject,
            "service": get_settings().service,
            "generated_at": format_time(datetime.now(UTC)),
            "erased_at": self.person.erased_at and format_time(self.person.erased_at),
            "about": (
                "Everything the audit log holds of this person: what they did (role actor), what "
                "was recorded as their data (role subject), and what was done to the record of "
                "them (role object). Data of other people are left out."
            ),
        }

    def entries(self) -> Iterator[dict[str, Any]]:
        """Their records, as JSON has them, oldest first within a stream."""
        reader = _Reader(self.person, self.using)
        for chunk in self._archived():
            yield from self._counted(reader.entries(chunk))
        for page in persons.pages(self.person, self.using, self.progress):
            rows = page.order_by("sequence").iterator(chunk_size=_CHUNK)
            while some := list(islice(rows, _CHUNK)):
                yield from self._counted(reader.entries(some))

    def _counted(self, found: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for entry in found:
            self.count += 1
            yield entry

    def _archived(self) -> Iterator[list[Record]]:
        store = policy.open_store()
        parts = ArchivePart.objects.using(self.using).filter(state__in=_GONE).exclude(key="")
        for part in parts.order_by("stream", "first"):
            if store is None or part.store != store.name:
                self.unread.append(f"{part.store}/{part.key}: ARCHIVE does not name that place.")
                continue
            with store.open(part.key) as file:
                lines = (line for line in read_part(file) if part.purged_through is not None)
                gone = (line for line in lines if line.sequence < (part.purged_through or 0))
                theirs = (row for row in map(_record_of, gone) if self._is_theirs(row))
                while chunk := list(islice(theirs, _CHUNK)):
                    yield chunk
            self.progress(part.key, part.count, part.count)

    def _is_theirs(self, row: Record) -> bool:
        return bool(_roles(row, self.person))


def of(name: str, using: str, progress: Progress) -> Disclosure:
    """What there is of a person. It is on record first. Raises ConfigurationError for no name."""
    person = persons.find(persons.named(name), using)
    target = Target(type="subject", id=person.subject)
    bookkeeping.say(ACTION, {"subject": person.subject}, using, target=target)
    return Disclosure(person, using, progress)


def _record_of(line: Line) -> Record:
    """An archived line as the row that it was."""
    columns = line.columns()
    known = {field.attname for field in Record._meta.concrete_fields}
    values = {name: value for name, value in columns.items() if name in known}
    for name in ("occurred_at", "recorded_at"):
        values[name] = datetime.fromisoformat(values[name])
    values |= {"id": uuid.UUID(values["id"]), "changes": line.changes, "data": line.data}
    return Record(**{**values, "sealed_actor": line.sealed_actor, "sealed_data": line.sealed_data})


def _key_of(row: Record, column: str) -> bytes | None:
    sealed = getattr(row, column)
    if not sealed:
        return None
    with suppress(TamperedValue):
        return key_id_of(bytes(sealed))
    return None


def _roles(row: Record, person: Person) -> list[str]:
    found = []
    if person.user_id is not None and row.actor_id == person.user_id and row.actor_type in PERSONS:
        found.append("actor")
    if {_key_of(row, column) for column in SEALED_COLUMNS} & {*person.keys}:
        found.append("subject")
    if f"{row.target_type}:{row.target_id}" == person.subject:
        found.append("object")
    return found


class _Reader:
    """Opens what is the person's, and what is nobody's in particular."""

    def __init__(self, person: Person, using: str) -> None:
        self.person = person
        self.using = using
        self.others: dict[bytes, bool] = {}  # whether a key is another person's

    def entries(self, rows: list[Record]) -> Iterator[dict[str, Any]]:
        keys = {_key_of(row, column) for row in rows for column in SEALED_COLUMNS} - {None}
        self._learn({key for key in keys if key is not None} - {*self.others})
        data_keys.preload([key for key in keys if key is not None], self.using)
        return map(self._entry, rows)

    def _learn(self, keys: set[bytes]) -> None:
        found = DataKey.objects.using(self.using).filter(pk__in=[uuid.UUID(bytes=k) for k in keys])
        scopes = {pk.bytes: scope for pk, scope in found.values_list("pk", "scope")}
        for key in keys:
            personal = scopes.get(key, "").startswith("subject:")
            self.others[key] = personal and key not in self.person.keys

    def _entry(self, row: Record) -> dict[str, Any]:
        roles = _roles(row, self.person)
        closed: list[str] = []
        actor = self._opened(row, "sealed_actor", closed) if "actor" in roles else {}
        data = self._opened(row, "sealed_data", closed)
        found = {
            "id": str(row.pk),
            "stream": row.stream,
            "sequence": row.sequence,
            "time": format_time(row.occurred_at),
            "roles": roles,
            **{name: getattr(row, name) for name in _ENVELOPE},
            "actor": {"type": row.actor_type, **({"id": row.actor_id} if actor else {}), **actor},
            "target": {
                "type": row.target_type,
                "id": row.target_id,
                "label": data.get("target_label"),
            },
            "changes": {**_mapping(row.changes), **data.get("changes", {})},
            "labels": data.get("labels"),
            "data": {**_mapping(row.data), **data.get("data", {})},
            "redactions": row.redactions,
            "closed": closed,
        }
        return {name: value for name, value in found.items() if value not in (None, {}, [])}

    def _opened(self, row: Record, column: str, closed: list[str]) -> dict[str, Any]:
        key = _key_of(row, column)
        if key is None:
            return {}
        if self.others.get(key):
            closed.append(f"{column}: the data of another person")
            return {}
        try:
            plain = open_sealed(
                bytes(getattr(row, column)),
                lambda id_: data_keys.cipher_for(id_, self.using),
                place_of(row.pk, column),
            )
            value = json.loads(plain)
        except (DecryptionError, ValueError) as error:
            closed.append(f"{column}: {error}")
            return {}
        return _mapping(value)


def _mapping(value: object) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}
