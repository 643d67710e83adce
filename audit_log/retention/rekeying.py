"""Rotation of keys, while workers run: data keys wrapped anew, batches encrypted anew, new tokens.

No record changes but for its tokens, which are not part of its leaf. Everything can be stopped and
run again: what has been done is not done twice.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from django.db import connections, transaction
from django.db.models import Q, QuerySet

from audit_log.delivery import outboxes
from audit_log.exceptions import DecryptionError, Erased, KeysUnavailable, TamperedValue
from audit_log.ledger.records import TOKENS
from audit_log.models import Cursor, DataKey, Outbox, Record, Stream
from audit_log.models.outbox import Form
from audit_log.privacy import data_keys
from audit_log.privacy.addresses import network_of
from audit_log.privacy.encryption import (
    DATA_KEY,
    blind_index,
    key_id_of,
    key_ring,
    open_sealed,
    place_of,
)
from audit_log.recording import spool
from audit_log.recording.outbox import PURPOSE as OUTBOX
from audit_log.retention import bookkeeping
from audit_log.router import ledger_alias

ACTION: Final = "audit_log.key_rotated"
_PAGE: Final = 500
Progress = Callable[[str, int], None]


@dataclass(slots=True)
class Rekeyed:
    """What was put under the first key of the ring, and why some could not be, by id."""

    name: str
    data_keys: int = 0
    batches: int = 0
    failures: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Usage:
    """What stands under one key of the ring; `name` is None where the settings do not have it."""

    name: str | None
    fingerprint: str
    data_keys: int = 0
    batches: int = 0


def usage(using: str | None = None) -> list[Usage]:
    """What stands under which key: one under which nothing does may leave the settings."""
    using = using or ledger_alias()
    ring = key_ring()
    wrapped = Counter(map(_key_id, _column(DataKey.objects.using(using), "wrapped")))
    batches: Counter[bytes] = Counter()
    for alias in outboxes.aliases():
        waiting = Outbox.objects.using(alias).filter(form=Form.BATCH)
        batches.update(map(_key_id, _column(waiting, "payload")))
    ids = [key.id for key in ring.keys]
    ids += sorted({*wrapped, *batches} - {*ids})
    return [Usage(ring.name_of(i), i.hex(), wrapped[i], batches[i]) for i in ids]


def _column(rows: Any, name: str) -> Any:
    found = rows.filter(**{f"{name}__isnull": False}).order_by("pk").values_list(name, flat=True)
    return found.iterator(chunk_size=_PAGE)


def _key_id(sealed: Any) -> bytes:
    try:
        return key_id_of(bytes(sealed))
    except TamperedValue:
        return b""


def spooled() -> int:
    """How many spool files wait on this machine; what is in them is under the key of its time."""
    return len(spool.waiting())


def rekey(using: str | None = None, *, progress: Progress = lambda _what, _done: None) -> Rekeyed:
    """Put data keys and waiting batches under the first key. Recorded where anything was done.

    Raises KeysUnavailable where the key service does not answer; run again, it goes on.
    """
    using = using or ledger_alias()
    result = Rekeyed(key_ring().first(DATA_KEY).name)
    _rewrap(using, result, progress)
    for alias in outboxes.aliases():
        _encrypt_again(alias, result, progress)
    if result.data_keys or result.batches:
        data = {"key": result.name, "data_keys": result.data_keys, "batches": result.batches}
        with transaction.atomic(using=using):
            bookkeeping.say(ACTION, data, using)
    return result


def _rewrap(using: str, result: Rekeyed, progress: Progress) -> None:
    ring, last = key_ring(), uuid.UUID(int=0)
    first = ring.first(DATA_KEY).id
    rows = DataKey.objects.using(using).filter(wrapped__isnull=False).order_by("pk")
    while page := list(rows.filter(pk__gt=last)[:_PAGE]):
        for row in page:
            wrapped = bytes(row.wrapped or b"")
            if _key_id(wrapped) == first:
                continue
            try:
                secret = ring.decrypt(DATA_KEY, wrapped, row.pk.bytes)
            except KeysUnavailable:
                raise  # no key's own fault, and every other would wait for it as well
            except DecryptionError as error:
                result.failures[f"data key {row.pk}"] = str(error)
                continue
            again = ring.encrypt(DATA_KEY, secret, row.pk.bytes)
            # Not where its person was erased meanwhile: that must not be undone.
            result.data_keys += rows.filter(pk=row.pk).order_by().update(wrapped=again)
        last = page[-1].pk
        progress("data keys", result.data_keys)
    data_keys.forget()


def _encrypt_again(alias: str, result: Rekeyed, progress: Progress) -> None:
    """Batches that wait, parked ones above all: a relay that holds one deals with it itself."""
    ring, last = key_ring(), 0
    first = ring.first(OUTBOX).id
    locks = connections[alias].features.has_select_for_update_skip_locked
    waiting = Outbox.objects.using(alias).filter(form=Form.BATCH).order_by("id")
    while True:
        with transaction.atomic(using=alias):
            rows = waiting.filter(id__gt=last)
            page = list((rows.select_for_update(skip_locked=True) if locks else rows)[:_PAGE])
            for row in page:
                payload = bytes(row.payload)
                if _key_id(payload) == first:
                    continue
                try:
                    row.payload = ring.encrypt(OUTBOX, ring.decrypt(OUTBOX, payload))
                except DecryptionError as error:
                    result.failures[f"batch {row.pk} of {alias}"] = str(error)
                    continue
                row.save(using=alias, update_fields=["payload"])
                result.batches += 1
        progress(f"batches of {alias}", result.batches)
        if not page:
            return
        last = page[-1].pk


# The index key.


@dataclass(slots=True)
class Reindexed:
    """How many records got new tokens, and which could not, by id."""

    records: int = 0
    failures: dict[str, str] = field(default_factory=dict)


def reindex(
    using: str | None = None, *, progress: Progress = lambda _what, _done: None
) -> Reindexed:
    """Make the tokens of every record anew, under the first index key.

    Goes on where it was stopped, or at the first record that failed. What is stored meanwhile is
    under that key already. Raises KeysUnavailable where the key service does not answer.
    """
    using = using or ledger_alias()
    result = Reindexed()
    for stream in Stream.objects.using(using).order_by("name"):
        _reindex(stream, using, result, progress)
    if result.records:
        data = {"key": "INDEX_KEY", "records": result.records}
        with transaction.atomic(using=using):
            bookkeeping.say(ACTION, data, using)
    return result


def _reindex(stream: Stream, using: str, result: Reindexed, progress: Progress) -> None:
    cursor = _cursor(stream.name, using)
    some = Q()
    for token in TOKENS:
        some |= Q(**{f"{token}__isnull": False})
    rows: QuerySet[Record] = QuerySet(Record, using=using)  # the manager's refuses to update
    start, failures = cursor.sequence, len(result.failures)
    while start < stream.size:
        end = min(start + _PAGE, stream.size)
        with transaction.atomic(using=using):
            page = rows.filter(some, stream=stream.name, sequence__gte=start, sequence__lt=end)
            page = page.order_by("sequence")
            if connections[using].features.has_select_for_update:
                page = page.select_for_update()  # an erasure nulls tokens, and has the last word
            _warm(page, using)
            changed = [row for row in page if _retokenised(row, using, result)]
            rows.bulk_update(changed, TOKENS)
            if len(result.failures) == failures:  # else the next run tries them again
                cursor.sequence, cursor.updated_at = end, datetime.now(UTC)
                cursor.save(using=using)
        start = end
        result.records += len(changed)
        progress(f"{stream.name} up to {end}", result.records)


def _warm(page: QuerySet[Record], using: str) -> None:
    """Open the keys of a page with one query."""
    with suppress(TamperedValue):
        data_keys.preload(
            {key_id_of(bytes(row.sealed_actor)) for row in page if row.sealed_actor}, using
        )


def _cursor(stream: str, using: str) -> Cursor:
    """How far this stream has come under this key."""
    cursor, _ = Cursor.objects.using(using).get_or_create(
        reader=f"reindex:{blind_index('reindex', 'cursor')}",
        stream=stream,
        defaults={"updated_at": datetime.now(UTC)},
    )
    return cursor


def _retokenised(row: Record, using: str, result: Reindexed) -> bool:
    if not row.sealed_actor:
        return False
    place = place_of(row.pk, "sealed_actor")
    try:
        said = json.loads(
            open_sealed(
                bytes(row.sealed_actor), lambda id_: data_keys.cipher_for(id_, using), place
            )
        )
    except KeysUnavailable:
        raise
    except Erased:
        for token in TOKENS:  # a relay that was at work as its person was erased wrote them
            setattr(row, token, None)
        return True
    except (DecryptionError, ValueError) as error:
        result.failures[f"record {row.pk}"] = str(error)
        return False
    ip = said.get("ip")
    row.actor_token = blind_index("actor", said.get("label"))
    row.ip_token = blind_index("ip", ip)
    row.net_token = blind_index("net", network_of(ip)) if ip else None
    row.agent_token = blind_index("agent", said.get("user_agent"))
    return True
