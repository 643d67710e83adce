"""Which objects the log knows: by records in the ledger, or by events on their way there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from django.db.models import QuerySet

from audit_log.capture.before import chunks
from audit_log.events import Event, emitter
from audit_log.models import Outbox, Record
from audit_log.recording import forms, losses
from audit_log.recording.forms import Waiting
from audit_log.router import ledger_alias

SNAPSHOT: Final = "snapshot"
WHOLE: Final = frozenset({"create", SNAPSHOT})
"""What says every value of an object."""
ANY: Final = WHOLE | {"update", "revert"}
_GONE: Final = "delete"


class Known:
    """What is recorded of the objects of one database.

    `telling` are the actions that make an object known. What was deleted since is not: a row with
    the key of a deleted object is another one, which came in unseen.
    """

    def __init__(self, alias: str, telling: frozenset[str] = ANY) -> None:
        self._alias = alias
        self._telling = telling
        # The last of these actions on each object, by row of the outbox. Of rows that are there
        # now: what the relay took since is in the ledger.
        self._waiting: dict[int, dict[tuple[str, str], str]] = {}
        self._has_looked = False

    def forget(self) -> None:
        """Look at all of the outbox again, our own events there as well."""
        self._waiting = {}
        self._has_looked = False

    def among(self, kind: str, ids: Iterable[str]) -> set[str]:
        """Those of the objects of type `kind` with these ids that are known."""
        wanted = set(ids)
        # First, or what is relayed in between would be seen in neither.
        waiting = self._in_outbox(kind, wanted)
        found = {id_ for id_, action in waiting.items() if action in self._telling}
        return found | self.recorded(kind, wanted - set(waiting))

    def recorded(self, kind: str, ids: Iterable[str]) -> set[str]:
        """Those that are known to the ledger."""
        known: set[str] = set()
        for portion in chunks(ids):
            rows = self._records(kind).filter(target_id__in=portion)
            pairs: set[tuple[Any, str]] = set(
                rows.order_by().values_list("target_id", "action").distinct()
            )
            told = {id_ for id_, action in pairs if action in self._telling}
            gone = {id_ for id_, action in pairs if action == _GONE}
            known |= told - gone
            known |= {id_ for id_ in told & gone if self._newest(kind, id_) != _GONE}
        return known

    def _records(self, kind: str) -> QuerySet[Record]:
        rows: QuerySet[Record] = Record.objects.using(ledger_alias())
        return rows.filter(target_type=kind, action__in=[*self._telling, _GONE])

    def _newest(self, kind: str, id_: str) -> str | None:
        rows = self._records(kind).filter(target_id=id_).order_by("-id")
        return rows.values_list("action", flat=True).first()

    def _in_outbox(self, kind: str, wanted: set[str]) -> dict[str, str]:
        """What was last done to them, of what waits in the outbox."""
        self._look()
        names = {(kind, id_) for id_ in wanted}
        found: dict[str, str] = {}
        for actions in self._waiting.values():
            found.update((name[1], actions[name]) for name in names & actions.keys())
        return found

    def _look(self) -> None:
        """Read the batches that were not there when it was last looked at.

        By their ids, one by one: who began first may commit last.
        """
        rows = Outbox.objects.using(self._alias).order_by("id")
        ids = list(rows.values_list("id", flat=True))
        fresh = [id_ for id_ in ids if id_ not in self._waiting]
        read: dict[int, dict[tuple[str, str], str]] = {}
        for portion in chunks(fresh):
            for row in rows.filter(pk__in=portion).values_list(*forms.FIELDS).iterator():
                waiting = Waiting(*row)
                read[waiting.id] = self._actions(waiting)
        self._waiting = {id_: self._waiting.get(id_, read.get(id_, {})) for id_ in ids}
        self._has_looked = True

    def _actions(self, row: Waiting) -> dict[tuple[str, str], str]:
        try:
            events = forms.events_of(row, self._alias)
        except Exception:  # noqa: BLE001 - the relay cannot read it either, and will say so
            losses.warn("batch_unread", "A batch in the outbox of %r is unread.", self._alias)
            return {}
        return {
            (event.target.type, event.target.id): event.action
            for event in events
            if event.target is not None and event.target.id is not None and self._tells(event)
        }

    def _tells(self, event: Event) -> bool:
        if event.action == SNAPSHOT and self._has_looked and event.emitter == emitter().name:
            return False  # our own, of objects that are not asked for again: not held in memory
        return event.action in self._telling or event.action == _GONE
