"""Records whose contents were removed, on record: the digests that their leaves still need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.core.exceptions import ObjectDoesNotExist

from audit_log.exceptions import AuditLogError
from audit_log.ledger import heads
from audit_log.ledger.entries import entry_bytes
from audit_log.ledger.merkle import leaf_hash
from audit_log.ledger.on_record import UNREADABLE, is_in_tree, stored_leaf, waiting
from audit_log.models import Record, Stream

ACTION: Final = "audit_log.redacted"
DIGESTS: Final = "digests"
_TARGET: Final = Record._meta.label_lower


@dataclass(frozen=True, slots=True)
class Redacted:
    """By which record (an id) contents were removed, and what they were, as digests in hex."""

    by: str
    digests: Mapping[str, str]


def is_redacted(row: Mapping[str, Any]) -> bool:
    """Whether a row, by columns, looks as if its contents were removed: every record has a salt."""
    return not row.get("salt")


def of(row: Mapping[str, Any], using: str) -> Redacted | None:
    """What is on record of the redaction of a row; None where it was not, or not on record."""
    if not is_redacted(row):
        return None
    id_ = str(row["id"])
    found: list[Redacted] = []  # more than one, where the sealed contents went later
    # The ledger again, and last: the relay may have moved the batch between the two looks.
    for look in (_in_ledger, _in_outbox, _in_ledger):
        for each in look(id_, using):
            if _gives_leaf(row, each, using):
                return each
            found.append(each)
    return found[0] if found else None


def entry(row: Mapping[str, Any], found: Redacted | None) -> bytes:
    """The ledger entry of a row, given what is on record of its redaction."""
    return entry_bytes(row, None if found is None else found.digests)


def entry_of(row: Mapping[str, Any], using: str) -> bytes:
    """The ledger entry of a row, whether its contents were removed on record or not."""
    return entry(row, of(row, using))


def is_unaltered(row: Mapping[str, Any], using: str) -> bool:
    """Whether a row gives the leaf that was appended, less what was removed on record."""
    return _gives_leaf(row, of(row, using), using)


def _gives_leaf(row: Mapping[str, Any], redacted: Redacted | None, using: str) -> bool:
    try:
        head = Stream.objects.using(using).get(pk=row["stream"])
        return leaf_hash(entry(row, redacted)) == stored_leaf(head, row["sequence"], using)
    except (AuditLogError, ObjectDoesNotExist, *UNREADABLE):
        return False


def needed_between(first: int, last: int, using: str) -> bool:
    """Whether bookkeeping in this range accounts for a record that is still there."""
    said = Record.objects.using(using).filter(
        stream=heads.BOOKKEEPING, action=ACTION, sequence__gte=first, sequence__lte=last
    )
    ids = [id_ for id_ in said.values_list("target_id", flat=True) if id_]
    return bool(ids) and Record.objects.using(using).filter(pk__in=ids).exists()


def _in_ledger(id_: str, using: str) -> Iterator[Redacted]:
    rows = Record.objects.using(using).filter(
        target_type=_TARGET, target_id=id_, stream=heads.BOOKKEEPING, action=ACTION
    )
    for pk, data in rows.order_by("-pk").values_list("pk", "data"):
        if is_in_tree(rows.filter(pk=pk), using) and (digests := _digests(data)):
            yield Redacted(str(pk), digests)


def _in_outbox(id_: str, using: str) -> Iterator[Redacted]:
    for event in waiting(ACTION, using):
        if event.target is not None and event.target.id == id_ and (found := _digests(event.data)):
            yield Redacted(str(event.id), found)


def _digests(data: object) -> dict[str, str]:
    found = data.get(DIGESTS) if isinstance(data, Mapping) else None
    return dict(found) if isinstance(found, Mapping) else {}
