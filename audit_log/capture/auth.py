"""Log-ins, log-outs and failed log-ins, from Django's auth signals."""

from __future__ import annotations

from typing import Any, Final

from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.db import DEFAULT_DB_ALIAS, connections, router
from django.http import HttpRequest
from django.utils.functional import LazyObject

from audit_log import context
from audit_log.capture import impersonation
from audit_log.capture.failures import guarded
from audit_log.capture.users import cached_user, loaded_session
from audit_log.conf import get_settings
from audit_log.events import Actor, Target
from audit_log.privacy.words import cut
from audit_log.recording import pending
from audit_log.recording.people import actor_of, via_of
from audit_log.recording.subjects import person_type
from audit_log.recording.targets import MAX_LABEL, target_of
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


def _logged_in(sender: Any, user: Any = None, request: Any = None, **_: Any) -> None:
    before = _logged_in_before(request, user)
    guarded("capture_failed", _record, action="login", user=user, before=before)


def _logged_in_before(request: Any, user: Any) -> Any:
    """Whose session it was until this log-in, if it was another person's."""
    before = cached_user(request) if isinstance(request, HttpRequest) else None
    same = getattr(before, "pk", None) == getattr(user, "pk", None)
    if same or not getattr(before, "is_authenticated", False):
        return None
    scope = context.current().scope
    if scope is not None:
        # Whether that was to impersonate, the session says only when the view is done.
        scope.switched = (before, user)  # type: ignore[attr-defined]
    return before


def note_switch(request: HttpRequest, before: Any, user: Any) -> None:
    """At the end of a request: record that somebody began to act as somebody else."""
    key = impersonation.impersonator(request, loaded_session(request))
    if key is not None and key == via_of(before):
        guarded("capture_failed", _record_impersonation, actor=before, user=user)


def _record_impersonation(*, actor: Any, user: Any) -> None:
    if not get_settings().enabled or context.current().suspended:
        return
    event = context.new_event(
        "impersonate",
        source="auth",
        actor=actor_of(actor),
        target=target_of(user),
        subject=f"{person_type(user.__class__)}:{user.pk}",
    )
    pending.add(connections[router.db_for_write(type(user), instance=user)], event)


def _logged_out(sender: Any, user: Any = None, **_: Any) -> None:
    # Logging nobody out is no event.
    if user is not None:
        guarded("capture_failed", _record, action="logout", user=user)


def _record(*, action: str, user: Any, before: Any = None) -> None:
    if not get_settings().enabled or context.current().suspended:
        return
    if isinstance(user, LazyObject):  # what `logout()` sends is `request.user` itself
        user = getattr(user, "_wrapped", user)
    is_model = hasattr(user, "_meta")
    event = context.new_event(
        action,
        source="auth",
        actor=actor_of(user),
        target=target_of(user) if is_model else None,
        subject=f"{person_type(user.__class__)}:{user.pk}" if is_model else None,
        data=None if before is None else {"before": via_of(before)},
    )
    # Not where the user was read from: that may be a replica.
    alias = router.db_for_write(type(user), instance=user) if is_model else DEFAULT_DB_ALIAS
    pending.add(connections[alias], event)


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
    pending.add(connections[DEFAULT_DB_ALIAS], event)


def _attempted_name(credentials: dict[str, Any]) -> str | None:
    """The name somebody tried. Nothing else is looked at: a backend's `code` may be a secret."""
    for key in (get_user_model().USERNAME_FIELD, *_NAMES):
        value = credentials.get(key)
        if isinstance(value, str) and value:
            return cut(clean(value), MAX_LABEL)
    return None
