"""Telling the triggers who acts: `SET LOCAL` in the same message as the statement that writes.

One wrapper of `connection.execute_wrapper` on each PostgreSQL connection, where a model is captured
by triggers. It costs no round trip, and what it sets ends with the transaction, so that a pooler
may give the connection to somebody else.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, Final

from django.apps import apps
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from audit_log import conf, context
from audit_log.capture.triggers import surroundings
from audit_log.capture.triggers.surroundings import RENEWED_AFTER, SETTING, Parts
from audit_log.capture.triggers.watched import watched_models
from audit_log.exceptions import ConfigurationError
from audit_log.recording import beginning, losses, nudge, pending, postgresql
from audit_log.recording.works import Mark

_BEFORE: Final = r"(?:\s|\(|--[^\n]*\n|/\*.*?\*/)*"
_WRITES: Final = re.compile(
    _BEFORE + r"(?:INSERT|UPDATE|DELETE|MERGE|WITH|TRUNCATE|COPY|EXECUTE|(CALL|DO))\b",
    re.IGNORECASE | re.DOTALL,
)
_OWN: Final = "audit_log_"  # our own tables, which no trigger is on
_NEAR: Final = 40
_WRITER: Final = "audit_log.triggers"


class Telling(beginning.Ours):
    """The wrapper of one connection."""

    def __init__(self, connection: BaseDatabaseWrapper, tables: frozenset[str]) -> None:
        self._connection = connection
        self._tables = tables
        self._made: tuple[Parts, str, float] | None = None
        self._told: tuple[str, Mark] | None = None

    def __call__(
        self,
        execute: Callable[..., Any],
        sql: Any,
        params: Any,
        many: bool,  # noqa: FBT001 - Django's signature
        context: dict[str, Any],
    ) -> Any:
        text = sql if isinstance(sql, str) else _text_of(sql, context)
        found = _WRITES.match(text)
        if found is None or _OWN in text[:_NEAR] or beginning.is_joining(self._connection):
            return execute(sql, params, many, context)
        inside = pending.in_transaction(self._connection)
        if found[1] and not inside:
            return execute(sql, params, many, context)  # it may commit, and so has to be alone
        said = self._said()
        if self._is_known(said) if inside else said is None:
            result = execute(sql, params, many, context)
        else:
            command = f"SET LOCAL {SETTING} = '{said or ''}'"
            result = self._execute_with(command, execute, text, (sql, params, many, context))
            if inside:
                self._told = (said or "", pending.mark(self._connection))
        self._expect(text, inside=inside)
        return result

    def _said(self) -> str | None:
        """The surroundings of now, sealed; made anew when they change, and each half a minute."""
        try:
            parts = surroundings.parts_now()
            if parts is None:
                return None
            made, now = self._made, time.monotonic()
            if made is not None and made[2] > now and all(map(_is, made[0], parts)):
                return made[1]
            text = surroundings.sealed(parts)
        except Exception:  # noqa: BLE001 - who acts must not fail what they do
            losses.warn("context_failed", "The triggers could not be told who acts.")
            return None
        self._made = (parts, text, now + RENEWED_AFTER)
        return text

    def _is_known(self, said: str | None) -> bool:
        """Whether the open transaction was told so already, or there is nothing to tell."""
        told = self._told
        if told is None or told[1].settled:
            return said is None
        if told[1].undone:  # with a savepoint: what was told before it holds again
            return False
        return told[0] == (said or "")

    def _execute_with(
        self, command: str, execute: Callable[..., Any], text: str, arguments: tuple[Any, ...]
    ) -> Any:
        _, params, many, context = arguments
        driver: Any = self._connection.connection
        # The query log shows what the driver sent last.
        if self._connection.queries_logged or self._takes_one_at_a_time(driver, many=many):
            return self._execute_apart(command, execute, arguments)
        if not hasattr(driver, "pgconn"):  # psycopg2 gives the result of the last statement
            return execute(f"{command}; {text}", params, many, context)
        result = execute(f"{command}; {text}", params, many, context)
        context["cursor"].cursor.nextset()  # from the result of SET to that of the statement
        return result

    def _takes_one_at_a_time(self, driver: Any, *, many: bool) -> bool:
        if not hasattr(driver, "pgconn"):
            return False
        options = self._connection.settings_dict["OPTIONS"]
        return bool(many or options.get("server_side_binding") or driver.pgconn.pipeline_status)

    def _execute_apart(
        self, command: str, execute: Callable[..., Any], arguments: tuple[Any, ...]
    ) -> Any:
        """In a message of its own, and in autocommit in a transaction around both."""
        connection = self._connection
        alone = not postgresql.has_work(connection) and not pending.in_transaction(connection)
        if not alone:
            postgresql.execute(connection, command)
            return execute(*arguments)
        postgresql.begin_with(connection, command)
        try:
            result = execute(*arguments)
        except BaseException:
            postgresql.execute(connection, "ROLLBACK")
            raise
        postgresql.execute(connection, "COMMIT")
        return result

    def _expect(self, text: str, *, inside: bool) -> None:
        """The relay is woken for what the triggers wrote, and the request or task is notable."""
        if not any(table in text for table in self._tables):
            return
        now = context.current()
        for surrounding in (now.scope, now.run):
            if surrounding is not None:
                surrounding.noticed()
        if inside:
            pending.expect(self._connection)
        else:
            nudge.wake()


def _is(one: object, other: object) -> bool:
    return one is other or one == other


def _text_of(sql: Any, context: dict[str, Any]) -> str:
    """A statement that was put together by the driver's own means."""
    if isinstance(sql, bytes):
        return sql.decode(errors="replace")
    try:
        return str(sql.as_string(context["cursor"].cursor))
    except Exception:  # noqa: BLE001 - the driver will say so
        return ""


_tables: dict[str, frozenset[str]] = {}


def _tables_of(alias: str) -> frozenset[str]:
    """The tables with triggers, as far as the models say."""
    if alias not in _tables:
        try:
            models = watched_models(alias)
        except ConfigurationError:  # said elsewhere
            models = []
        _tables[alias] = frozenset(model._meta.db_table for model in models)
    return _tables[alias]


def _attach(*, connection: BaseDatabaseWrapper, **_: Any) -> None:
    _detach(connection)
    if connection.vendor != "postgresql" or not apps.models_ready:
        return
    tables = _tables_of(connection.alias)
    if tables:
        # Outermost: what begins a transaction comes before what is set in it.
        connection.execute_wrappers.insert(0, Telling(connection, tables))


def _detach(connection: BaseDatabaseWrapper) -> None:
    kept = [each for each in connection.execute_wrappers if not isinstance(each, Telling)]
    if len(kept) != len(connection.execute_wrappers):
        connection.execute_wrappers = kept


_installed = False


def install() -> None:
    """Tell on every connection there is, and on those to come. Harmless when done twice."""
    global _installed  # noqa: PLW0603 - settings that change meanwhile are heard of
    _installed = True
    connection_created.connect(_attach, dispatch_uid=_WRITER)
    refresh()


def uninstall() -> None:
    """As if we were not there."""
    global _installed  # noqa: PLW0603 - see above
    _installed = False
    connection_created.disconnect(dispatch_uid=_WRITER)
    for connection in connections.all(initialized_only=True):
        _detach(connection)


@conf.on_change
def refresh() -> None:
    """Look again which models are captured by triggers (settings changed, one was registered)."""
    _tables.clear()
    if _installed and apps.models_ready:
        for connection in connections.all(initialized_only=True):
            _attach(connection=connection)
