"""Removing the contents of one record, on record: what no detector knew when it was stored.

Its envelope stays, and so does its leaf: the digests of what was removed go into the record that
says so, and verification reports it as redacted and authorised.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from django.db import connections, transaction
from django.db.models import QuerySet

from audit_log.events import Target
from audit_log.exceptions import RetentionRefused
from audit_log.ledger import redactions
from audit_log.ledger.entries import ENTRY_COLUMNS, contents_digest
from audit_log.ledger.heads import BOOKKEEPING
from audit_log.ledger.records import SEALED_COLUMNS, TOKENS
from audit_log.models import ArchivePart, Record
from audit_log.retention import bookkeeping, holds
from audit_log.router import ledger_alias

_OPEN: Final = ("changes", "data")


@dataclass(frozen=True, slots=True)
class Removed:
    """What was removed, by column, and the archived part (a key) that still holds it."""

    record: uuid.UUID
    columns: tuple[str, ...]
    archived_in: str


def redact(
    record_id: uuid.UUID, reason: str, using: str | None = None, *, sealed: bool = False
) -> Removed:
    """Remove the open contents of a record; with `sealed`, what is sealed as well.

    Raises RetentionRefused for a record that is not there, altered, bookkeeping, without contents
    or under a hold, and without a reason.
    """
    using = using or ledger_alias()
    if not reason.strip():
        raise RetentionRefused("A redaction needs a reason: what was there, and who decided.")
    with transaction.atomic(using=using):
        holds.take_turns(using)
        rows: QuerySet[Record] = QuerySet(Record, using=using)  # the manager's refuses to update
        locked = rows.filter(pk=record_id)
        if connections[using].features.has_select_for_update:
            locked = locked.select_for_update()
        row = locked.values(*ENTRY_COLUMNS, "salt").first()
        _refuse(row, record_id, using, sealed=sealed)
        before = redactions.of(row or {}, using)
        digests = _digests(row or {}, sealed=sealed)
        if not digests:
            raise RetentionRefused(f"Record {record_id} has no contents to remove.")
        target = Target(type=Record._meta.label_lower, id=str(record_id))
        all_digests = {**(before.digests if before is not None else {}), **digests}
        said = bookkeeping.say(
            redactions.ACTION,
            {redactions.DIGESTS: all_digests},
            using,
            target=target,
            reason=reason,
        )
        tokens = TOKENS if "sealed_actor" in digests else ()  # they stand for what was sealed
        rows.filter(pk=record_id).update(**dict.fromkeys((*digests, *tokens, "salt")))
    return Removed(said, tuple(digests), _archived_in(row or {}, using))


def _refuse(row: Any, record_id: uuid.UUID, using: str, *, sealed: bool) -> None:
    if row is None:
        raise RetentionRefused(f"There is no record {record_id} in {using!r}.")
    if row["stream"] == BOOKKEEPING:
        raise RetentionRefused("What the log says about itself cannot be redacted.")
    if redactions.is_redacted(row) and not (sealed and any(map(row.get, SEALED_COLUMNS))):
        raise RetentionRefused(f"Record {record_id} was redacted before.")
    if hold := holds.standing(using).select_for_update().first():
        raise RetentionRefused(f"A legal hold stands ({hold.reason}), so nothing is redacted.")
    if not redactions.is_unaltered(row, using):
        raise RetentionRefused(
            f"Record {record_id} is not what was appended: it was altered, and a redaction would "
            "hide that. Run `manage.py audit_log verify`."
        )


def _digests(row: dict[str, Any], *, sealed: bool) -> dict[str, str]:
    found = {name: contents_digest(bytes(row["salt"]), row[name]) for name in _OPEN if row[name]}
    if sealed:
        found |= {
            name: sha256(bytes(row[name])).hexdigest() for name in SEALED_COLUMNS if row[name]
        }
    return found


def _archived_in(row: dict[str, Any], using: str) -> str:
    part = ArchivePart.objects.using(using).filter(
        stream=row["stream"], first__lte=row["sequence"], last__gte=row["sequence"]
    )
    return part.exclude(key="").values_list("key", flat=True).first() or ""
