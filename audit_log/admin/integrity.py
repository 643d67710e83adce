"""Whether one record is still what its stream's tree says it is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext as _

from audit_log.exceptions import EncodingError, InvalidProof, UnknownVersion
from audit_log.ledger import redactions
from audit_log.ledger.entries import ENTRY_COLUMNS
from audit_log.ledger.merkle import leaf_hash
from audit_log.ledger.on_record import stored_leaf
from audit_log.models import Checkpoint, Record, Stream


@dataclass(frozen=True, slots=True)
class Integrity:
    """`intact` is None where it cannot be said. `signed_at` is of the first checkpoint over it."""

    intact: bool | None
    message: str
    leaf: str = ""
    size: int = 0
    signed_size: int | None = None
    signed_at: datetime | None = None


def integrity_of(row: Record, using: str) -> Integrity:
    """Recompute the leaf from the columns and compare it with the tree's. Three small queries.

    It says nothing of the path to the root and of signatures: `audit_log verify` does.
    """
    head = Stream.objects.using(using).filter(pk=row.stream).first()
    if head is None or row.sequence >= head.size:
        return Integrity(intact=False, message=_("It was never appended to its stream."))
    try:
        columns = {name: getattr(row, name) for name in _COLUMNS}
        redacted = redactions.of(columns, using)
        leaf = leaf_hash(redactions.entry(columns, redacted))
    except UnknownVersion:
        return Integrity(None, _("It was written by a newer version of the log."), size=head.size)
    except (EncodingError, ValueError):
        message = _("Its columns are not what a record holds: it was altered.")
        return Integrity(intact=False, message=message, size=head.size)
    stored = _stored_leaf(row, head, using)
    if stored is None:
        return Integrity(None, _("Its leaf is not in the tree any more."), leaf.hex(), head.size)
    if stored != leaf:
        message = _("Its columns do not give the leaf in the tree: it was altered.")
        return Integrity(intact=False, message=message, leaf=leaf.hex(), size=head.size)
    signed = (
        Checkpoint.objects.using(using)
        .filter(stream=row.stream, size__gt=row.sequence)
        .order_by("size")
        .first()
    )
    return Integrity(
        intact=True,
        message=_("Its columns give the leaf in the tree.")
        if redacted is None
        else _("Its contents were removed, on record. The rest gives the leaf in the tree."),
        leaf=leaf.hex(),
        size=head.size,
        signed_size=None if signed is None else signed.size,
        signed_at=None if signed is None else signed.created_at,
    )


_COLUMNS = (*ENTRY_COLUMNS, "salt")


def _stored_leaf(row: Record, head: Stream, using: str) -> bytes | None:
    try:
        return stored_leaf(head, row.sequence, using)
    except (EncodingError, InvalidProof):
        return None
