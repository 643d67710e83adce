"""One claim of a relay: some rows of the outbox, decoded, prepared, written and deleted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from django.db import connections, transaction
from django.db.models import Q
from django.db.models.functions import Length

from audit_log.delivery import parking
from audit_log.events import Event, decode_batch
from audit_log.ledger import heads, writer
from audit_log.ledger.records import Place, Prepared, prepare_all, scopes_of
from audit_log.models import Outbox
from audit_log.models.outbox import Form
from audit_log.privacy import data_keys
from audit_log.privacy.encryption import key_ring
from audit_log.recording import forms, outbox
from audit_log.recording.forms import Waiting
from audit_log.router import ledger_alias

MAX_ROWS: Final = 500
MAX_EVENTS: Final = 2_000
MAX_BYTES: Final = 4_000_000


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


def claimable(using: str) -> Any:
    """The batches that are due, in the order of their ids."""
    now = datetime.now(UTC)
    due = Q(next_attempt_at__isnull=True) | Q(next_attempt_at__lte=now)
    return Outbox.objects.using(using).filter(due, parked_at__isnull=True).order_by("id")


class Claim:
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
        return nullcontext() if self.using == ledger else read_committed(ledger)

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
    found: set[str] = set()
    for _, event, stream in routed:
        found |= scopes_of(event, stream)
    return found


def _claim(using: str, only: int | None, *, locked: bool) -> list[Waiting]:
    rows = claimable(using)
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


@contextmanager
def read_committed(using: str) -> Iterator[None]:
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
