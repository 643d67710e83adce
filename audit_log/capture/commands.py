"""Management commands and migrations: who acts where nobody is logged in.

Code that calls a command and has said who acts (a request, a task, `acting()`) is believed.
"""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec
from django.core.management.base import BaseCommand
from django.db.migrations import Migration

from audit_log import context
from audit_log.capture.runs import Run
from audit_log.conf import get_settings
from audit_log.events import Actor, Target
from audit_log.exceptions import ConfigurationError
from audit_log.recording.values import safe_str

# Ours says itself what it does; in the others somebody else acts: visitors, and tests.
_APART: Final = frozenset({"audit_log", "runserver", "test", "testserver"})

_original_execute = BaseCommand.execute
_original_apply = Migration.apply
_original_unapply = Migration.unapply


def install() -> None:
    """Hook commands and migrations. Harmless when done twice."""
    BaseCommand.execute = _execute  # type: ignore[method-assign]
    Migration.apply = _apply  # type: ignore[method-assign]
    Migration.unapply = _unapply  # type: ignore[method-assign]


def uninstall() -> None:
    """Put Django's own methods back."""
    BaseCommand.execute = _original_execute  # type: ignore[method-assign]
    Migration.apply = _original_apply  # type: ignore[method-assign]
    Migration.unapply = _original_unapply  # type: ignore[method-assign]


def _execute(self: BaseCommand, *args: Any, **options: Any) -> Any:
    name = type(self).__module__.rpartition(".")[2]
    if name in _APART or not _is_enabled():
        return _original_execute(self, *args, **options)
    with _running(name):
        return _original_execute(self, *args, **options)


def _is_enabled() -> bool:
    try:
        return get_settings().enabled
    except ConfigurationError:
        return False  # what is wrong with the settings is for the system check to say


@contextmanager
def _running(name: str) -> Iterator[None]:
    """The context of a command, and its event if anything happened in it."""
    run = Run()
    with standing_in(f"manage.py {name}", run=run):
        try:
            yield
        except BaseException as error:
            _record(run, name, error)
            raise
        _record(run, name, None)


def _record(run: Run, name: str, error: BaseException | None) -> None:
    if not run.notable:
        return  # `check`, `shell` to look around: no database is asked for
    if isinstance(error, SystemExit) and error.code in {None, 0}:
        error = None
    outcome = "success" if error is None else "failure"
    run.record("command", Target(type="command", id=name), outcome, {"command": name}, error)


def _apply(self: Migration, *args: Any, **options: Any) -> Any:
    with _migrating(self):
        return _original_apply(self, *args, **options)


def _unapply(self: Migration, *args: Any, **options: Any) -> Any:
    with _migrating(self):
        return _original_unapply(self, *args, **options)


@contextmanager
def _migrating(migration: Migration) -> Iterator[None]:
    with standing_in(f"migration {migration.app_label}.{migration.name}"):
        yield


@contextmanager
def standing_in(name: str, **values: Any) -> Iterator[None]:
    """Inside, `name` acts where nobody else does; in place of an outer one it acts through that."""
    now = context.current()
    if now.scope is None and now.actor is now.stand_in:
        via = None if now.actor is None else now.actor.id
        actor = Actor(type="system", id=safe_str(name), label=_os_user(), via=via)
        values |= {"actor": actor, "stand_in": actor}
    leave = context.enter(msgspec.structs.replace(now, source="command", **values))
    try:
        yield
    finally:
        leave()


def _os_user() -> str:
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # in a container, a user may have no name
        return "unknown"
