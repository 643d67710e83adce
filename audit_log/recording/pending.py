"""Events that wait for their transaction, in a list of our own on the connection.

Not in `on_commit`: host projects count those callbacks, a foreign one that raises drops the rest,
and none runs before COMMIT. Five methods of each connection are wrapped instead: a rolled-back
savepoint drops its events, and what is left just before the outermost COMMIT becomes one INSERT.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from types import TracebackType
from typing import Any, Final

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from audit_log.events import Event
from audit_log.exceptions import RecordingFailed
from audit_log.recording import beginning, mysql, nudge, outbox, postgresql, spool
from audit_log.recording.joined import Joined
from audit_log.recording.works import MAX_WAITING, Mark, Work, announce, uncommitted

_NO_MODE: Final = "not SQLite"
_BEGUN_BY_US: Final = {"postgresql": postgresql, "mysql": mysql}  # in fewer round trips


def work_of(connection: BaseDatabaseWrapper) -> Work:
    """The work of a connection, whose hooks are installed if they were not."""
    work: Work | None = getattr(connection, "audit_log_work", None)
    return install(connection) if work is None else work


def mark(connection: BaseDatabaseWrapper) -> Mark:
    """The mark of the place where the connection's transaction stands."""
    return work_of(connection).mark(connection.savepoint_state)


def mark_of_row(alias: str, row: tuple[Hashable, Hashable]) -> Mark | None:
    """The mark a row that was read just now depends on: None when we have not written it."""
    if not uncommitted:
        return None
    return work_of(connections[alias]).mark_of_row(row)


def add(connection: BaseDatabaseWrapper, event: Event) -> None:
    """Let `event` wait for the open transaction; without one, give it one of its own."""
    if connection.in_atomic_block or in_transaction(connection):
        _append(connection, event)
        return
    with bracket(connection):
        _append(connection, event)


def expect(connection: BaseDatabaseWrapper) -> None:
    """Wake the relay once the open transaction commits: triggers may have written for it."""
    work = work_of(connection)
    work.mark(connection.savepoint_state)
    work.expects = True


def add_stored(connection: BaseDatabaseWrapper, event: Event) -> None:
    """An event whose batch went along with the write (`recording.joined`)."""
    work = work_of(connection)
    work.keep(work.mark(connection.savepoint_state), event)
    announce(event, connection.alias)


def _append(connection: BaseDatabaseWrapper, event: Event) -> None:
    work = work_of(connection)
    work.items.append((work.mark(connection.savepoint_state), event))
    announce(event, connection.alias)
    if len(work.items) >= work.limit and work.items[0][0] is work.marks[-1][1]:
        _write_some(connection, work)


def _write_some(connection: BaseDatabaseWrapper, work: Work) -> None:
    """What a long transaction has captured so far goes into the outbox, where it falls with it.

    However much it changes, a process keeps a bounded part of it. Only while all of it belongs to
    the present place: written behind a savepoint, what is older than that would fall with it. Where
    the outbox refuses, it is asked again later, and at COMMIT, which is when `ON_FAILURE` decides.
    """
    if outbox.write_some(connection, [event for _, event in work.items]):
        work.take()
        work.forget_rows()
        work.limit = MAX_WAITING
    else:
        work.limit = 2 * len(work.items)


def in_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Whether what happens on the connection now waits for a COMMIT."""
    return connection.in_atomic_block or not connection.get_autocommit()


def bracket(
    connection: BaseDatabaseWrapper, *, logged: bool = False, joined: Joined | None = None
) -> Bracket:
    """A transaction around one write in autocommit; nothing at all inside somebody's own.

    Its BEGIN and COMMIT stay out of the project's query log, except that `logged` ones stand in
    for those of Django's own method, which finds itself in a transaction already. What is `joined`
    may do without.
    """
    return Bracket(connection, logged=logged, joined=joined)


class Bracket:
    """What `bracket` gives: a context manager that each write enters, so not a generator."""

    __slots__ = ("_block", "_connection", "_joined", "_logged")

    def __init__(
        self, connection: BaseDatabaseWrapper, *, logged: bool, joined: Joined | None
    ) -> None:
        self._connection = connection
        self._logged = logged
        self._joined = joined
        self._block: transaction.Atomic | None = None

    def __enter__(self) -> None:
        connection = self._connection
        if in_transaction(connection):
            return
        self._block = transaction.Atomic(connection.alias, savepoint=True, durable=False)
        if self._logged:
            self._block.__enter__()
            return
        driver = _BEGUN_BY_US.get(connection.vendor)
        with outbox.quiet(connection):
            if driver is None:
                self._block.__enter__()
                return
            driver.arm(connection, self._joined)
            try:
                self._block.__enter__()
            finally:
                beginning.disarm(connection)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        connection, block = self._connection, self._block
        if block is None:
            if isinstance(error, RecordingFailed):
                _doom(connection, error)
            return
        beginning.end(connection)
        try:
            # The project's own callbacks run in there: they are logged.
            if self._logged or (kind is None and connection.run_on_commit):
                block.__exit__(kind, error, trace)
                return
            with outbox.quiet(connection):
                block.__exit__(kind, error, trace)
        finally:
            mysql.end(connection)


def _doom(connection: BaseDatabaseWrapper, error: RecordingFailed) -> None:
    """With `ON_FAILURE="block"`, who catches our error must not commit the change either."""
    if connection.in_atomic_block:
        connection.needs_rollback = True
        connection.rollback_exc = error  # type: ignore[attr-defined]  # what Django shows


def write_early(connection: BaseDatabaseWrapper) -> int:
    """Put what waits into the outbox now, in the open transaction; it still falls with it.

    For tests, whose transaction never commits. How many events.
    """
    events = work_of(connection).take()
    if events:
        with outbox.quiet(connection):
            outbox.insert(connection, outbox.rows_of(events))
    return len(events)


def install(connection: BaseDatabaseWrapper, **_: Any) -> Work:
    """Wrap the five methods of one connection. Harmless when done twice."""
    _begin_immediate(connection)
    existing: Work | None = getattr(connection, "audit_log_work", None)
    if existing is not None:
        return existing
    work = Work()
    connection.audit_log_work = work  # type: ignore[attr-defined]
    for name, hook in _HOOKS.items():
        setattr(connection, name, partial(hook, connection, getattr(connection, name)))
    if connection.vendor == "mysql":
        mysql.notice_rollbacks(connection, work.undo)
    return work


def _begin_immediate(connection: BaseDatabaseWrapper) -> None:
    """On SQLite, make transactions take the write lock as they begin, unless the project chose.

    A deferred one that reads and then writes fails at once when another process wrote in between,
    and the relay is such a process.
    """
    mode = getattr(connection, "transaction_mode", _NO_MODE)
    name = str(connection.settings_dict["NAME"])
    if mode is None and "mode=ro" not in name and "immutable=1" not in name:
        connection.transaction_mode = "IMMEDIATE"  # type: ignore[attr-defined]


def _on_connection_created(*, connection: BaseDatabaseWrapper, **_: Any) -> None:
    install(connection)


def install_everywhere() -> None:
    """Install on every connection there is and on those to come."""
    connection_created.connect(_on_connection_created, dispatch_uid="audit_log.recording")
    for connection in connections.all(initialized_only=True):
        install(connection)


def uninstall_everywhere() -> None:
    """Take the hooks off again (tests, `ENABLED: False`)."""
    connection_created.disconnect(dispatch_uid="audit_log.recording")
    for connection in connections.all(initialized_only=True):
        if hasattr(connection, "audit_log_work"):
            del connection.audit_log_work
            for name in _HOOKS:
                del connection.__dict__[name]
            connection.__dict__.pop("wrap_database_errors", None)  # Django makes its own again
            if hasattr(connection, "transaction_mode"):
                options = connection.settings_dict["OPTIONS"]
                connection.transaction_mode = options.get("transaction_mode")


def _commit(connection: BaseDatabaseWrapper, original: Callable[[], None]) -> None:
    _with_flush(connection, original)


def _set_autocommit(
    connection: BaseDatabaseWrapper,
    original: Callable[..., None],
    autocommit: bool,  # noqa: FBT001 - Django's signature
    *args: Any,
    **options: Any,
) -> None:
    # Django commits open work here without calling commit(); psycopg refuses to.
    if autocommit and not postgresql.has_work(connection):
        _with_flush(connection, partial(original, autocommit, *args, **options))
    else:
        original(autocommit, *args, **options)


def _with_flush(connection: BaseDatabaseWrapper, commit: Callable[[], None]) -> None:
    work = work_of(connection)
    if connection.in_atomic_block or not work.marks:
        commit()  # refused inside a block; nothing of ours otherwise
        return
    if postgresql.is_in_error(connection):
        commit()  # which rolls back, and says nothing
        work.undo()
        return
    try:
        _flush(connection, work)
        commit()
    finally:
        mysql.commit_again(connection)
    refused, any_events = work.refused, bool(work.stored) or work.expects
    work.settle()
    if refused:
        spool.write(connection.alias, refused)
    if any_events:
        nudge.wake()


def _flush(connection: BaseDatabaseWrapper, work: Work) -> None:
    # Taken first: a COMMIT that fails may be tried again, and the callbacks of one that succeeds
    # may commit in their turn.
    events = work.take()
    if not events:
        return
    try:
        work.refused += outbox.flush(connection, events)
    except RecordingFailed:
        connection.rollback()  # Atomic does so for database errors only
        raise


def _rollback(connection: BaseDatabaseWrapper, original: Callable[[], None]) -> None:
    if connection.in_atomic_block:
        original()  # refused: nothing is rolled back
        return
    try:
        original()
    finally:
        work_of(connection).undo()


def _savepoint_rollback(
    connection: BaseDatabaseWrapper, original: Callable[[str], None], sid: str
) -> None:
    original(sid)
    # Django's savepoints are named "s<thread>_x<running number>".
    number = sid.rpartition("_x")[2] if sid else ""
    if number.isdigit():
        work_of(connection).undo(int(number))


def _close(connection: BaseDatabaseWrapper, original: Callable[[], None]) -> None:
    try:
        original()
    finally:
        work = work_of(connection)
        if work.marks:
            work.undo()  # the server rolls back what a closed connection left open


_HOOKS: Final[dict[str, Callable[..., None]]] = {
    "commit": _commit,
    "rollback": _rollback,
    "savepoint_rollback": _savepoint_rollback,
    "set_autocommit": _set_autocommit,
    "close": _close,
}
