"""Data-encryption keys: made when first needed, kept wrapped, cached opened for minutes.

A person's key is theirs alone, so that destroying it erases them. Everything else shares a key per
stream and month.
"""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.db import IntegrityError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from audit_log import conf
from audit_log.events import emitter
from audit_log.exceptions import DecryptionError, Erased, UnknownKey
from audit_log.models import DataKey
from audit_log.privacy.encryption import DATA_KEY, key_ring

_CACHE_SECONDS: Final = 300  # how long a destroyed key may still be known to this process
_CACHE_ENTRIES: Final = 4096
_MAX_SUBJECT: Final = 240
RENEW_AFTER: Final = 1 << 30  # records; a GCM key must not seal 2**31 values under random nonces


@dataclass(frozen=True, slots=True)
class OpenKey:
    """A key ready for use, and until when."""

    id: bytes
    cipher: AESGCM
    since: int
    expires: float
    erased: datetime | None = None  # what happened until then is not to be sealed under it


_by_scope: dict[str, OpenKey] = {}
_by_id: dict[bytes, OpenKey] = {}


@conf.on_change
def forget() -> None:
    """Drop every opened key: they are read again when needed."""
    _by_scope.clear()
    _by_id.clear()


def subject_scope(subject: str) -> str:
    """The scope of a person's key. Long names are cut, but so that two never share a key."""
    if len(subject) > _MAX_SUBJECT:
        subject = f"{subject[:150]}…{hashlib.sha256(subject.encode()).hexdigest()}"
    return f"subject:{subject}"


def stream_scope(stream: str, moment: datetime) -> str:
    """The scope of what belongs to nobody in particular."""
    return f"stream:{stream}:{moment.year}-{moment.month:02}"  # "%Y-%m" takes ten times as long


def key_for(scope: str, using: str, size: int, moment: datetime | None = None) -> OpenKey:
    """The key to seal with; `size` is the stream's length.

    `moment` is when what is to be sealed happened. What happened before its person was erased (or
    at an unknown time) raises Erased: it waited in an outbox meanwhile, and is not to be readable
    again. What happens later gets a new key. A new key is committed on its own before anything is
    sealed under it.
    """
    cached = _by_scope.get(scope)
    now = time.monotonic()
    if cached is not None and cached.expires > now and size - cached.since < RENEW_AFTER:
        _refuse_erased(cached.erased, moment)
        return cached
    rows = list(DataKey.objects.using(using).filter(scope=scope).order_by("generation"))
    row, erased = (rows[-1], _erased(rows)) if rows else (None, None)
    _refuse_erased(erased, moment)
    if row is None or row.wrapped is None or size - row.since >= RENEW_AFTER:
        row = _create(scope, 0 if row is None else row.generation + 1, size, using)
    return _use(row, using, erased)


def _erased(rows: Iterable[DataKey]) -> datetime | None:
    """When the person of these keys was erased, the last time."""
    return max((row.destroyed_at for row in rows if row.destroyed_at), default=None)


def _refuse_erased(erased: datetime | None, moment: datetime | None) -> None:
    if erased is not None and (moment is None or moment <= erased):
        raise Erased(erased)


def cipher_for(key_id: bytes, using: str) -> AESGCM:
    """The cipher to open a sealed value with. Raises UnknownKey."""
    cached = _by_id.get(key_id)
    if cached is not None and cached.expires > time.monotonic():
        return cached.cipher
    row = DataKey.objects.using(using).filter(pk=uuid.UUID(bytes=key_id)).first()
    if row is None:
        raise UnknownKey(f"There is no data key {uuid.UUID(bytes=key_id)}.")
    return _open(row, using).cipher


def preload(key_ids: Iterable[bytes], using: str) -> dict[bytes, AESGCM | DecryptionError]:
    """Open many keys with one query, for a page of records; or why one cannot be opened.

    Those that are nowhere are left out.
    """
    now = time.monotonic()
    found: dict[bytes, AESGCM | DecryptionError] = {}
    wanted = set()
    for id_ in key_ids:
        cached = _by_id.get(id_)
        if cached is not None and cached.expires > now:
            found[id_] = cached.cipher
        else:
            wanted.add(uuid.UUID(bytes=id_))
    if wanted:
        for row in DataKey.objects.using(using).filter(pk__in=wanted):
            try:
                found[row.pk.bytes] = _open(row, using).cipher
            except DecryptionError as error:
                found[row.pk.bytes] = error
    return found


def refresh(scopes: Iterable[str], using: str) -> None:
    """Read the keys of a claim with one query, and forget those that are gone by now.

    The cache may hold what another process has destroyed, or what a flushed or restored database
    has never heard of; nothing may be sealed under either.
    """
    wanted = set(scopes)
    latest: dict[str, DataKey] = {}
    erased: dict[str, datetime] = {}
    for row in DataKey.objects.using(using).filter(scope__in=wanted).order_by("generation"):
        latest[row.scope] = row
        if row.destroyed_at is not None:
            erased[row.scope] = max(row.destroyed_at, erased.get(row.scope, row.destroyed_at))
            _by_id.pop(row.pk.bytes, None)
    for scope in wanted:
        cached, newest = _by_scope.get(scope), latest.get(scope)
        usable = newest is not None and newest.wrapped is not None
        if cached is not None and (newest is None or not usable or newest.pk.bytes != cached.id):
            _by_scope.pop(scope, None)
            _by_id.pop(cached.id, None)
        if newest is not None and usable and scope not in _by_scope:
            with suppress(DecryptionError):  # `key_for` says so to whoever needs it
                _use(newest, using, erased.get(scope))


def _use(row: DataKey, using: str, erased: datetime | None) -> OpenKey:
    """Open the newest key of its scope, to seal with."""
    opened = replace(_open(row, using), erased=erased)
    if opened.id in _by_id:
        _by_scope[row.scope] = opened
    return opened


def destroy(
    scope: str, moment: datetime, using: str, *, only: Collection[uuid.UUID] | None = None
) -> list[uuid.UUID]:
    """Destroy the keys of a scope, or `only` some, in the open transaction.

    Returns the ids of those that were there to be destroyed. Where that is none, the scope gets a
    destroyed one of this moment, so that what still waits somewhere is known to be of an erased
    person: nobody, or somebody who came back, may have done it without a key so far.
    """
    known = DataKey.objects.using(using).filter(scope=scope).order_by("generation")
    while True:
        rows = list(known.select_for_update())
        alive = [
            row for row in rows if row.wrapped is not None and (only is None or row.pk in only)
        ]
        for row in alive:
            row.wrapped, row.destroyed_at = None, moment
            row.save(using=using, update_fields=["wrapped", "destroyed_at"])
        generation = rows[-1].generation + 1 if rows else 0
        if alive or _insert_tombstone(scope, generation, moment, using):
            forget()
            return [row.pk for row in alive]


def _insert_tombstone(scope: str, generation: int, moment: datetime, using: str) -> bool:
    """False where a relay has made a key of that generation meanwhile."""
    id_, now = emitter().stamp()
    row = DataKey(id=id_, scope=scope, generation=generation, created_at=now, destroyed_at=moment)
    try:
        with transaction.atomic(using=using):
            row.save(using=using, force_insert=True)
    except IntegrityError:
        return False
    return True


def _open(row: DataKey, using: str) -> OpenKey:
    if row.wrapped is None:
        if row.destroyed_at is None:
            raise UnknownKey(f"The data key {row.pk} is gone, and nobody was erased.")
        raise Erased(row.destroyed_at)
    secret = key_ring().decrypt(DATA_KEY, bytes(row.wrapped), row.pk.bytes)
    opened = OpenKey(row.pk.bytes, AESGCM(secret), row.since, time.monotonic() + _CACHE_SECONDS)
    if _in_test_case(transaction.get_connection(using)):
        return opened  # its row vanishes with the test
    if len(_by_id) >= _CACHE_ENTRIES:
        forget()
    _by_id[opened.id] = opened
    return opened


def _create(scope: str, generation: int, size: int, using: str) -> DataKey:
    id_, now = emitter().stamp()
    row = DataKey(
        id=id_,
        scope=scope,
        generation=generation,
        since=size,
        wrapped=key_ring().encrypt(DATA_KEY, os.urandom(conf.KEY_BYTES), id_.bytes),
        created_at=now,
    )
    connection = transaction.get_connection(using)
    try:
        _insert_apart(row, connection)
    except IntegrityError:
        # Another relay made it first; theirs is committed, so read it.
        return DataKey.objects.using(using).get(scope=scope, generation=generation)
    return row


def _insert_apart(row: DataKey, connection: BaseDatabaseWrapper) -> None:
    """In a transaction of its own, even while the relay's is open.

    Were the key to roll back with the relay's batch, values sealed under it elsewhere would be
    lost. SQLite has one writer, so there the relay seals before it begins its transaction.
    """
    if not connection.in_atomic_block:
        row.save(using=connection.alias, force_insert=True)
        return
    if connection.vendor == "sqlite" or _in_test_case(connection):
        with transaction.atomic(using=connection.alias):
            row.save(using=connection.alias, force_insert=True)
        return
    apart = connection.copy()
    try:
        columns = list(row._meta.concrete_fields)
        quote = connection.ops.quote_name
        with apart.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO {quote(row._meta.db_table)} "  # noqa: S608 - our own names
                f"({', '.join(quote(str(field.column)) for field in columns)}) "
                f"VALUES ({', '.join(['%s'] * len(columns))})",
                [field.get_db_prep_save(getattr(row, field.attname), apart) for field in columns],
            )
    finally:
        apart.close()


def _in_test_case(connection: BaseDatabaseWrapper) -> bool:
    """Inside Django's TestCase the outermost block never commits; what we add must vanish too."""
    return bool(getattr(connection, "atomic_blocks", None)) and any(
        getattr(block, "_from_testcase", False) for block in connection.atomic_blocks
    )
