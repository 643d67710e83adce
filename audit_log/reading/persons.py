"""Whatever the log holds of one person: what they did, and what was recorded about them.

A person is named as the records name them: `app.model:id` (the model that `subject=` leads to, the
user model for users), or `subject:value`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.apps import apps
from django.db.models import BinaryField, Count, Model, Q, QuerySet
from django.db.models.functions import Substr

from audit_log.conf import get_settings
from audit_log.exceptions import ConfigurationError
from audit_log.ledger.records import PERSONS
from audit_log.models import DataKey, Record, Stream
from audit_log.privacy.data_keys import subject_scope
from audit_log.privacy.detectors import scrub
from audit_log.privacy.encryption import KEY_ID_AT, KEY_ID_BYTES, fingerprint
from audit_log.recording.subjects import person_type
from audit_log.recording.values import clean

SUBJECT: Final = "subject"  # the target's type of bookkeeping about a person
_PAGE: Final = 20_000
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Person:
    """A subject, and the keys (ids) that what is sealed of them stands under."""

    subject: str
    keys: tuple[bytes, ...]
    erased_at: datetime | None

    @property
    def user_id(self) -> str | None:
        """Their id as an actor; None for who is no user."""
        kind, _, id_ = self.subject.partition(":")
        return id_ if kind == get_settings().user_model.lower() else None

    @property
    def acting(self) -> Q:
        """The records of what they did."""
        if self.user_id is None:
            return Q(pk__in=[])
        return Q(actor_id=self.user_id, actor_type__in=sorted(PERSONS))

    @property
    def targeted(self) -> Q:
        """The records about the object that they are, and about the log's record of them."""
        kind, _, id_ = self.subject.partition(":")
        return Q(target_type=kind, target_id=id_) & ~Q(target_type=SUBJECT) | Q(
            target_type=SUBJECT, target_id=self.subject
        )

    def is_target(self, row: Record) -> bool:
        """Whether a record is one of these."""
        named = f"{row.target_type}:{row.target_id}"
        return self.subject == (row.target_id if row.target_type == SUBJECT else named)


def named(name: str) -> str:
    """The subject that somebody named, in its one spelling. Raises ConfigurationError.

    `user:42` is the user 42, whatever the user model is called; of a proxy or a child table it is
    the person whose row that is. What follows `subject:` is taken as it stands.
    """
    kind, separator, id_ = clean(name).partition(":")
    kind = kind.strip().lower()
    if kind != SUBJECT:
        id_ = id_.strip()
    if not separator or not id_:
        raise ConfigurationError(
            f"{name!r} names nobody: write app.model:id (user:42 for a user), or subject:value "
            "where `subject=` names a plain field."
        )
    if kind == "user":
        return f"{get_settings().user_model.lower()}:{id_}"
    if kind == SUBJECT:
        return f"{kind}:{id_}"
    return f"{person_type(_model(kind, name))}:{id_}"


def _model(label: str, name: str) -> type[Model]:
    app, _, model = label.partition(".")
    for config in apps.get_app_configs():
        if config.label.lower() == app:
            with suppress(LookupError):
                return config.get_model(model)
    raise ConfigurationError(
        f"{name!r}: there is no model {label!r}. Write app.model:id, or subject:value."
    )


def find(subject: str, using: str) -> Person:
    """What is known of a person's keys."""
    rows = list(DataKey.objects.using(using).filter(scope=subject_scope(subject)))
    erased = max((row.destroyed_at for row in rows if row.destroyed_at), default=None)
    return Person(subject, tuple(row.pk.bytes for row in rows), erased)


def pages(person: Person, using: str, progress: Progress) -> Iterator[QuerySet[Record]]:
    """Their records, of 20,000 numbers a page: no index leads from a key to what is under it."""
    for stream in Stream.objects.using(using).order_by("name"):
        for start in range(stream.purged, stream.size, _PAGE):
            end = min(start + _PAGE, stream.size)
            rows = _annotated(Record.objects.using(using))
            theirs = person.acting | person.targeted | _under(person, *_COLUMNS)
            yield rows.filter(theirs, stream=stream.name, sequence__gte=start, sequence__lt=end)
            progress(stream.name, end, stream.size)


def acted(person: Person, using: str) -> Iterator[QuerySet[Record]]:
    """The records of what they did, in one query set or several.

    An id that looks like an e-mail address or a card number was masked, so it finds nothing, or
    others: then the key tells.
    """
    masked, _ = scrub(person.user_id or "", personal=True, fingerprint=fingerprint)
    if masked == (person.user_id or ""):
        yield Record.objects.using(using).filter(person.acting)
        return
    for rows in pages(person, using, lambda _stream, _done, _size: None):
        yield rows.filter(_under(person, "sealed_actor"))


@dataclass(slots=True)
class Counts:
    """Records by what they are of a person: one may be several of these."""

    records: int = 0
    acted: int = 0
    actor_sealed: int = 0
    data_sealed: int = 0

    def add(self, page: dict[str, Any]) -> None:
        """Count a page in."""
        for name in ("records", "acted", "actor_sealed", "data_sealed"):
            setattr(self, name, getattr(self, name) + page[name])


def count(person: Person, using: str, progress: Progress) -> Counts:
    """How many records there are of a person, in constant memory."""
    found = Counts()
    for rows in pages(person, using, progress):
        found.add(
            rows.aggregate(
                records=Count("pk"),
                acted=Count("pk", filter=person.acting),
                actor_sealed=Count("pk", filter=_under(person, "sealed_actor")),
                data_sealed=Count("pk", filter=_under(person, "sealed_data")),
            )
        )
    return found


_COLUMNS: Final = ("sealed_actor", "sealed_data")


def _annotated(rows: QuerySet[Record]) -> QuerySet[Record]:
    return rows.annotate(
        **{
            f"{column}_key": Substr(column, KEY_ID_AT, KEY_ID_BYTES, output_field=BinaryField())
            for column in _COLUMNS
        }
    )


def _under(person: Person, *columns: str) -> Q:
    """What is sealed under one of their keys, in one of the columns."""
    found = Q(pk__in=[])
    for column in columns if person.keys else ():
        found |= Q(**{f"{column}_key__in": person.keys})
    return found
