"""Transactions that begin with their first statement, for drivers that take both as one message.

Django begins a transaction by a statement of its own, or by turning autocommit off: a round trip
and more for each write in autocommit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from django.db.backends.base.base import BaseDatabaseWrapper

# What Django calls instead, on databases whose driver stays in autocommit (SQLite).
_BEGIN_HOOK: Final = "_start_transaction_under_autocommit"


class Joining(Protocol):
    """A write that can take its batch along (`recording.joined`)."""

    def statement(self, sql: str, params: Sequence[Any]) -> tuple[str, Sequence[Any]] | None: ...

    def sent(self, count: int) -> bool: ...


class Ours:
    """A wrapper of `connection.execute_wrapper` that is not the project's."""


class Begin(Ours):
    """The one that begins a transaction; each driver has a subclass."""

    def __init__(self, connection: BaseDatabaseWrapper, joining: Joining | None = None) -> None:
        self._connection = connection
        self._joining = joining

    @property
    def is_joining(self) -> bool:
        """Whether the next statement takes its batch along."""
        return self._joining is not None

    def __call__(
        self,
        execute: Any,
        sql: Any,
        params: Any,
        many: bool,  # noqa: FBT001 - Django's signature
        context: dict[str, Any],
    ) -> Any:
        raise NotImplementedError


def arm(connection: BaseDatabaseWrapper, begin: Callable[[], None]) -> None:
    """Let the transaction that is entered next begin by `begin()`."""
    setattr(connection, _BEGIN_HOOK, begin)


def arm_late(connection: BaseDatabaseWrapper, wrapper: Begin) -> None:
    """Let it begin with its first statement."""
    arm(connection, lambda: connection.execute_wrappers.append(wrapper))


def disarm(connection: BaseDatabaseWrapper) -> None:
    """The transaction has been entered."""
    if hasattr(connection, _BEGIN_HOOK):
        delattr(connection, _BEGIN_HOOK)


def end(connection: BaseDatabaseWrapper) -> None:
    """As the transaction ends: take the wrapper off again."""
    if connection.execute_wrappers:
        connection.execute_wrappers = [
            wrapper for wrapper in connection.execute_wrappers if not isinstance(wrapper, Begin)
        ]


def is_watched(connection: BaseDatabaseWrapper) -> bool:
    """Whether the project looks at statements on the way: the query log, wrappers of its own."""
    if connection.queries_logged:
        return True
    return any(not isinstance(wrapper, Ours) for wrapper in connection.execute_wrappers)


def is_joining(connection: BaseDatabaseWrapper) -> bool:
    """Whether the next statement is to take its batch along: it has to come as Django made it."""
    return any(
        isinstance(wrapper, Begin) and wrapper.is_joining for wrapper in connection.execute_wrappers
    )
