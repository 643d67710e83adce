"""Signed tree heads: made by the worker, never by the web process.

A head is signed only if it extends the last published checkpoint; a ledger that was rolled back or
rewritten is found out here, at the next minute.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from django.db import DEFAULT_DB_ALIAS, transaction

from audit_log.conf import get_settings
from audit_log.exceptions import AuditLogError, ForkDetected
from audit_log.ledger import heads, notes
from audit_log.ledger.merkle import consistency_proof, verify_consistency
from audit_log.models import Checkpoint, Stream
from audit_log.privacy.encryption import signing_seed

IDLE: Final = timedelta(minutes=10)


def key_name() -> str:
    """The name checkpoints are signed under: the service, without what a key name may not hold."""
    return "".join("_" if c.isspace() or c == "+" else c for c in get_settings().service)


def origin_of(stream: str) -> str:
    """What a checkpoint is about: `service/stream`."""
    return f"{key_name()}/{stream}"


def signing_key() -> notes.SigningKey:
    """The key in force."""
    return notes.SigningKey.from_seed(key_name(), signing_seed())


def last(stream: str, using: str) -> Checkpoint | None:
    """The newest published checkpoint of a stream."""
    return Checkpoint.objects.using(using).filter(stream=stream).order_by("-size", "-id").first()


def sign_all(using: str = DEFAULT_DB_ALIAS, *, force: bool = False) -> list[Checkpoint]:
    """Sign each stream that grew, or that was silent for ten minutes; `force` signs all.

    Raises ForkDetected for a ledger that does not extend its last checkpoint; streams before it in
    the order of names are signed.
    """
    names = Stream.objects.using(using).filter(size__gt=0).order_by("name")
    signed = (sign(name, using, force=force) for name in names.values_list("name", flat=True))
    return [checkpoint for checkpoint in signed if checkpoint is not None]


def sign(stream: str, using: str, *, force: bool = False) -> Checkpoint | None:
    """Sign one stream's head, or None when there is nothing new to say. Raises ForkDetected."""
    with transaction.atomic(using=using):
        head = heads.lock([stream], using)[stream]
        before = last(stream, using)
        now = datetime.now(UTC)
        grown = before is None or before.size != head.size
        if before is not None and not (grown or force or now - before.created_at >= IDLE):
            return None
        root = heads.frontier_of(head).root()
        if before is not None:
            _check_extends(head, root, before, using)
        note = notes.sign(notes.Checkpoint(origin_of(stream), head.size, root), [signing_key()])
        return Checkpoint.objects.using(using).create(
            stream=stream, size=head.size, root=root.hex(), note=note, created_at=now
        )


def _check_extends(head: Stream, root: bytes, before: Checkpoint, using: str) -> None:
    """The fork guard."""
    said = notes.open_note(before.note, [signing_key().verifier])
    try:
        if said.size > head.size:
            raise ForkDetected(f"it has {head.size} records, fewer than the {said.size} signed for")
        proof = consistency_proof(said.size, head.size, heads.reader_of(head, using))
        verify_consistency(said.size, head.size, said.root, root, proof)
    except AuditLogError as error:
        raise ForkDetected(
            f"Stream {head.name!r} does not extend its last checkpoint, so it is not signed: "
            f"{error}. Run `manage.py audit_log verify --stream {head.name}`."
        ) from error
