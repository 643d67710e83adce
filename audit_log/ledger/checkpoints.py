"""Signed tree heads: made by the worker, never by the web process.

A head is signed only if it extends the last published checkpoint; a ledger that was rolled back or
rewritten is found out here, at the next minute.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from django.db import transaction

from audit_log.conf import get_settings
from audit_log.exceptions import AuditLogError, ForkDetected, InvalidProof
from audit_log.ledger import heads, notes
from audit_log.ledger.merkle import consistency_proof, verify_consistency
from audit_log.models import Checkpoint, Stream
from audit_log.privacy.encryption import signing_seeds
from audit_log.router import ledger_alias

IDLE: Final = timedelta(minutes=10)


def key_name() -> str:
    """The name checkpoints are signed under: the service, without what a key name may not hold."""
    return "".join("_" if c.isspace() or c == "+" else c for c in get_settings().service)


def origin_of(stream: str) -> str:
    """What a checkpoint is about: `service/stream`."""
    return f"{key_name()}/{stream}"


def signing_key() -> notes.SigningKey:
    """The key in force."""
    return notes.SigningKey.from_seed(key_name(), signing_seeds()[0])


def verifiers() -> list[notes.VerifierKey]:
    """The keys a checkpoint may be signed with."""
    name = key_name()
    return [notes.SigningKey.from_seed(name, seed).verifier for seed in signing_seeds()]


def opened(note: str, stream: str) -> notes.Checkpoint:
    """What a checkpoint's note says. Raises InvalidProof unless it was signed for `stream`."""
    if not isinstance(note, str):  # SQLite stores what it is given
        raise InvalidProof(f"The note is not text but {type(note).__name__}.")
    said = notes.open_note(note, verifiers())
    if said.origin != origin_of(stream):
        raise InvalidProof(f"It was signed for {said.origin}.")
    return said


def last(stream: str, using: str) -> Checkpoint | None:
    """The newest published checkpoint of a stream."""
    return Checkpoint.objects.using(using).filter(stream=stream).order_by("-size", "-id").first()


def sign_all(using: str | None = None, *, force: bool = False) -> list[Checkpoint]:
    """Sign each stream that grew, or that was silent for ten minutes; `force` signs all.

    Raises ForkDetected for ledgers that do not extend their last checkpoints; all others are
    signed nevertheless.
    """
    using = using or ledger_alias()
    names = Stream.objects.using(using).order_by("name").values_list("name", flat=True)
    signed: list[Checkpoint] = []
    forks: list[ForkDetected] = []
    for name in list(names):
        try:
            checkpoint = sign(name, using, force=force)
        except ForkDetected as fork:
            forks.append(fork)
        else:
            signed += [] if checkpoint is None else [checkpoint]
    if forks:
        raise ForkDetected("\n".join(map(str, forks))) from forks[0]
    return signed


def sign(stream: str, using: str, *, force: bool = False) -> Checkpoint | None:
    """Sign one stream's head, or None when there is nothing new to say. Raises ForkDetected."""
    with transaction.atomic(using=using):
        head = heads.lock([stream], using)[stream]
        before = last(stream, using)
        if before is None and head.size == 0:
            return None
        now = datetime.now(UTC)
        if before is not None and not force and not _is_due(head, before, now):
            return None
        root = _root_to_sign(head, before, using)
        note = notes.sign(notes.Checkpoint(origin_of(stream), head.size, root), [signing_key()])
        return Checkpoint.objects.using(using).create(
            stream=stream, size=head.size, root=root.hex(), note=note, created_at=now
        )


def _is_due(head: Stream, before: Checkpoint, now: datetime) -> bool:
    return before.size != head.size or now - before.created_at >= IDLE


def _root_to_sign(head: Stream, before: Checkpoint | None, using: str) -> bytes:
    """The fork guard: the head's root, once it extends what was signed before."""
    try:
        root = heads.frontier_of(head).root()
        if before is None:
            return root
        said = opened(before.note, before.stream)
        if said.size > head.size:
            raise InvalidProof(f"It has {head.size} records, but {said.size} were signed for.")
        proof = consistency_proof(said.size, head.size, heads.reader_of(head, using))
        verify_consistency(said.size, head.size, said.root, root, proof)
    except AuditLogError as error:
        raise ForkDetected(
            f"Stream {head.name!r} does not extend its last checkpoint, so it is not signed: "
            f"{error} Run `manage.py audit_log verify --stream {head.name}`. (A checkpoint that "
            "none of the known keys signed may mean that SIGNING_KEY, SECRET_KEY or SERVICE was "
            "changed.)"
        ) from error
    return root
