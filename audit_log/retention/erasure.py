"""Erasing a person: their keys are destroyed, so that nothing of theirs can be opened again.

Neither a record nor an archived part is touched: both hold ciphertext, and the only copies of the
keys are in the database. The tree, and every proof, stay as they are. The tokens that find a
person's records by label or address go as well. Whoever restores an old backup gets the keys back;
so each erasure is also a certificate, kept beside the archive, that puts it into force again.
"""

from __future__ import annotations

import io
import logging
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final

from django.db import DatabaseError, transaction
from django.db.models import Q, QuerySet

from audit_log.delivery import relay
from audit_log.delivery.parking import reason_of
from audit_log.events import Target
from audit_log.exceptions import AlreadyThere, AuditLogError, ErasureRefused, InvalidProof
from audit_log.ledger import checkpoints, heads
from audit_log.ledger.records import TOKENS
from audit_log.models import ArchivePart, DataKey, LegalHold, Record
from audit_log.privacy.data_keys import destroy, subject_scope
from audit_log.reading import persons
from audit_log.reading.persons import Counts, Person, Progress
from audit_log.retention import bookkeeping, holds, policy
from audit_log.retention.certificates import ACTION, Certificate, Facts, certify
from audit_log.retention.steps import read_small
from audit_log.retention.stores import Store
from audit_log.router import ledger_alias

logger = logging.getLogger("audit_log")

_BATCH: Final = 5_000
_RELAY_SECONDS: Final = 60.0
_FOLDER: Final = "erasures"
_LATE: Final = timedelta(days=2)  # a relay that was at work meanwhile has long ended


def _silent(_stream: str, _done: int, _size: int) -> None:
    pass


@dataclass(slots=True)
class Plan:
    """What an erasure would make unreadable, and what stands in its way."""

    person: Person
    counts: Counts
    keys: int
    parts: int
    holds: list[LegalHold] = field(default_factory=list)


@dataclass(slots=True)
class Erasure:
    """What was done. `certificate` is None until the log's head is signed (`why` says more)."""

    record: uuid.UUID
    keys: int
    tokens: int
    certificate: Certificate | None = None
    why: str = ""


def plan(name: str, using: str | None = None, *, progress: Progress = _silent) -> Plan:
    """What erasing this person would do. Raises ConfigurationError for a name that is none."""
    using = using or ledger_alias()
    person = persons.find(persons.named(name), using)
    alive = DataKey.objects.using(using).filter(
        scope=subject_scope(person.subject), wrapped__isnull=False
    )
    parts = ArchivePart.objects.using(using).exclude(key="")
    return Plan(
        person,
        persons.count(person, using, progress),
        keys=alive.count(),
        parts=parts.count(),
        holds=list(holds.standing(using, person.subject)),
    )


def erase(name: str, reason: str, using: str | None = None) -> Erasure:
    """Destroy a person's keys, on record. Raises ErasureRefused under a hold, or without a reason.

    All of it is one transaction, but for the tokens, which go in batches: repeated, it goes on.
    """
    using = using or ledger_alias()
    subject = persons.named(name)
    if not reason.strip():
        raise ErasureRefused("An erasure needs a reason: who asked for it, and when.")
    person = persons.find(subject, using)
    moment = datetime.now(UTC)
    with transaction.atomic(using=using):
        holds.take_turns(using)
        _refuse_held(subject, using)
        keys = destroy(subject_scope(subject), moment, using)
        record = _record(Facts.of(subject, moment, keys), reason, using)
    done = Erasure(record, len(keys), drop_tokens(person, using))
    _certify(done, using)
    return done


def _refuse_held(subject: str, using: str) -> None:
    found = list(holds.standing(using, subject).select_for_update())  # as they are now
    if found:
        reasons = "; ".join(
            f"hold {hold.pk}, since {hold.placed_at:%Y-%m-%d}: {hold.reason}" for hold in found
        )
        raise ErasureRefused(
            f"A legal hold stands on {subject} ({reasons}). Nothing was erased: lift it first, by "
            "`manage.py audit_log hold lift`."
        )


def _record(facts: Facts, reason: str | None, using: str) -> uuid.UUID:
    target = Target(type=persons.SUBJECT, id=facts.subject)
    return bookkeeping.say(ACTION, facts.data(), using, target=target, reason=reason)


def drop_tokens(person: Person, using: str) -> int:
    """Null the blind indexes of what a person did. How many records had some."""
    if person.user_id is None:
        return 0
    some = Q()
    for token in TOKENS:
        some |= Q(**{f"{token}__isnull": False})
    rows: QuerySet[Record] = QuerySet(Record, using=using)  # the manager's own refuses to update
    done = 0
    for theirs in persons.acted(person, using):
        while ids := list(theirs.filter(some).values_list("pk", flat=True)[:_BATCH]):
            done += rows.filter(pk__in=ids).update(**dict.fromkeys(TOKENS))
    return done


def _certify(done: Erasure, using: str) -> None:
    """Store and sign what says so, and put the certificate beside the archive.

    None of it undoes the erasure: what fails now is done by the next relay and the next night.
    """
    try:
        relay.relay(using, seconds=_RELAY_SECONDS)
        checkpoints.sign(heads.BOOKKEEPING, using)
        done.certificate = certify(done.record, using)
        if (store := policy.open_store()) is not None:
            _publish([done.record], store, using)
    except (AuditLogError, DatabaseError, Record.DoesNotExist) as error:
        done.why = reason_of(error)
        logger.warning("The certificate of erasure %s has to wait: %s", done.record, error)


def certificate(record: uuid.UUID, using: str | None = None) -> Certificate:
    """The certificate of an erasure. Raises InvalidProof where there is none, or not yet."""
    using = using or ledger_alias()
    try:
        return certify(record, using)
    except Record.DoesNotExist as error:
        raise InvalidProof(f"There is no record {record} of an erasure.") from error


# Beside the archive.


def _folder() -> str:
    place = policy.archive()
    return "/".join(filter(None, (place.prefix if place else "", _FOLDER)))


def _publish(records: Iterable[uuid.UUID], store: Store, using: str) -> None:
    """The certificates of these erasures that are not there yet."""
    there = set(store.names(_folder()))
    for record in records:
        if f"{record}.json" in there:
            continue
        data = certify(record, using).encode()
        key, digest = f"{_folder()}/{record}.json", sha256(data).hexdigest()
        with suppress(AlreadyThere):  # another run was faster
            store.put(key, io.BytesIO(data), size=len(data), sha256=digest)


def _kept(store: Store) -> Iterator[Certificate]:
    """The certificates beside the archive. What is none is logged, and left out."""
    for name in store.names(_folder()):
        try:
            yield Certificate.parse(read_small(store, f"{_folder()}/{name}"))
        except InvalidProof as error:
            logger.error("%s/%s/%s: %s", store.name, _folder(), name, error)  # noqa: TRY400


def settle(using: str | None = None) -> None:
    """Each night: certificates that are missing beside the archive, and tokens that came late.

    A relay that had prepared its records when their person was erased wrote their tokens after.
    """
    using = using or ledger_alias()
    since = datetime.now(UTC) - _LATE
    late = (
        DataKey.objects.using(using).filter(destroyed_at__gte=since).values_list("scope", flat=True)
    )
    for scope in set(late):
        drop_tokens(persons.find(scope.partition(":")[2], using), using)
    store = policy.open_store()
    if store is None:
        return
    rows = Record.objects.using(using).filter(stream=heads.BOOKKEEPING, action=ACTION)
    if ids := list(rows.values_list("pk", flat=True)):
        checkpoints.sign(heads.BOOKKEEPING, using)
        _publish(ids, store, using)


@dataclass(slots=True)
class Reapplied:
    """What putting erasures back into force found."""

    certificates: int = 0
    persons: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def reapply(
    using: str | None = None,
    *,
    given: Iterable[Certificate] = (),
    noticed: Callable[[str], None] = lambda _name: None,
) -> Reapplied:
    """Erase again whom a restored backup brought back, by the certificates given or archived.

    A certificate that no known key signed is refused: whoever can write to the archive must not be
    able to erase anybody.
    """
    using = using or ledger_alias()
    store = policy.open_store()
    known = checkpoints.verifiers()
    result = Reapplied()
    for each in (*given, *(_kept(store) if store is not None else ())):
        result.certificates += 1
        try:
            each.verify(known)
        except InvalidProof as error:
            result.refused.append(f"{each.name}: {error}")
            continue
        noticed(each.subject)
        if _reapply(each.subject, each.facts, using):
            result.persons.append(each.subject)
    return result


def _reapply(subject: str, facts: Facts, using: str) -> bool:
    """Whether anything of that person was there again."""
    ids = {uuid.UUID(key) for key in facts.keys}
    rows = DataKey.objects.using(using)
    scope = rows.filter(pk__in=ids).values_list("scope", flat=True).first()
    scope = scope or subject_scope(subject)
    since = rows.filter(scope=scope, destroyed_at__gte=facts.moment)
    alive = rows.filter(scope=scope, pk__in=ids, wrapped__isnull=False)
    if since.exists() and not alive.exists():
        return False
    with transaction.atomic(using=using):
        keys = destroy(scope, facts.moment, using, only=ids)
        _record(Facts.of(subject, facts.moment, keys, reapplied=True), None, using)
    drop_tokens(persons.find(subject, using), using)
    return True
