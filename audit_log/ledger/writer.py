"""Number, hash, insert: the short tail of the relay that holds the streams' heads.

Called by the relay (and later by rebuilding from an archive) inside its transaction, by nobody
else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from audit_log.events import Event, id_agrees
from audit_log.exceptions import TamperedValue, UnknownKey
from audit_log.ledger import heads
from audit_log.ledger.entries import ENTRY_COLUMNS
from audit_log.ledger.merkle import leaf_hash
from audit_log.ledger.records import SEALED_COLUMNS, Prepared
from audit_log.models import Record, Stream, Tile
from audit_log.privacy import data_keys
from audit_log.privacy.encryption import open_sealed, place_of

_BATCH: Final = 500
# What a redelivery repeats. Its number and moment are new, and the detectors may have changed.
_COMPARED: Final = sorted(
    {*ENTRY_COLUMNS} - {"stream", "sequence", "recorded_at", "redactions", *SEALED_COLUMNS}
)


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
    result = Written()
    streams = {item.record.stream for item in prepared}
    locked = heads.lock(streams, using)
    fresh = _without_known(prepared, using, result)
    by_stream: dict[str, list[Prepared]] = defaultdict(list)
    for item in fresh:
        reason = _why_refused(item, locked[item.record.stream])
        if reason is None:
            by_stream[item.record.stream].append(item)
        else:
            result.refused.append((item.event, reason))
    for name in sorted(by_stream):
        _append(locked[name], by_stream[name], using)
        result.stored += len(by_stream[name])
    return result


def _without_known(prepared: Sequence[Prepared], using: str, result: Written) -> Iterable[Prepared]:
    """Those whose id is neither stored nor twice among them. Race-free behind the head's lock."""
    ids = [item.record.pk for item in prepared]
    known: dict[Any, Record] = {
        row.pk: row for row in Record.objects.using(using).filter(pk__in=ids)
    }
    fresh: list[Prepared] = []
    for item in prepared:
        other = known.get(item.record.pk)
        if other is None:
            known[item.record.pk] = item.record
            fresh.append(item)
        elif _is_same(other, item.record, using):
            result.repeated += 1
        else:
            result.refused.append((item.event, "conflict: another event with this id is stored"))
    return fresh


def _is_same(stored: Record, repeated: Record, using: str) -> bool:
    return all(getattr(stored, name) == getattr(repeated, name) for name in _COMPARED) and all(
        _is_same_sealed(stored, repeated, column, using) for column in SEALED_COLUMNS
    )


def _is_same_sealed(stored: Record, repeated: Record, column: str, using: str) -> bool:
    try:
        return _opened(stored, column, using) == _opened(repeated, column, using)
    except UnknownKey:
        return True  # its person was erased: nothing is left to compare
    except TamperedValue:
        return False


def _opened(row: Record, column: str, using: str) -> bytes | None:
    """What is sealed there: the same text is another ciphertext each time."""
    sealed = getattr(row, column)
    if not sealed:
        return None
    place = place_of(row.pk, column)
    return open_sealed(bytes(sealed), lambda id_: data_keys.cipher_for(id_, using), place)


def _why_refused(item: Prepared, head: Stream) -> str | None:
    if not id_agrees(item.event.id, item.event.occurred_at):
        return "forged: the id is not a UUIDv7 of the moment the event says"
    if head.purged_through is not None and item.event.occurred_at <= head.purged_through:
        return f"late: stream {head.name!r} is purged through {head.purged_through.isoformat()}"
    return None


def _append(head: Stream, items: Sequence[Prepared], using: str) -> None:
    now = datetime.now(UTC)
    if head.recorded_at is not None and head.recorded_at > now:
        now = head.recorded_at  # a clock set back must not make the log run backwards
    leaves: list[bytes] = []
    for sequence, item in enumerate(items, start=head.size):
        item.record.sequence = sequence
        item.record.recorded_at = now
        leaves.append(leaf_hash(item.entry.fill(sequence, now)))
    frontier = heads.frontier_of(head)
    tiles = frontier.extend(leaves)
    Record.objects.using(using).bulk_create([item.record for item in items], batch_size=_BATCH)
    if tiles:
        Tile.objects.using(using).bulk_create(
            [Tile(stream=head.name, level=t.level, index=t.index, hashes=t.hashes) for t in tiles]
        )
    head.size, head.partial, head.recorded_at = frontier.size, frontier.partial, now
    head.save(using=using, update_fields=["size", "partial", "recorded_at"])
