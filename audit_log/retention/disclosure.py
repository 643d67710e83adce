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
from hashlib import file_digest
from itertools import islice
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.core.exceptions import FieldDoesNotExist
from django.db.models import Model

from audit_log.conf import get_settings
from audit_log.events import Target, format_time
from audit_log.exceptions import (
    AuditLogError,
    DecryptionError,
    Erased,
    KeysUnavailable,
    PartDamaged,
    TamperedValue,
    UnknownKey,
)
from audit_log.ledger import theirs
from audit_log.ledger.records import PERSONS, SEALED_COLUMNS
from audit_log.models import ArchivePart, DataKey, Record, Stream
from audit_log.privacy import data_keys
from audit_log.privacy.encryption import key_id_of, open_sealed, place_of
from audit_log.reading import persons
from audit_log.reading.persons import Person, Progress
from audit_log.recording.subjects import is_person, person_type, subject_of_target
from audit_log.recording.targets import model_of
from audit_log.retention import bookkeeping, policy
from audit_log.retention.parts import Line, read_part
from audit_log.retention.stores import Store

ACTION: Final = "audit_log.exported"
_CHUNK: Final = 500
_PAIR: Final = 2
_GONE: Final = (ArchivePart.State.PURGING, ArchivePart.State.PURGED)
_ENVELOPE: Final = (
    *("action", "outcome", "source", "service", "tenant", "request_id", "method", "route", "path"),
    *("status", "affected", "changed_fields"),
)


@dataclass(slots=True)
class Disclosure:
    """What there is of a person. `entries` is read once, in constant memory; `count` follows it.

    `unread` says what could not be read or opened, and why.
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
        reader = _Reader(self.person, self.using, self.unread)
        purged = self._purged()
        for chunk in self._archived():
            yield from self._counted(reader.entries(chunk))
        for page in persons.pages(self.person, self.using, self.progress):
            rows = page.order_by("sequence").iterator(chunk_size=_CHUNK)
            while some := list(islice(rows, _CHUNK)):
                yield from self._counted(reader.entries(some))
        if self._purged() != purged:
            self.unread.append("Records were purged while this was written: some are left out.")

    def _purged(self) -> dict[str, int]:
        return dict(Stream.objects.using(self.using).values_list("name", "purged"))

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
            try:
                yield from self._lines_of(part, store)
            except AuditLogError as error:
                self.unread.append(f"{part.store}/{part.key}: {error}")
            self.progress(part.key, part.count, part.count)

    def _lines_of(self, part: ArchivePart, store: Store) -> Iterator[list[Record]]:
        with store.open(part.key) as file:
            if file_digest(file, "sha256").hexdigest() != part.sha256:  # type: ignore[arg-type]
                raise PartDamaged("It is not what was archived there: its checksum is another.")
        with store.open(part.key) as file:
            lines = (line for line in read_part(file) if part.purged_through is not None)
            gone = (line for line in lines if line.sequence < (part.purged_through or 0))
            theirs = (row for row in map(_record_of, gone) if self._is_theirs(row))
            while chunk := list(islice(theirs, _CHUNK)):
                yield chunk

    def _is_theirs(self, row: Record) -> bool:
        return bool(_roles(row, self.person))


def of(name: str, using: str, progress: Progress) -> Disclosure:
    """What there is of a person. It is on record first. Raises ConfigurationError for no name."""
    person = persons.find(persons.named(name), using)
    target = Target(type=persons.SUBJECT, id=person.subject)
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
    is_named = row.actor_id == person.user_id and row.actor_type in PERSONS
    is_sealed = person.user_id is not None and _key_of(row, "sealed_actor") in person.keys
    if person.user_id is not None and (is_named or is_sealed):
        found.append("actor")
    if {_key_of(row, column) for column in SEALED_COLUMNS} & {*person.keys}:
        found.append("subject")
    if person.is_target(row):
        found.append("object")
    return found


class _Reader:
    """Opens what is the person's, and what is nobody's in particular."""

    def __init__(self, person: Person, using: str, unread: list[str]) -> None:
        self.person = person
        self.unread = unread
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
        changes, open_data = _mapping(row.changes), _mapping(row.data)
        if self._is_of_another(row):
            if changes or open_data:
                closed.append("changes, data: the data of another person")
            data, changes, open_data = {}, {}, {}
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
            "changes": {**changes, **data.get("changes", {})},
            "labels": self._labels(row, data.get("labels"), changes),
            "data": _without_members({**open_data, **data.get("data", {})}),
            "redactions": row.redactions,
            "closed": closed,
        }
        return {name: value for name, value in found.items() if value not in (None, {}, [])}

    def _is_of_another(self, row: Record) -> bool:
        """Whether a record is about another person; what is open tells it by the target only."""
        key = _key_of(row, "sealed_data")
        if key is not None and (key in self.person.keys or self.others.get(key)):
            return key not in self.person.keys
        about = subject_of_target(Target(row.target_type or "", row.target_id))
        return about not in {None, self.person.subject}

    def _labels(self, row: Record, labels: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
        """What references were called, but for what they call other people."""
        return {
            name: pair
            for name, pair in _mapping(labels).items()
            if (kind := _person_of(row, name)) is None
            or f"{kind}:{_last(changes.get(name))}" == self.person.subject
        }

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
        except KeysUnavailable:
            raise  # not to be taken for all there is
        except (DecryptionError, ValueError) as error:
            closed.append(f"{column}: {error}")
            if not isinstance(error, Erased) and str(error) not in self.unread:
                self.unread.append(str(error))
            return {}
        opened = _mapping(value)
        theirs.put_back(opened, row.pk, self._own_cipher)  # what others are called stays closed
        return opened

    def _own_cipher(self, key_id: bytes) -> AESGCM:
        if key_id not in self.person.keys:
            raise UnknownKey("The data of another person.")
        return data_keys.cipher_for(key_id, self.using)


def _person_of(row: Record, field: str) -> str | None:
    """What a person is called whom a foreign key of the target leads to; None if to none."""
    if (model := model_of(row.target_type)) is None:
        return None
    try:
        related = model._meta.get_field(field).related_model
    except FieldDoesNotExist:
        return None  # a field of the past
    if not isinstance(related, type) or not issubclass(related, Model):
        return None
    return person_type(related) if is_person(related) else None


def _last(pair: Any) -> Any:
    return pair[1] if isinstance(pair, list) and len(pair) == _PAIR else None


def _without_members(data: dict[str, Any]) -> dict[str, Any]:
    """What is said of a many-to-many field, without what people on its other side are called."""
    model = model_of(data.get("type")) if "labels" in data else None
    if model is None or not is_person(model):
        return data
    return {name: value for name, value in data.items() if name != "labels"}


def _mapping(value: object) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}
