"""Who acts, and in which request or task: an immutable value in a ContextVar.

It follows `await`, `sync_to_async` and `asyncio.to_thread`, never a plain thread: a wrong actor is
worse than none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from functools import partial
from typing import Any, Protocol

import msgspec

from audit_log.events import VERSION, Actor, Event, Request, emitter


class Scope(Protocol):
    """The HTTP request we are in, as `capture.requests` knows it."""

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


class Context(msgspec.Struct, frozen=True):
    """Everything an event says about its surroundings. `outer` is what it replaced."""

    scope: Scope | None = None
    actor: Actor | None = None
    request: Request | None = None
    tenant: str | None = None
    reason: str | None = None
    trace_id: str | None = None
    parent_id: str | None = None
    source: str | None = None
    suspended: bool = False
    task: str | None = None
    outer: Context | None = None


_EMPTY = Context()
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


def actor_now() -> Actor | None:
    """Who acts: what `acting()` or a task said, else whoever is logged in."""
    context = _current.get()
    if context.actor is not None:
        return context.actor
    return context.scope.actor() if context.scope is not None else None


def new_event(action: str, *, source: str, **values: Any) -> Event:
    """An event of now, with what the context knows. `values` are fields of Event and win."""
    context = _current.get()
    scope = context.scope
    id_, occurred_at = emitter().stamp()
    if context is not _EMPTY:
        _add_surroundings(values, context)
    event = Event(
        version=VERSION,
        id=id_,
        occurred_at=occurred_at,
        action=action,
        source=context.source or source,
        **values,
    )
    if scope is not None:
        scope.noticed(event)
    return event


def _add_surroundings(values: dict[str, Any], context: Context) -> None:
    scope = context.scope
    # What is given is not asked for: reading the actor of a request may query.
    if "actor" not in values:
        values["actor"] = context.actor or (scope.actor() if scope is not None else None)
    if "request" not in values:
        values["request"] = context.request or (scope.request() if scope is not None else None)
    if "tenant" not in values:
        values["tenant"] = context.tenant or (scope.tenant() if scope is not None else None)
    for name in ("reason", "trace_id", "parent_id"):
        values.setdefault(name, getattr(context, name))
