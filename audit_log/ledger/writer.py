"""Number, hash, insert: the short tail of the relay that holds the streams' heads.

Called by the relay (and later by rebuilding from an archive) inside its transaction, by nobody
else.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.db import IntegrityError, connections, transaction

from audit_log.events import Event, id_agrees
from audit_log.exceptions import TamperedValue, UnknownKey
from audit_log.ledger import heads, insertion, theirs
from audit_log.ledger.entries import ENTRY_COLUMNS
from audit_log.ledger.merkle import leaf_hash
from audit_log.ledger.records import SEALED_COLUMNS, Prepared
from audit_log.models import Record, Stream, Tile
from audit_log.privacy import data_keys
from audit_log.privacy.encryption import open_sealed, place_of

# What a redelivery repeats. Its number and moment are new, and the detectors may have changed.
_COMPARED: Final = sorted(
    {*ENTRY_COLUMNS} - {"stream", "sequence", "recorded_at", "redactions", *SEALED_COLUMNS}
)

Columns = Mapping[str, Any]


@dataclass(slots=True)
class Written:
    """What became of the prepared records."""

    stored: int = 0
    repeated: int = 0
    refused: list[tuple[Event, str]] = field(default_factory=list)


def write(prepared: Sequence[Prepared], using: str) -> Written:
    """Append the records to their streams. Must run inside a transaction on `using`.

    An id that is stored already is dropped when its contents are the same (a redelivery), and
    refused when they are not; forged and late ids are refused. Refused events are for parking.
    """
    if connections[using].vendor == "postgresql":
        # Tried as if no id were stored: one is repeated once in a blue moon, and to look all of
        # them up takes a quarter of what it takes to write them.
        with suppress(IntegrityError), transaction.atomic(using=using):
            return _append(prepared, using, looking=False)
    return _append(prepared, using, looking=True)


def _append(prepared: Sequence[Prepared], using: str, *, looking: bool) -> Written:
    """Lock the heads and write behind them; `looking` for ids that are stored already."""
    result = Written()
    locked = heads.lock({item.columns["stream"] for item in prepared}, using)
    by_stream: dict[str, list[Prepared]] = defaultdict(list)
    known = _stored_among([item.event.id for item in prepared], using) if looking else {}
    for item in _without_known(prepared, known, using, result):
        name = item.columns["stream"]
        reason = _why_refused(item, locked[name])
        if reason is None:
            by_stream[name].append(item)
        else:
            result.refused.append((item.event, reason))
    for name in sorted(by_stream):
        numbered = list(enumerate(by_stream[name], start=locked[name].size))
        moment = _moment(locked[name])
        _extend(locked[name], [item.entry.fill(n, moment) for n, item in numbered], moment, using)
        insertion.table(using).insert([(n, item.row) for n, item in numbered], moment)
        result.stored += len(numbered)
    return result


def _without_known(
    prepared: Sequence[Prepared], known: dict[uuid.UUID, Columns], using: str, result: Written
) -> Iterable[Prepared]:
    """Those whose id is neither `known` nor twice among them. Race-free behind the head's lock."""
    fresh: list[Prepared] = []
    for item in prepared:
        other = known.get(item.event.id)
        if other is None:
            known[item.event.id] = item.columns
            fresh.append(item)
        elif _is_same(other, item.columns, using):
            result.repeated += 1
        else:
            result.refused.append((item.event, "conflict: another event with this id is stored"))
    return fresh


def _stored_among(ids: list[uuid.UUID], using: str) -> dict[uuid.UUID, Columns]:
    """The records that have one of these ids, by id. There are none unless a claim is repeated."""
    records = Record.objects.using(using)
    if connections[using].vendor == "postgresql":
        # One parameter: to adapt and to parse hundreds takes longer than to look them up.
        table = connections[using].ops.quote_name(Record._meta.db_table)
        with connections[using].cursor() as cursor:
            cursor.execute(f"SELECT id FROM {table} WHERE id = ANY(%s::uuid[])", [_array(ids)])  # noqa: S608 - our own name
            stored = [id_ for (id_,) in cursor.fetchall()]
    else:
        stored = list(records.filter(pk__in=ids).values_list("pk", flat=True))
    return {row["id"]: row for row in records.filter(pk__in=stored).values()} if stored else {}


def _array(ids: Iterable[uuid.UUID]) -> str:
    return f"{{{','.join(map(str, ids))}}}"


def _is_same(stored: Columns, repeated: Columns, using: str) -> bool:
    return all(stored[name] == repeated[name] for name in _COMPARED) and all(
        _is_same_sealed(stored, repeated, column, using) for column in SEALED_COLUMNS
    )


def _is_same_sealed(stored: Columns, repeated: Columns, column: str, using: str) -> bool:
    try:
        return _opened(stored, column, using) == _opened(repeated, column, using)
    except UnknownKey:
        return True  # its person was erased: nothing is left to compare
    except TamperedValue:
        return False


def _opened(row: Columns, column: str, using: str) -> bytes | None:
    """What is sealed there: the same text is another ciphertext each time."""
    sealed = row[column]
    if not sealed:
        return None
    place = place_of(row["id"], column)

    def key_of(id_: bytes) -> AESGCM:
        return data_keys.cipher_for(id_, using)

    return theirs.opened(open_sealed(bytes(sealed), key_of, place), row["id"], key_of)


def _why_refused(item: Prepared, head: Stream) -> str | None:
    if not id_agrees(item.event.id, item.event.occurred_at):
        return "forged: the id is not a UUIDv7 of the moment the event says"
    if head.purged_through is not None and item.event.occurred_at <= head.purged_through:
        return f"late: stream {head.name!r} is purged through {head.purged_through.isoformat()}"
    return None


def _moment(head: Stream) -> datetime:
    """Now, unless the clock was set back: that must not make the log run backwards."""
    now = datetime.now(UTC)
    return now if head.recorded_at is None else max(now, head.recorded_at)


def _extend(head: Stream, entries: Sequence[bytes], moment: datetime, using: str) -> None:
    """Add the entries to the stream's tree, and say so in its head."""
    frontier = heads.frontier_of(head)
    tiles = frontier.extend([leaf_hash(entry) for entry in entries])
    if tiles:
        Tile.objects.using(using).bulk_create(
            [Tile(stream=head.name, level=t.level, index=t.index, hashes=t.hashes) for t in tiles]
        )
    head.size, head.partial, head.recorded_at = frontier.size, frontier.partial, moment
    head.save(using=using, update_fields=["size", "partial", "recorded_at"])
