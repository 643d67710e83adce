"""Reads: `view` events of audited objects, in the outbox before the response leaves.

What somebody has read is not taken back by a rollback, so in a request the events wait for no
transaction of the project: they are written, all at once, when the middleware has the response and
before anybody else gets it. Outside of a request they are written where they happen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterable, Iterator
from functools import partial
from typing import Any, Final

from django.core.exceptions import SynchronousOnlyOperation
from django.db import DEFAULT_DB_ALIAS, connections, router
from django.db import Error as DatabaseFailure
from django.db.models import Model, QuerySet
from django.db.models.manager import BaseManager

from audit_log import context
from audit_log.capture.changes import Changes, row_event
from audit_log.capture.failures import guarded
from audit_log.capture.labels import label
from audit_log.capture.plans import Plan, plan_of
from audit_log.capture.ranges import Ranges, in_order
from audit_log.conf import get_settings
from audit_log.events import Event, Target
from audit_log.exceptions import RecordingFailed
from audit_log.recording import losses, outbox, pending, spool
from audit_log.recording.values import safe_str

ACTION: Final = "view"

_Make = Callable[[], Event]


def viewed(shown: Model | Iterable[Any], *, reason: str | None = None) -> None:
    """Record that somebody has seen an object, or the rows of a list (one event for all of them).

    Synchronous: the event is in the outbox before the response leaves, whatever becomes of the
    transactions of the request; outside of a request it is written now, or with the transaction
    that is open. The same object twice in a request is one event. Nothing is recorded of models
    that are not audited, of unsaved objects and inside `suspended()`. A query set is evaluated.
    Raises TypeError for what is neither object nor rows. With `ON_FAILURE="block"` it raises
    RecordingFailed where it cannot be recorded; in a request, that stands instead of the response.
    """
    if not isinstance(shown, Model) and not hasattr(shown, "__iter__"):
        raise TypeError(f"viewed() takes an object or rows, not {type(shown).__name__}.")
    if isinstance(shown, QuerySet) and not _is_ignored():
        len(shown)  # by the project, for which it stays evaluated
    said = {} if reason is None else {"reason": safe_str(reason)}
    note(shown, source="explicit", **said)


def note(shown: Any, *, source: str = "request", **said: str) -> None:
    """Capture that an object or rows were shown; of a query set what is loaded already.

    `said` are other fields of the event.
    """
    if _is_ignored():
        return
    if _in_event_loop() and _open_scope() is None:
        raise SynchronousOnlyOperation(
            "Outside of a request, async code records a view by sync_to_async(audit_log.viewed)."
        )
    guarded("capture_failed", _note, shown=shown, said={"source": source, **said})


def _is_ignored() -> bool:
    return not get_settings().enabled or context.current().suspended


def _note(*, shown: Any, said: dict[str, Any]) -> None:
    if isinstance(shown, Model):
        # Not type(): `request.user` is a lazy object.
        plan = plan_of(shown.__class__)
        if plan is not None and shown.pk is not None:
            _note_row(plan, shown, said)
        return
    for rows in _kinds(shown):
        _note_rows(rows, said)


def _note_row(plan: Plan, instance: Model, said: dict[str, Any]) -> None:
    pk = instance.pk
    alias = router.db_for_write(plan.model, instance=instance)
    make = partial(_event_of_row, plan, instance, pk, said)
    _take((plan.type, plan.target_id(pk)), alias, make, said)


def _event_of_row(plan: Plan, instance: Model, pk: Any, said: dict[str, Any]) -> Event:
    # Not where the event goes: it may have been read from a replica.
    connection = connections[instance._state.db or DEFAULT_DB_ALIAS]
    try:
        name = label(instance, connection)
    except DatabaseFailure:
        name = ""  # no connection to be had; who has seen what is still known
    return row_event(ACTION, plan, instance, Changes(), pk=pk, label=name, **said)


class _Rows:
    """The rows of one model in a list. `count` is None where nothing says how many they were."""

    def __init__(self, plan: Plan, count: int | None, keys: Iterable[Any] = ()) -> None:
        self.plan = plan
        self.count = count
        self.keys = Ranges(plan, in_order(keys))


def _kinds(shown: Any) -> Iterator[_Rows]:
    """What a list holds, by model: rows that are no objects have at least a number."""
    if isinstance(shown, (QuerySet, BaseManager)):  # rest_framework takes managers, too
        plan = plan_of(shown.model)
        loaded = getattr(shown, "_result_cache", None)
        if loaded is None or not all(isinstance(row, Model) for row in loaded):
            if plan is not None and loaded != []:
                yield _Rows(plan, None if loaded is None else len(loaded))
            return
        shown = loaded
    keys: dict[type[Model], list[Any]] = {}
    for row in shown:
        if isinstance(row, Model) and row.pk is not None:
            kind = row._meta.concrete_model or row.__class__
            keys.setdefault(kind, []).append(row.pk)
    for model, found in keys.items():
        plan = plan_of(model)
        if plan is not None:
            yield _Rows(plan, len(found), found)


def _note_rows(rows: _Rows, said: dict[str, Any]) -> None:
    key = (rows.plan.type, rows.count, tuple(rows.keys.parts))
    make = partial(_event_of_rows, rows, said)
    _take(key, router.db_for_write(rows.plan.model), make, said)


def _event_of_rows(rows: _Rows, said: dict[str, Any]) -> Event:
    bulk: dict[str, Any] = {}
    if rows.count is not None:
        bulk["count"] = rows.count
    if rows.keys.parts:
        bulk["keys"] = rows.keys.parts
    if rows.keys.omitted:
        bulk["keys_omitted"] = rows.keys.omitted
    return context.new_event(
        ACTION, target=Target(type=rows.plan.type), affected=rows.count, data={"bulk": bulk}, **said
    )


def _open_scope() -> context.Scope | None:
    """The request that is going on, if its response has not gone out yet."""
    scope = context.current().scope
    return None if scope is None or scope.ended else scope


def _take(key: Hashable, alias: str, make: _Make, said: dict[str, Any]) -> None:
    scope = _open_scope()
    if scope is None:
        _store(alias, [make()])
        return
    now = context.current()
    if scope.views is None:
        scope.views = {}
    key = (key, now.actor, said.get("reason", now.reason))
    if key not in scope.views:
        # Labels and actors may take queries, for which the event loop must not wait.
        later = _in_event_loop()
        scope.views[key] = (alias, partial(_make_in, now, make) if later else make())


def _make_in(surroundings: context.Context, make: _Make) -> Event:
    leave = context.enter(surroundings)
    try:
        return make()
    finally:
        leave()


def write(scope: context.Scope) -> None:
    """Put what a request has shown into the outbox. May query, so not in an event loop.

    Raises RecordingFailed with `ON_FAILURE="block"` only.
    """
    held, scope.views = scope.views, None
    events: dict[str, list[Event]] = {}

    def add(alias: str, made: Event | _Make) -> None:
        events.setdefault(alias, []).append(made if isinstance(made, Event) else made())

    for alias, made in (held or {}).values():
        guarded("capture_failed", add, alias=alias, made=made)
    for alias, found in events.items():
        _store(alias, found)


def _store(alias: str, events: list[Event]) -> None:
    """One INSERT and COMMIT; inside a transaction the events wait for that one.

    A database that does not answer is no reason to forget who has seen what: there is the spool.
    """
    connection = connections[alias]
    try:
        with pending.bracket(connection):
            for event in events:
                pending.add(connection, event)
    except RecordingFailed:
        raise
    except Exception as error:
        if get_settings().on_failure == "block":
            raise RecordingFailed(f"A view could not be recorded: {error}") from error
        losses.warn("flush_failed", "Cannot write to the outbox of %r.", alias)
        if isinstance(error, (DatabaseFailure, OSError)):
            guarded("events_lost", _spool, alias=alias, events=events)
        else:  # a test that may not use the database, say
            losses.count("events_lost", len(events))


def _spool(*, alias: str, events: list[Event]) -> None:
    spool.write(alias, outbox.rows_of(events))


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
