"""When a process began to record and when it stopped; and that it was once told not to.

An emitter that falls silent without `audit_log.stopped` was killed, and a stretch without any
emitter at all is explained by the next `audit_log.started`.
"""

from __future__ import annotations

import atexit
import hashlib
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import msgspec

from audit_log import context, forks
from audit_log.conf import Settings, get_settings
from audit_log.events import Actor, format_time
from audit_log.exceptions import ConfigurationError
from audit_log.recording import buffer, nudge, spool

logger = logging.getLogger("audit_log")

_DISTRIBUTION: Final = "django-audit-ledger"
_MARKER: Final = "disabled-since"
_SECRET: Final = frozenset({"encryption_keys", "index_key", "signing_key", "secret_keys"})
_MAX_MARKER: Final = 64


class _Process:
    """What this process has said about itself. Made anew after a fork."""

    def __init__(self) -> None:
        self.since = datetime.now(UTC)
        self.has_started = False


_process = _Process()
_watching = False


def _after_fork() -> None:
    global _process  # noqa: PLW0603 - a child is a process of its own
    _process = _Process()


forks.on_fork(_after_fork)


def fingerprint() -> str:
    """SHA-256 of the settings in force, keys left out: two starts that differ had others."""
    settings = get_settings()
    values = {
        item.name: _stable(getattr(settings, item.name))
        for item in fields(Settings)
        if item.name not in _SECRET
    }
    return hashlib.sha256(msgspec.json.encode(values, order="deterministic")).hexdigest()


def _stable(value: Any) -> Any:
    """A setting as the same text in every process."""
    if isinstance(value, Mapping):
        return {str(key): _stable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_stable(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, value))
    if callable(value):
        return f"{value.__module__}.{getattr(value, '__qualname__', type(value).__qualname__)}"
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def watch() -> None:
    """Say when this process starts and stops to record. Harmless when done twice."""
    global _watching  # noqa: PLW0603 - once a process, and what is registered survives a fork
    if not _watching:
        _watching = True
        nudge.on_tick(_start, first=True)
        # Registered after the nudge thread's own exit, so it runs before its last round.
        atexit.register(_stop)


def _start() -> None:
    """Say once that this process records. In the nudge thread, when there is first work."""
    if _process.has_started or nudge.in_test_environment() or not get_settings().enabled:
        return
    _process.has_started = True
    was_off_since = _take_marker()
    data: dict[str, Any] = {
        "fingerprint": fingerprint(),
        "version": _version(),
        "enabled_since": format_time(_process.since),
    }
    if was_off_since is not None:
        data["was_off_since"] = was_off_since
    _say("audit_log.started", data)


def _stop() -> None:
    """Say that this process ends, if it ever began. Before the nudge thread's last round."""
    if not nudge.is_running():
        return
    _start()
    if _process.has_started:
        _say("audit_log.stopped", {"enabled_since": format_time(_process.since)})


def _say(action: str, data: dict[str, Any]) -> None:
    event = context.new_event(action, source="explicit", actor=Actor(type="system"), data=data)
    buffer.enqueue(event)


def _version() -> str:
    try:
        return version(_DISTRIBUTION)
    except PackageNotFoundError:  # copied into a project
        return "unknown"


def note_disabled() -> None:
    """Leave word for the next enabled start that this process had `ENABLED` False.

    A small file in the spool folder, best effort, written when the process ends. Not by test
    runs: many projects turn us off there, and a process that serves imports no `django.test`.
    """
    since = datetime.now(UTC)
    atexit.register(lambda: _leave_marker(since))


def _leave_marker(since: datetime) -> None:
    if "django.test.utils" in sys.modules:
        return
    try:
        path = spool.folder() / _MARKER
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return  # the first of them counts
    except (OSError, ConfigurationError) as error:
        logger.info("That audit_log was disabled could not be noted: %s", error)
        return
    with os.fdopen(descriptor, "w") as file:
        file.write(format_time(since))


def _take_marker() -> str | None:
    path = Path(get_settings().spool_dir) / _MARKER
    try:
        said = path.read_text()[:_MAX_MARKER]
        path.unlink()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        logger.info("What %s says could not be read: %s", path, error)
        return None
    return said
