"""What a changed row means for somebody's account, said by an event of its own.

The plain change stays complete: who folds the changes of a row needs nothing else. The account's
event follows it in the same transaction, and names it (`data.change`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

from django.apps import apps
from django.contrib.auth.hashers import get_hasher, identify_hasher, is_password_usable
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from audit_log import context
from audit_log.conf import get_settings
from audit_log.events import Event, Redaction
from audit_log.recording import pending
from audit_log.recording.values import clean, safe_str

_PASSWORD: Final = "password"  # noqa: S105 - a field's name
_ACTIVE: Final = "is_active"
# As a sentence: whoever reads it need not know what Django's columns mean.
_FLAGS: Final = {
    "is_staff": "May sign in to the admin",
    "is_superuser": "Has every permission",
}
_NAMES: Final = frozenset({_PASSWORD, _ACTIVE, *_FLAGS})
_GROUP: Final = "auth.group"
_PERMISSION: Final = "auth.permission"
# Views that set a password for who was sent a link: Django's and dj-rest-auth's, and allauth's.
_RESETS: Final = frozenset({"PasswordResetConfirmView", "PasswordResetFromKeyView"})
_MAX_SENTENCES: Final = 100


def is_account(model: type[models.Model]) -> bool:
    """Whether it is the user model, or made from it."""
    try:
        return issubclass(model, apps.get_model(get_settings().user_model))
    except (LookupError, ValueError):  # a project without users
        return False


def fields_of(model: type[models.Model], names: Iterable[str]) -> frozenset[str]:
    """Which of the fields that are looked at say something about an account."""
    return _NAMES.intersection(names) if is_account(model) else frozenset()


def follow(
    event: Event,
    instance: models.Model,
    names: Collection[str],
    connection: BaseDatabaseWrapper,
    old_hash: Any = None,
) -> None:
    """Say what `event`, a creation or an update, does to the account. `names`: see `fields_of`."""
    for name, (_old, new) in (event.changes or {}).items():
        if name not in names:
            continue
        if name in _FLAGS:
            _note_flag(event, name, new, connection)
        elif event.action != "update":
            continue  # to create one is not to change it
        elif name == _PASSWORD:
            _note_password(event, instance, old_hash, connection)
        elif isinstance(new, bool):
            _note(event, "user.activated" if new else "user.deactivated", name, {}, connection)


def _note_flag(event: Event, name: str, new: Any, connection: BaseDatabaseWrapper) -> None:
    # Masked by the project: nothing to say. False from the beginning: nothing was taken away.
    if not isinstance(new, bool) or (not new and event.action == "create"):
        return
    action = "permission.granted" if new else "permission.revoked"
    _note(event, action, name, {"field": name, "sentences": [_FLAGS[name]]}, connection)


def _note_password(
    event: Event, instance: models.Model, old_hash: Any, connection: BaseDatabaseWrapper
) -> None:
    if _is_hashed_anew(instance, old_hash):
        return
    action = "password.reset" if _is_reset() else "password.changed"
    data = {"usable": is_password_usable(instance.__dict__.get(_PASSWORD))}
    _note(event, action, _PASSWORD, data, connection)


def _note(
    event: Event, action: str, name: str, data: dict[str, Any], connection: BaseDatabaseWrapper
) -> None:
    unknown = Redaction(f"changes.{name}.0", "not_loaded") in event.redactions
    _add(event, action, data, connection, outcome="unknown" if unknown else event.outcome)


def _add(
    event: Event,
    action: str,
    data: dict[str, Any],
    connection: BaseDatabaseWrapper,
    **values: Any,
) -> None:
    made = context.new_event(
        action,
        source="auth",
        actor=event.actor,
        request=event.request,
        tenant=event.tenant,
        target=event.target,
        data={**data, "change": str(event.id)},
        subject=event.subject,
        **values,
    )
    pending.add(connection, made)


def _is_hashed_anew(instance: models.Model, old_hash: Any) -> bool:
    """Whether Django stores the same password under a stronger hash, as it does at a log-in.

    `set_password()` leaves the password in `_password` until the row is saved; what Django's
    `check_password()` does puts None there before.
    """
    new_hash = instance.__dict__.get(_PASSWORD)
    if instance.__dict__.get("_password", "") is not None or not is_password_usable(new_hash):
        return False
    try:
        before, now = identify_hasher(old_hash), get_hasher()
    except (
        TypeError,
        ValueError,
        AttributeError,
    ):  # not known, an unusable one, or of an algorithm that nobody knows
        return False
    return before.algorithm != now.algorithm or bool(now.must_update(old_hash))


def _is_reset() -> bool:
    """Whether the request is answered by a view that resets passwords."""
    http = getattr(context.current().scope, "http", None)
    match = getattr(http, "resolver_match", None)
    func = getattr(match, "func", None)
    view = getattr(func, "view_class", None) or getattr(func, "cls", None)
    return isinstance(view, type) and not _RESETS.isdisjoint(c.__name__ for c in view.__mro__)


def follow_membership(
    event: Event,
    owner: type[models.Model],
    keys: Sequence[str | None],
    member: type[models.Model],
    members: Sequence[models.Model],
    connection: BaseDatabaseWrapper,
) -> None:
    """Say what `event`, a many-to-many change, gives to or takes from `owner`.

    A user's groups and permissions, a group's permissions; all else is no event of an account.
    """
    is_group = _is(member, _GROUP)
    if not is_group and not _is(member, _PERMISSION):
        return
    if not (is_account(owner) or (_is(owner, _GROUP) and not is_group)):
        return
    said = event.data or {}
    if event.target is not None and said.get("cascade_from") in {
        event.target.type,
        f"{event.target.type}:{event.target.id}",
    }:
        return  # whoever had it goes as well
    action = "permission.granted" if event.action == "m2m.add" else "permission.revoked"
    data: dict[str, Any] = {"field": said.get("field")}
    if is_group:
        data["groups"] = list(keys)
    else:
        data["permissions"] = [_codename(each) for each in members[:_MAX_SENTENCES]]
    sentences = [_sentence(each, is_group=is_group) for each in members[:_MAX_SENTENCES]]
    if sentences:
        data["sentences"] = sentences
    # A group's name is the label of an object, and labels are sealed.
    sealed = ("data.sentences",) if is_group else ()
    _add(event, action, data, connection, affected=event.affected, sealed=sealed)


def _is(model: type[models.Model], label: str) -> bool:
    bases = (getattr(base, "_meta", None) for base in model.__mro__)
    return any(getattr(meta, "label_lower", None) == label for meta in bases)


def _codename(permission: Any) -> str:
    """`app.codename` as `has_perm()` takes it; without the app where that was not loaded."""
    content_type = permission._state.fields_cache.get("content_type")
    app = "" if content_type is None else f"{content_type.app_label}."
    return clean(f"{app}{permission.codename}")


def _sentence(member: Any, *, is_group: bool) -> str:
    return f"Member of {safe_str(member)}" if is_group else clean(safe_str(member.name))


def loading(query: models.QuerySet[Any]) -> models.QuerySet[Any]:
    """A query for members: permissions bring along what they print and what they are of."""
    return query.select_related("content_type") if _is(query.model, _PERMISSION) else query
