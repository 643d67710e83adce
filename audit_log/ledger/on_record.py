"""What the log says about itself: bookkeeping that accounts for something, where it can be trusted.

A row that somebody altered accounts for nothing, so each is held against the tree first. What has
been said but not relayed yet waits in the outbox.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from django.core.exceptions import ObjectDoesNotExist
from django.db import DataError, OperationalError

from audit_log.events import Event, decode_batch
from audit_log.exceptions import AuditLogError
from audit_log.ledger import heads
from audit_log.ledger.entries import ENTRY_COLUMNS, entry_bytes
from audit_log.ledger.merkle import HASH_BYTES, TILE_WIDTH, leaf_hash
from audit_log.models import Outbox, Stream
from audit_log.models.outbox import Form
from audit_log.privacy.encryption import key_ring
from audit_log.recording.outbox import PURPOSE

UNREADABLE: Final = (ValueError, TypeError, DataError, OperationalError)
_CHUNK: Final = 100


def stored_leaf(head: Stream, sequence: int, using: str) -> bytes:
    """The leaf hash of a record in its stream's tree. Raises EncodingError and InvalidProof."""
    index, offset = divmod(sequence, TILE_WIDTH)
    width = min(TILE_WIDTH, head.size - index * TILE_WIDTH)
    leaves = heads.reader_of(head, using)(0, index, width)
    return leaves[offset * HASH_BYTES : (offset + 1) * HASH_BYTES]


def is_in_tree(row: Any, using: str) -> bool:
    """Whether the columns of a row (a query set of one) give the leaf that was appended."""
    try:
        columns = row.values(*ENTRY_COLUMNS, "salt").get()
        head = Stream.objects.using(using).get(pk=columns["stream"])
        return leaf_hash(entry_bytes(columns)) == stored_leaf(head, columns["sequence"], using)
    except (AuditLogError, ObjectDoesNotExist, *UNREADABLE):
        return False


def waiting(action: str, using: str) -> Iterator[Event]:
    """The events of an action that the outbox holds."""
    ring = key_ring()
    last = 0
    rows = Outbox.objects.using(using).filter(form=Form.BATCH).order_by("id")
    while chunk := list(rows.filter(id__gt=last).values_list("id", "payload")[:_CHUNK]):
        for _, payload in chunk:
            with suppress(AuditLogError):  # the relay will say so
                for event in decode_batch(ring.decrypt(PURPOSE, bytes(payload))):
                    if event.action == action:
                        yield event
        last = chunk[-1][0]
