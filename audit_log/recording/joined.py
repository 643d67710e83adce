"""A write and its batch as one statement, where the event is known before the row is written.

A transaction of our own around one UPDATE costs a round trip and four statements more. PostgreSQL
takes both as one: the batch is inserted if the row was written, and one statement is atomic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from django.db.backends.base.base import BaseDatabaseWrapper

from audit_log.events import Event
from audit_log.recording import outbox

_NAME: Final = "audit_log_written"


class Joined:
    """One write in autocommit. `make` gives its event, or None where only the row will tell.

    It is called when the statement is about to be sent: after every `pre_save`. `stored` is the
    event whose batch went with the statement.
    """

    __slots__ = ("_connection", "_made", "_make", "stored")

    def __init__(self, connection: BaseDatabaseWrapper, make: Callable[[], Event | None]) -> None:
        self._connection = connection
        self._make = make
        self._made: Event | None = None
        self.stored: Event | None = None

    def statement(self, sql: str) -> str | None:
        """The UPDATE with its batch in it; None where it has to go alone. Never raises.

        What fails here is tried again, and told, once the row is written.
        """
        if not sql.startswith("UPDATE ") or " RETURNING " in sql:
            return None
        try:
            self._made = self._make()
            rows = [] if self._made is None else outbox.rows_of([self._made])
        except Exception:  # noqa: BLE001 - see above
            return None
        if len(rows) != 1:
            return None
        # However many rows a key has (tables that inherit), the event is one.
        batch = f"{outbox.into(self._connection)} SELECT {outbox.values_of(rows[0])}"
        return f"WITH {_NAME} AS ({sql} RETURNING 1) {batch} WHERE EXISTS (SELECT FROM {_NAME})"

    def sent(self, count: int) -> None:
        """The statement went through, and inserted so many batches."""
        if count:
            self.stored = self._made
