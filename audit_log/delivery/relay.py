"""Moves batches from the outbox into the ledger: claim, decode, scrub, seal, write, delete.

Everything between claim and delete is one transaction, so a kill at any point leaves either the
batch or its records. Several relays share the outbox by SKIP LOCKED; SQLite has one writer, so
there the costly part happens before the transaction begins. Where the outbox is in another
database than the ledger, the ledger commits first: a kill in between repeats the batch, and the
ledger drops what it has.
"""

from __future__ import annotations

import gc
import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from django.db import (
    DatabaseError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    connections,
    transaction,
)
from django.db.models import Q
from django.db.models.functions import Length

from audit_log.delivery import outboxes, parking
from audit_log.events import Event, decode_batch
from audit_log.exceptions import AuditLogError
from audit_log.ledger import heads, writer
from audit_log.ledger.records import SEALED_COLUMNS, Place, Prepared, prepare_all, scope_of
from audit_log.models import Outbox
from audit_log.models.outbox import Form
from audit_log.privacy import data_keys
from audit_log.privacy.encryption import key_ring
from audit_log.recording import buffer, forms, losses, outbox, spool
from audit_log.recording.forms import Waiting
from audit_log.router import ledger_alias

logger = logging.getLogger("audit_log")

MAX_ROWS: Final = 500
MAX_EVENTS: Final = 2_000
MAX_BYTES: Final = 4_000_000
_RETRIES: Final = 5
# PostgreSQL's serialization failure and deadlock; MariaDB's deadlock, lock timeout, changed row.
_RETRYABLE: Final = frozenset({"40001", "40P01", 1213, 1205, 1020})
# No batch's own fault, as far as one can tell: a server that is down, a table that is missing.
_SYSTEMIC: Final = (OperationalError, InterfaceError, ProgrammingError)
_SAME_TROUBLE: Final = 3


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


def relay_everywhere(
    *, seconds: float | None = None, progress: Callable[[Relayed], None] | None = None
) -> Relayed:
    """Relay the outbox of every database that has one. A database that is down stops no other."""
    started = time.monotonic()
    total = relay(seconds=seconds, progress=progress)
    for alias in outboxes.aliases():
        if alias == ledger_alias():
            continue
        left = None if seconds is None else max(0.0, seconds - (time.monotonic() - started))
        try:
            total.add(relay(alias, seconds=left, progress=progress))
        except DatabaseError:
            losses.warn("relay_failed", "The outbox of %r cannot be relayed now.", alias)
    return total


def relay(
    using: str | None = None,
    *,
    seconds: float | None = None,
    progress: Callable[[Relayed], None] | None = None,
) -> Relayed:
    """Move all that waits in one outbox (the ledger's own), or as much as fits into `seconds`.

    Safe to run many at once. This process's own buffered events and its spool go first.
    """
    using = using or ledger_alias()
    started = time.monotonic()
    total = Relayed()
    _write_what_waits_outside()
    while True:
        moved = _round(using)
        total.add(moved)
        if progress is not None:
            progress(total)
        late = seconds is not None and time.monotonic() - started >= seconds
        if late or not (moved.batches or moved.failed or moved.parked):
            return total


def _write_what_waits_outside() -> None:
    """Buffer and spool, into their outboxes. Where that fails they keep what they hold."""
    try:
        buffer.flush()
        spool.replay()
    except Exception:  # noqa: BLE001 - what is in the outbox can be relayed all the same
        losses.warn("flush_failed", "Buffered or spooled events cannot be written now.")


def waiting(using: str | None = None) -> int:
    """How many batches could be claimed now."""
    return int(_claimable(using or ledger_alias()).count())


def _claimable(using: str) -> Any:
    now = datetime.now(UTC)
    due = Q(next_attempt_at__isnull=True) | Q(next_attempt_at__lte=now)
    return Outbox.objects.using(using).filter(due, parked_at__isnull=True).order_by("id")


def _round(using: str) -> Relayed:
    try:
        return _retried(partial(_move, using, None))
    except AuditLogError:
        raise  # the ledger itself is damaged: nothing may be added to it
    except Exception:
        logger.exception("A claim of batches failed; trying them one by one.")
    return _one_by_one(using)


def _one_by_one(using: str) -> Relayed:
    """Find out which batches fail alone; if all do, the trouble is not theirs."""
    total = Relayed()
    failing: dict[int, Exception] = {}
    for id_ in list(_claimable(using).values_list("id", flat=True)[:MAX_ROWS]):
        try:
            total.add(_retried(partial(_move, using, id_)))
        except AuditLogError:
            raise
        except Exception as error:
            failing[id_] = error
            if len(failing) >= _SAME_TROUBLE and _is_systemic(failing, total):
                raise
    if failing and _is_systemic(failing, total):
        raise next(iter(failing.values()))
    for id_, cause in failing.items():
        parking.postpone(using, id_, cause)
    total.failed += len(failing)
    return total


def _is_systemic(failing: dict[int, Exception], total: Relayed) -> bool:
    return not total.batches and all(isinstance(e, _SYSTEMIC) for e in failing.values())


def _retried(call: Callable[[], Relayed]) -> Relayed:
    for attempt in range(_RETRIES):
        try:
            return call()
        except OperationalError as error:
            if not _is_retryable(error):
                raise
            # Jitter, or the two that met would meet again.
            time.sleep(random.uniform(0.01, 0.05) * 2**attempt)  # noqa: S311 - not cryptography
    return call()


def _is_retryable(error: OperationalError) -> bool:
    cause = error.__cause__
    states = {getattr(cause, name, None) for name in ("sqlstate", "pgcode")}  # psycopg, psycopg2
    return bool(_RETRYABLE & {*states, *error.args[:1]}) or "database is locked" in str(error)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the garbage collector for one claim: a tenth of the time.

    Thousands of values are kept until they are written, none of them in a cycle, and it would visit
    all of them again and again. Claims of several threads at once may turn it on too early, which
    costs only time; nothing leaves it off.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@_uncollected()
def _move(using: str, only: int | None) -> Relayed:
    """One claim, from outbox to ledger, in one transaction."""
    if connections[using].features.has_select_for_update_skip_locked:
        with _read_committed(using):
            claim = _Claim(using, only, locked=True)
            claim.prepare()
            return claim.move()
    claim = _Claim(using, only, locked=False)
    claim.prepare()
    if not claim.rows:
        return Relayed()
    with _read_committed(using):
        claim.drop_taken()
        return claim.move()


@contextmanager
def _read_committed(using: str) -> Iterator[None]:
    """A transaction under READ COMMITTED, even where the project asked for more.

    The id check needs it; and under REPEATABLE READ, MariaDB's SKIP LOCKED locks the gaps between
    the rows as well, so that every INSERT into the outbox would wait for the relay.
    """
    with transaction.atomic(using=using):
        connection = connections[using]
        if not connection.savepoint_ids and _asks_for_more(connection):
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        yield


def _asks_for_more(connection: Any) -> bool:
    level = getattr(connection, "isolation_level", None)
    if level is None:
        return bool(connection.vendor == "mysql")  # the server's own: REPEATABLE READ, mostly
    return "COMMITTED" not in str(getattr(level, "name", level)).upper()


class _Claim:
    """Some rows of the outbox, on their way."""

    def __init__(self, using: str, only: int | None, *, locked: bool) -> None:
        self.using = using
        self.rows = _claim(using, only, locked=locked)
        self.prepared: list[tuple[int, Prepared]] = []
        self.unprepared: list[tuple[int, Event, Exception]] = []
        self.unread: dict[int, Exception] = {}

    def drop_taken(self) -> None:
        """Forget rows that another relay took while we prepared them (SQLite)."""
        ids = [row.id for row in self.rows]
        left = set(Outbox.objects.using(self.using).filter(pk__in=ids).values_list("id", flat=True))
        self.rows = [row for row in self.rows if row.id in left]
        self.prepared = [item for item in self.prepared if item[0] in left]
        self.unprepared = [item for item in self.unprepared if item[0] in left]
        self.unread = {id_: error for id_, error in self.unread.items() if id_ in left}

    def prepare(self) -> None:
        """Decrypt, decode, route, scrub and seal. What cannot be is told apart, not raised."""
        events = self._decode()
        if not events:
            return
        ledger = ledger_alias()
        routed = [(id_, event, route(event)) for id_, event in events]
        sizes = heads.ensure({stream for _, _, stream in routed}, ledger)
        places = {stream: Place(stream, size, ledger) for stream, size in sizes.items()}
        data_keys.refresh(_scopes(routed), ledger)
        results = prepare_all((event, places[stream]) for _, event, stream in routed)
        for (id_, event), result in zip(events, results, strict=True):
            if isinstance(result, Exception):
                self.unprepared.append((id_, event, result))
            else:
                self.prepared.append((id_, result))

    def _decode(self) -> list[tuple[int, Event]]:
        ring = key_ring()
        payloads: list[tuple[int, bytes]] = []
        events: list[tuple[int, Event]] = []
        # One step for all of them before the next, as `prepare_all` does, and for its reason.
        for row in self.rows:
            try:
                if row.form == Form.BATCH:
                    payload = ring.decrypt(outbox.PURPOSE, bytes(row.payload))
                    payloads.append((row.id, payload))
                else:
                    events += [(row.id, event) for event in forms.events_of(row, self.using)]
            except Exception as error:  # noqa: BLE001 - one poisoned batch must not stop the others
                self.unread[row.id] = error
        for id_, payload in payloads:
            try:
                events += [(id_, event) for event in decode_batch(payload)]
            except Exception as error:  # noqa: BLE001 - the same
                self.unread[id_] = error
        return events

    def move(self) -> Relayed:
        """Write the records, delete the batches. The outbox's transaction is the caller's."""
        result = writer.Written()
        done = sorted({row.id for row in self.rows} - self._failing())
        here = self.using == ledger_alias()
        if here:
            self._delete(done)  # they are ours already; other relays wait for what comes now
        if self.prepared:
            with self._ledger():
                result = writer.write([item for _, item in self.prepared], ledger_alias())
        for event, reason in result.refused:
            parking.park(self.using, event, reason)
        self._put_failures_apart()
        if not here:
            self._delete(done)
        return Relayed(
            batches=len(done),
            events=result.stored,
            repeated=result.repeated,
            failed=len(self.unread) + len(self.unprepared),
            parked=len(result.refused),
        )

    def _delete(self, ids: Sequence[int]) -> None:
        if not ids:
            return
        connection = connections[self.using]
        table = connection.ops.quote_name(Outbox._meta.db_table)
        with connection.cursor() as cursor:  # no signals for it, and nothing to collect
            cursor.execute(f"DELETE FROM {table} WHERE id IN ({', '.join(map(str, ids))})")  # noqa: S608 - numbers

    def _failing(self) -> set[int]:
        """The batches that fail as a whole, so that they stay."""
        stored = {id_ for id_, _ in self.prepared}
        return set(self.unread) | {id_ for id_, _, _ in self.unprepared if id_ not in stored}

    def _ledger(self) -> AbstractContextManager[object]:
        ledger = ledger_alias()
        return nullcontext() if self.using == ledger else _read_committed(ledger)

    def _put_failures_apart(self) -> None:
        """Postpone batches that fail as a whole, and separate the events that fail alone."""
        whole, failing = dict(self.unread), self._failing()
        for id_, event, error in self.unprepared:
            if id_ in failing:
                whole[id_] = error
            else:
                parking.set_apart(self.using, event, error)
        for id_, error in whole.items():
            parking.postpone(self.using, id_, error)


def _scopes(routed: Iterable[tuple[int, Event, str]]) -> set[str]:
    return {
        scope_of(event, column, stream) for _, event, stream in routed for column in SEALED_COLUMNS
    }


def _claim(using: str, only: int | None, *, locked: bool) -> list[Waiting]:
    rows = _claimable(using)
    if only is not None:
        rows = rows.filter(pk=only)
    if locked:
        rows = rows.select_for_update(skip_locked=True)
    sizes = list(
        rows.annotate(size=Length("payload")).values_list("id", "event_count", "size")[:MAX_ROWS]
    )
    ids = _within_bounds(sizes)
    if not ids:
        return []
    claimed = Outbox.objects.using(using).filter(pk__in=ids).order_by("id")
    return [Waiting(*row) for row in claimed.values_list(*forms.FIELDS)]


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
