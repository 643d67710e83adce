"""A write and its batch as one statement, where the event is known before the row is written.

A transaction of our own around one UPDATE costs a round trip and four statements more. PostgreSQL
takes both as one: the batch is inserted if the row was written, and one statement is atomic.

The event is older than the statement, so the row must not be waited for: who holds it may write it,
later by the clock and earlier in fact. A row that is locked is left alone, and written the usual
way, in which the event is made once the row is ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from django.db.backends.base.base import BaseDatabaseWrapper

from audit_log.events import Event
from audit_log.recording import outbox

_NAME: Final = "audit_log_written"
_UPDATE: Final = re.compile(r"UPDATE (.+?) SET .+ WHERE (.+)", re.DOTALL)


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

    def statement(self, sql: str, params: Sequence[Any]) -> tuple[str, Sequence[Any]] | None:
        """The UPDATE with its batch in it; None where it has to go alone. Never raises.

        It changes nothing if the row is absent, or locked. What fails here is tried again, and
        told, once the row is written.
        """
        found = _UPDATE.fullmatch(sql)
        if found is None or sql.count(" WHERE ") != 1 or " RETURNING " in sql:
            return None
        table, condition = found.groups()
        try:
            self._made = self._make()
            rows = [] if self._made is None else outbox.rows_of([self._made])
        except Exception:  # noqa: BLE001 - see above
            return None
        if len(rows) != 1:
            return None
        ours = f"SELECT FROM {table} WHERE {condition} FOR NO KEY UPDATE SKIP LOCKED"
        # However many rows a key has (tables that inherit), the event is one.
        batch = f"{outbox.into(self._connection)} SELECT {outbox.values_of(rows[0])}"
        statement = (
            f"WITH {_NAME} AS ({sql} AND EXISTS ({ours}) RETURNING 1) "
            f"{batch} WHERE EXISTS (SELECT FROM {_NAME})"
        )
        count = condition.count("%s")
        return statement, (*params, *params[len(params) - count :])

    def sent(self, count: int) -> bool:
        """The statement went through, and inserted so many batches. Whether the row is written."""
        if count:
            self.stored = self._made
        return bool(count)
