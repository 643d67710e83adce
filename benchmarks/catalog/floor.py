"""The least a record in the change's own transaction costs: ready rows, and nothing captured.

Transaction, INSERT and COMMIT are the app's own; what would be captured, encoded and encrypted is
a constant of the size that one such save comes to.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final

from django.db import connection, models

from audit_log.capture import saves
from audit_log.events import Event
from audit_log.models import Outbox
from audit_log.recording import nudge, outbox, pending
from audit_log.recording.joined import Joined
from benchmarks.catalog.models import Item

_PAYLOAD: Final = os.urandom(450)  # an update of two fields, as it is in the outbox
_EVENT: Any = object()


def install() -> None:
    """In place of capture; after the app has installed itself."""
    saves.uninstall()
    original: Any = models.Model._save_table  # type: ignore[attr-defined]  # noqa: SLF001

    def save_table(self: models.Model, *arguments: Any, **options: Any) -> Any:
        if not isinstance(self, Item):
            return original(self, *arguments, **options)
        joined = Joined(connection, lambda: _EVENT)
        with pending.bracket(connection, joined=joined):
            updated = original(self, *arguments, **options)
            if joined.stored is None:
                pending.add(connection, _EVENT)
            else:
                pending.add_stored(connection, _EVENT)
            return updated

    models.Model._save_table = save_table  # type: ignore[attr-defined]  # noqa: SLF001
    outbox.rows_of = _rows_of
    nudge.wake = _no_nudge


def settle() -> None:
    """Empty the outbox, whose rows no relay could read."""
    with connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {Outbox._meta.db_table}")  # noqa: S608 - our own table


def _no_nudge(*, committed: bool = True) -> bool:
    return not committed


def _rows_of(events: Sequence[Event]) -> list[outbox.Row]:
    return [outbox.Row(len(events), _PAYLOAD * len(events))]
