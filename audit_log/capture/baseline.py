"""A `snapshot` of every object that was there before the log, as if it were created now.

Rows are read a batch at a time, and locked until their events are in the outbox: whoever changes
one afterwards has the later event. A run that was killed is run again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.db import OperationalError, connections, models, router, transaction

from audit_log import context
from audit_log.capture import changes
from audit_log.capture.failures import guarded
from audit_log.capture.known import ANY, SNAPSHOT, WHOLE, Known
from audit_log.capture.labels import label
from audit_log.capture.plans import Plan, full_plan_of
from audit_log.capture.tables import Table
from audit_log.events import Event
from audit_log.recording import nudge, outbox, pending
from audit_log.router import ledger_alias

ACTION: Final = "audit_log.baselined"
BATCH: Final = 500
_SOURCE: Final = "command"
_TRIES: Final = 5
# How long to wait for rows that others hold, before each try. We hold none meanwhile.
_PAUSES: Final = (0, 0.05, 0.1, 0.2, 0.4, 0.8)


@dataclass(slots=True)
class Counted:
    """What became of the objects of one model."""

    database: str = ""
    written: int = 0
    known: int = 0  # have records already
    locked: int = 0  # others held them all the time
    failed: int = 0  # no event could be made of them
    has_table: bool = True


def run(
    wanted: Iterable[type[models.Model]],
    *,
    using: str | None = None,
    batch: int = BATCH,
    incomplete: bool = False,
    dry_run: bool = False,
    progress: Callable[[str, Counted], None] | None = None,
) -> dict[str, Counted]:
    """Write the snapshots of all objects of audited models that have no record yet; by type.

    Each model is read where it is written (`using` names another database). With `incomplete`,
    objects whose create or snapshot is not in the log get one though other records are. That it
    was done is recorded, also where it ends with an error. With `dry_run`, `written` says how many
    there would be. `progress(type, counted)` is called after each batch.
    """
    found: dict[str, Counted] = {}
    known: dict[str, Known] = {}
    outcome = "failure"
    try:
        for plan in _plans(wanted):
            alias = using or router.db_for_write(plan.model)
            if alias not in known:
                known[alias] = Known(alias, WHOLE if incomplete else ANY)
            found[plan.type] = Counted(alias)
            objects = _Objects(plan, alias, known[alias], found[plan.type])
            for _ in objects.go(batch, dry_run=dry_run):
                if progress is not None:
                    progress(plan.type, objects.counted)
        outcome = "success"
    finally:
        if not dry_run and any(counted.written for counted in found.values()):
            _say(found, outcome)
    return found


def _plans(wanted: Iterable[type[models.Model]]) -> list[Plan]:
    """One for each table, in the order of their names: a proxy is its model."""
    found = {plan.type: plan for model in wanted if (plan := full_plan_of(model)) is not None}
    return [found[kind] for kind in sorted(found)]


def _say(found: dict[str, Counted], outcome: str) -> None:
    data = {
        "count": sum(counted.written for counted in found.values()),
        "models": {kind: counted.written for kind, counted in found.items() if counted.written},
    }
    event = context.new_event(ACTION, source=_SOURCE, outcome=outcome, data=data)
    connection = connections[ledger_alias()]
    alone = not pending.in_transaction(connection)
    outbox.insert(connection, outbox.rows_of([event]))
    if alone:
        nudge.wake()


class _Objects:
    """The objects of one model, and what becomes of them."""

    def __init__(self, plan: Plan, alias: str, known: Known, counted: Counted) -> None:
        self.plan = plan
        self.table = Table(plan, alias)
        self.known = known
        self.counted = counted

    def go(self, size: int, *, dry_run: bool) -> Iterable[None]:
        """Batch after batch; what was done is in `counted`."""
        for keys in self.table.batches(size):
            if dry_run:
                self._look(keys)
            else:
                self._write(keys)
            yield
        self.counted.has_table = self.table.exists

    def _look(self, keys: Sequence[Any]) -> None:
        ids = self._ids(keys)
        known = self.known.among(self.plan.type, ids)
        self.counted.known += len(known)
        self.counted.written += len(ids) - len(known)

    def _write(self, keys: Sequence[Any]) -> None:
        ids = self._ids(keys)
        # Not to lock what there is nothing to do for.
        known = self.known.recorded(self.plan.type, ids)
        self.counted.known += len(known)
        left = [key for id_, key in ids.items() if id_ not in known]
        for pause in _PAUSES:
            if not left:
                break
            time.sleep(pause)
            read = self._retried(left)
            left = self.table.present(set(left) - read)
        self.counted.locked += len(left)

    def _ids(self, keys: Iterable[Any]) -> dict[str, Any]:
        return {id_: key for key in keys if (id_ := self.plan.target_id(key)) is not None}

    def _retried(self, keys: Sequence[Any]) -> set[Any]:
        if pending.in_transaction(self.table.connection):
            return self._some(keys)
        for attempt in range(1, _TRIES):
            try:
                return self._some(keys)
            except OperationalError:  # a deadlock, a lock of SQLite's, a server that restarts
                self.known.forget()  # who cannot tell whether it committed looks again
                time.sleep(random.uniform(0.01, 0.05) * 2**attempt)  # noqa: S311 - not cryptography
        return self._some(keys)

    def _some(self, keys: Sequence[Any]) -> set[Any]:
        """Write those that nobody holds, in one transaction. Their keys."""
        connection = self.table.connection
        alone = not pending.in_transaction(connection)
        with transaction.atomic(using=connection.alias, savepoint=False):
            if alone:
                self._read_committed()
            instances = self.table.locked(keys)
            # Asked once they are locked: another run may have been faster.
            known = self.known.among(self.plan.type, self._ids(i.pk for i in instances))
            unknown = [i for i in instances if self.plan.target_id(i.pk) not in known]
            events = self._events(unknown)
            if events:
                outbox.insert(connection, outbox.rows_of(events))
        if alone and events:
            nudge.wake()
        self.counted.known += len(known)
        self.counted.written += len(events)
        self.counted.failed += len(unknown) - len(events)
        return {instance.pk for instance in instances}

    def _read_committed(self) -> None:
        """What is asked behind the lock must say what was committed before it."""
        connection = self.table.connection
        if connection.vendor in {"postgresql", "mysql"}:
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")

    def _events(self, instances: Iterable[models.Model]) -> list[Event]:
        """Their snapshots. What cannot be captured is counted and logged, or raised."""
        events: list[Event] = []

        def add(instance: models.Model) -> None:
            events.append(self._event(instance))

        for instance in instances:
            connection = self.table.connection
            guarded("capture_failed", add, connection=connection, instance=instance)
        return events

    def _event(self, instance: models.Model) -> Event:
        """As a create says it: every value that is set, by the policies of its field."""
        connection = self.table.connection
        found = changes.of_creation(self.plan, instance, instance.__dict__, connection)
        return changes.row_event(
            SNAPSHOT,
            self.plan,
            instance,
            found,
            pk=instance.pk,
            label=label(instance, connection),
            source=_SOURCE,
        )
