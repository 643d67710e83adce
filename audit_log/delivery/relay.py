"""Moves batches from the outbox into the ledger: claim, decode, scrub, seal, write, delete.

Everything between claim and delete is one transaction, so a kill at any point leaves either the
batch or its records. Several relays share the outbox by SKIP LOCKED; SQLite has one writer, so
there the costly part happens before the transaction begins.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db import DEFAULT_DB_ALIAS, DatabaseError, OperationalError, connections, transaction
from django.db.models import F, Q
from django.db.models.functions import Length

from audit_log import signals
from audit_log.events import Event, decode_batch, encode_again
from audit_log.ledger import heads, writer
from audit_log.ledger.records import Place, Prepared, prepare
from audit_log.models import Outbox
from audit_log.privacy.encryption import key_ring
from audit_log.recording import buffer, losses, outbox, spool

logger = logging.getLogger("audit_log")

MAX_ROWS: Final = 500
MAX_EVENTS: Final = 2_000
MAX_BYTES: Final = 4_000_000
MAX_ATTEMPTS: Final = 10
_RETRIES: Final = 5
_MAX_WAIT_SECONDS: Final = 3600
# MariaDB's deadlock and lock timeout; PostgreSQL's serialization failure and deadlock.
_RETRYABLE: Final = ("1213", "1205", "40001", "40P01", "database is locked", "deadlock detected")


@dataclass(slots=True)
class Relayed:
    """What one call moved."""

    batches: int = 0
    events: int = 0
    repeated: int = 0
    failed: int = 0
    parked: int = 0

    def add(self, other: Relayed) -> None:
        """Count another round in."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


def relay(
    using: str = DEFAULT_DB_ALIAS,
    *,
    seconds: float | None = None,
    progress: Callable[[Relayed], None] | None = None,
) -> Relayed:
    """Move all that waits, or as much as fits into `seconds`. Safe to run many at once.

    This process's own buffered events and its spool go first.
    """
    started = time.monotonic()
    total = Relayed()
    buffer.flush()
    if spool.waiting():
        spool.replay()
    while True:
        moved = _round(using)
        total.add(moved)
        if progress is not None:
            progress(total)
        late = seconds is not None and time.monotonic() - started >= seconds
        if late or not (moved.batches or moved.failed or moved.parked):
            return total


def waiting(using: str = DEFAULT_DB_ALIAS) -> int:
    """How many batches could be claimed now."""
    return int(_claimable(using).count())


def _claimable(using: str) -> Any:
    now = datetime.now(UTC)
    due = Q(next_attempt_at__isnull=True) | Q(next_attempt_at__lte=now)
    return Outbox.objects.using(using).filter(due, parked_at__isnull=True).order_by("id")


def _round(using: str) -> Relayed:
    try:
        return _retried(lambda: _move(using, None))
    except DatabaseError:
        logger.exception("A claim of batches failed; trying them one by one.")
    total = Relayed()
    for id_ in list(_claimable(using).values_list("id", flat=True)[:MAX_ROWS]):
        try:
            total.add(_retried(lambda id_=id_: _move(using, id_)))  # type: ignore[misc]
        except DatabaseError as error:
            _postpone(using, id_, error)
            total.failed += 1
    return total


def _retried(call: Callable[[], Relayed]) -> Relayed:
    for attempt in range(_RETRIES):
        try:
            return call()
        except OperationalError as error:
            if attempt == _RETRIES - 1 or not any(mark in _text(error) for mark in _RETRYABLE):
                raise
            # Jitter, or the two that met would meet again.
            time.sleep(random.uniform(0.01, 0.05) * 2**attempt)  # noqa: S311 - not cryptography
    raise AssertionError("unreachable")


def _text(error: BaseException) -> str:
    cause = error.__cause__
    return f"{error} {getattr(cause, 'sqlstate', '')} {getattr(cause, 'args', '')}"


def _move(using: str, only: int | None) -> Relayed:
    """One claim, from outbox to ledger, in one transaction."""
    connection = connections[using]
    if connection.features.has_select_for_update_skip_locked:
        with transaction.atomic(using=using):
            _read_committed(connection)
            return _Claim(using, only, locked=True).move()
    claim = _Claim(using, only, locked=False)
    claim.prepare()
    with transaction.atomic(using=using) if claim.rows or claim.failures else nullcontext():
        claim.drop_taken()
        return claim.move()


def _read_committed(connection: Any) -> None:
    """SKIP LOCKED and the id check need it; a project may have asked for more."""
    level = getattr(connection, "isolation_level", None)
    stricter = level is not None and "COMMITTED" not in str(getattr(level, "name", level)).upper()
    if stricter and not connection.savepoint_ids:
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")


class _Claim:
    """Some rows of the outbox, on their way."""

    def __init__(self, using: str, only: int | None, *, locked: bool) -> None:
        self.using = using
        self.rows = _claim(using, only, locked=locked)
        self.events: list[tuple[int, Event]] = []
        self.prepared: list[tuple[int, Prepared]] = []
        self.failures: dict[int, Exception] = {}
        self._is_prepared = False

    def drop_taken(self) -> None:
        """Forget rows that another relay took while we prepared them (SQLite)."""
        ids = [row.pk for row in self.rows]
        left = set(Outbox.objects.using(self.using).filter(pk__in=ids).values_list("id", flat=True))
        self.rows = [row for row in self.rows if row.pk in left]
        self.prepared = [item for item in self.prepared if item[0] in left]

    def prepare(self) -> None:
        """Decrypt, decode, route, scrub and seal. A batch that cannot be is set apart."""
        self._is_prepared = True
        for row in self.rows:
            try:
                payload = key_ring().decrypt(outbox.PURPOSE, bytes(row.payload))
                self.events += [(row.pk, event) for event in decode_batch(payload)]
            except Exception as error:  # noqa: BLE001 - one poisoned batch must not stop the others
                self.failures[row.pk] = error
        sizes = heads.ensure({route(event) for _, event in self.events}, self.using)
        for id_, event in self.events:
            if id_ in self.failures:
                continue
            name = route(event)
            try:
                item = prepare(event, Place(name, sizes[name], self.using))
            except DatabaseError:
                raise
            except Exception as error:  # noqa: BLE001
                self.failures[id_] = error
            else:
                self.prepared.append((id_, item))

    def move(self) -> Relayed:
        """Write the records, delete the batches. The transaction is the caller's."""
        if not self.rows:
            return Relayed()
        if not self._is_prepared:
            self.prepare()
        whole = [item for id_, item in self.prepared if id_ not in self.failures]
        result = writer.write(whole, self.using) if whole else writer.Written()
        done = [row.pk for row in self.rows if row.pk not in self.failures]
        for event, reason in result.refused:
            self._park(event, reason)
        Outbox.objects.using(self.using).filter(pk__in=sorted(done)).delete()
        for id_, error in self.failures.items():
            _postpone(self.using, id_, error)
        return Relayed(
            batches=len(done),
            events=result.stored,
            repeated=result.repeated,
            failed=len(self.failures),
            parked=len(result.refused),
        )

    def _park(self, event: Event, reason: str) -> None:
        now = datetime.now(UTC)
        row = Outbox.objects.using(self.using).create(
            created_at=now,
            event_count=1,
            payload=key_ring().encrypt(outbox.PURPOSE, encode_again(event)),
            attempts=MAX_ATTEMPTS,
            parked_at=now,
            parked_reason=reason[:500],
        )
        _announce(row.pk, reason)


def _claim(using: str, only: int | None, *, locked: bool) -> list[Outbox]:
    rows = _claimable(using)
    if only is not None:
        rows = rows.filter(pk=only)
    if locked:
        rows = rows.select_for_update(skip_locked=True)
    sizes = list(
        rows.annotate(size=Length("payload")).values_list("id", "event_count", "size")[:MAX_ROWS]
    )
    ids = _within_bounds(sizes)
    return list(Outbox.objects.using(using).filter(pk__in=ids).order_by("id")) if ids else []


def _within_bounds(sizes: Sequence[tuple[int, int, int]]) -> list[int]:
    """The first ids that make up at most 2,000 events and 4 MB, and never none."""
    ids: list[int] = []
    events = size = 0
    for id_, count, length in sizes:
        if ids and (events + count > MAX_EVENTS or size + length > MAX_BYTES):
            break
        ids.append(id_)
        events += count
        size += length
    return ids


def route(event: Event) -> str:
    """The stream of an event: what is about the log itself has its own."""
    return heads.BOOKKEEPING if event.action.startswith("audit_log.") else heads.DEFAULT


def _postpone(using: str, id_: int, error: Exception) -> None:
    """Try a failing batch again later; after ten times set it aside, with the reason."""
    rows = Outbox.objects.using(using).filter(pk=id_)
    attempts = rows.values_list("attempts", flat=True).first()
    if attempts is None:
        return
    now = datetime.now(UTC)
    reason = f"{type(error).__name__}: {error}"[:500]
    losses.count("batch_failed")
    if attempts + 1 >= MAX_ATTEMPTS:
        rows.update(attempts=F("attempts") + 1, parked_at=now, parked_reason=reason)
        _announce(id_, reason)
        return
    wait = timedelta(seconds=min(2 ** (attempts + 1), _MAX_WAIT_SECONDS))
    rows.update(attempts=F("attempts") + 1, next_attempt_at=now + wait, parked_reason=reason)
    logger.warning("Batch %s cannot be relayed yet (attempt %s): %s", id_, attempts + 1, reason)


def _announce(id_: int, reason: str) -> None:
    losses.count("parked")
    logger.error("Batch %s is parked: %s", id_, reason)
    signals.parked.send_robust(sender=None, outbox_id=id_, reason=reason)
