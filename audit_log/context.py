"""Who acts, and in which request or task: an immutable value in a ContextVar.

It follows `await`, `sync_to_async` and `asyncio.to_thread`, never a plain thread: a wrong actor is
worse than none.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from functools import partial
from typing import Any, Protocol

import msgspec

from audit_log.events import VERSION, Actor, Event, Request, emitter


class Scope(Protocol):
    """The HTTP request we are in, as `capture.requests` knows it.

    `views` holds what it has shown until it has `ended` (`capture.views`); None is nothing yet.
    """

    ended: bool
    views: dict[Hashable, Any] | None

    def actor(self) -> Actor | None:
        """Who is logged in now; logs nobody in and marks no session as read."""

    def request(self) -> Request | None:
        """What an event of this request says about it."""

    def tenant(self) -> str | None:
        """Whose data the request works on."""

    def noticed(self, event: Event | None = None) -> None:
        """An event happened in this request, so the request itself is notable.

        None where a trigger of the database has seen it.
        """


class Run(Protocol):
    """The task or command we are in."""

    def noticed(self, event: Event | None = None) -> None:
        """An event happened in it. None where a trigger of the database has seen it."""


class Context(msgspec.Struct, frozen=True):
    """Everything an event says about its surroundings. `outer` is what it replaced.

    `via` is what the actor acts through, whoever that is. `stand_in` is an actor that a command
    or a migration put in place because nobody else was known. `trace_parent` is the W3C header
    that `trace_id` came in, to be handed on.
    """

    scope: Scope | None = None
    actor: Actor | None = None
    via: str | None = None
    stand_in: Actor | None = None
    request: Request | None = None
    tenant: str | None = None
    reason: str | None = None
    trace_id: str | None = None
    trace_parent: str | None = None
    parent_id: str | None = None
    source: str | None = None
    suspended: bool = False
    task: str | None = None
    run: Run | None = None
    outer: Context | None = None


_EMPTY = Context()
_KEPT_SOURCES = frozenset({"import", "trigger"})  # wherever they happen
_current: ContextVar[Context] = ContextVar("audit_log", default=_EMPTY)


def current() -> Context:
    """The context of this thread or task."""
    return _current.get()


def enter(context: Context) -> Callable[[], None]:
    """Make `context` the current one. Returns what restores the previous one.

    Call it in the same thread or task; in another one it clears instead, since a token of
    another context cannot be used.
    """
    return partial(_leave, _current.set(context))


def _leave(token: Token[Context]) -> None:
    try:
        _current.reset(token)
    except ValueError:
        _current.set(_EMPTY)


def clear() -> None:
    """Forget everything: a pool thread starts its next task clean."""
    _current.set(_EMPTY)


def put(context: Context) -> None:
    """Replace the current context for good, where begin and end are separate callbacks."""
    _current.set(context)


@contextmanager
def changed(**values: Any) -> Iterator[Context]:
    """The current context with some values replaced, for the length of a `with` block."""
    leave = enter(msgspec.structs.replace(_current.get(), **values))
    try:
        yield _current.get()
    finally:
        leave()


_span: Callable[[], str | None] | None = None


def follow_spans(trace_id: Callable[[], str | None] | None) -> None:
    """Ask this for the trace of each event first (`capture.spans`); None asks nobody."""
    global _span  # noqa: PLW0603 - once, as the app is made ready
    _span = trace_id


def actor_now() -> Actor | None:
    """Who acts: what `acting()` or a task said, else whoever is logged in."""
    return _actor(_current.get())


def _actor(context: Context) -> Actor | None:
    actor = context.actor
    if actor is None and context.scope is not None:
        actor = context.scope.actor()
    if context.via is None:
        return actor
    return msgspec.structs.replace(actor or Actor(), via=context.via)


def new_event(action: str, *, source: str, **values: Any) -> Event:
    """An event of now, with what the context knows. `values` are fields of Event and win."""
    context = _current.get()
    id_, occurred_at = emitter().stamp()
    if _span is not None and "trace_id" not in values and (trace_id := _span()) is not None:
        values["trace_id"] = trace_id
    if context is not _EMPTY:
        _add_surroundings(values, context)
        if context.source is not None and source not in _KEPT_SOURCES:
            source = context.source
    event = Event(
        version=VERSION,
        id=id_,
        occurred_at=occurred_at,
        action=action,
        source=source,
        **values,
    )
    if context.scope is not None:
        context.scope.noticed(event)
    if context.run is not None:
        context.run.noticed(event)
    return event


def _add_surroundings(values: dict[str, Any], context: Context) -> None:
    scope = context.scope
    # What is given is not asked for: reading the actor of a request may query.
    if "actor" not in values:
        values["actor"] = _actor(context)
    if "request" not in values:
        values["request"] = context.request or (scope.request() if scope is not None else None)
    if "tenant" not in values:
        values["tenant"] = context.tenant or (scope.tenant() if scope is not None else None)
    for name in ("reason", "trace_id", "parent_id"):
        values.setdefault(name, getattr(context, name))
