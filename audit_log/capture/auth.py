"""Log-ins, log-outs and failed log-ins, from Django's auth signals."""

from __future__ import annotations

from typing import Any, Final

from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.db import DEFAULT_DB_ALIAS, connections

from audit_log import context
from audit_log.capture.failures import guarded
from audit_log.conf import get_settings
from audit_log.events import Actor, Event, Target
from audit_log.privacy.names import Kind, kind_of
from audit_log.recording import pending
from audit_log.recording.people import actor_of
from audit_log.recording.targets import target_of
from audit_log.recording.values import clean

_UID: Final = "audit_log.auth"
_NAMES: Final = ("username", "email", "login", "user", "name", "phone")


def install() -> None:
    """Connect the three receivers. Harmless when done twice."""
    user_logged_in.connect(_logged_in, dispatch_uid=_UID)
    user_logged_out.connect(_logged_out, dispatch_uid=_UID)
    user_login_failed.connect(_login_failed, dispatch_uid=_UID)


def uninstall() -> None:
    """Disconnect them."""
    for signal in (user_logged_in, user_logged_out, user_login_failed):
        signal.disconnect(dispatch_uid=_UID)


def _logged_in(sender: Any, user: Any = None, **_: Any) -> None:
    guarded("capture_failed", _record, action="login", user=user)


def _logged_out(sender: Any, user: Any = None, **_: Any) -> None:
    # Logging nobody out is no event.
    if user is not None:
        guarded("capture_failed", _record, action="logout", user=user)


def _record(*, action: str, user: Any) -> None:
    if not get_settings().enabled or context.current().suspended:
        return
    event = context.new_event(
        action,
        source="auth",
        actor=actor_of(user),
        target=target_of(user) if hasattr(user, "_meta") else None,
        subject=_subject(user),
    )
    _add(event, user)


def _login_failed(sender: Any, credentials: Any = None, **_: Any) -> None:
    guarded("capture_failed", _record_failure, credentials=credentials or {})


def _record_failure(*, credentials: dict[str, Any]) -> None:
    if not get_settings().enabled or context.current().suspended:
        return
    label = get_settings().user_model.lower()
    event = context.new_event(
        "login_failed",
        source="auth",
        outcome="failure",
        actor=Actor(type="anonymous", label=_attempted_name(credentials)),
        target=Target(type=label),
    )
    _add(event, None)


def _attempted_name(credentials: dict[str, Any]) -> str | None:
    """The name somebody tried. Passwords and tokens are never looked at."""
    ordered = sorted(credentials, key=lambda key: _NAMES.index(key) if key in _NAMES else 99)
    for key in ordered:
        value = credentials[key]
        if isinstance(value, str) and kind_of(key) is not Kind.SECRET:
            return clean(value)[:256]
    return None


def _subject(user: Any) -> str | None:
    return f"{user._meta.label_lower}:{user.pk}" if hasattr(user, "_meta") else None


def _add(event: Event, user: Any) -> None:
    alias = getattr(getattr(user, "_state", None), "db", None) or DEFAULT_DB_ALIAS
    pending.add(connections[alias], event)
    scope = context.current().scope
    if scope is not None:
        scope.noticed(event)
