"""Users as actors, and what they act through."""

from __future__ import annotations

import uuid
from typing import Any

from django.db.models import Model

from audit_log.conf import get_settings
from audit_log.events import Actor
from audit_log.privacy.encryption import fingerprint
from audit_log.privacy.words import cut
from audit_log.recording.targets import MAX_ID, MAX_LABEL, target_id, target_type
from audit_log.recording.values import clean, safe_str


def actor_of(user: Any) -> Actor:
    """The actor a Django user is; anything that is not logged in is anonymous.

    Works for swapped user models without username, email or staff flags.
    """
    if not getattr(user, "is_authenticated", False):
        return Actor(type="anonymous")
    admin = getattr(user, "is_staff", False) or getattr(user, "is_superuser", False)
    pk = getattr(user, "pk", None)
    return Actor(
        type="admin" if admin else "user",
        id=None if pk is None else safe_str(pk)[:255],
        label=_label(user),
        email=_email(user),
    )


def _label(user: Any) -> str | None:
    get_username = getattr(user, "get_username", None)
    try:
        name = get_username() if callable(get_username) else user
    except Exception as error:  # noqa: BLE001 - somebody else's user model
        name = f"<{type(user).__name__}: {type(error).__name__}>"
    return cut(safe_str(name), MAX_LABEL) or None


def _email(user: Any) -> str | None:
    name = getattr(user, "EMAIL_FIELD", "email")
    value = getattr(user, name, None) if isinstance(name, str) and name else None
    return clean(value)[:254] or None if isinstance(value, str) else None


def via_of(via: Any) -> str:
    """An impersonator or an API key as `actor.via`: `auth.user:7`, or the name it was given.

    A primary key that may itself be the secret is a fingerprint there.
    """
    if isinstance(via, str):
        return safe_str(via)[:MAX_ID]
    if isinstance(via, Actor):
        return safe_str(via.id if via.id is None else f"{via.type}:{via.id}")[:MAX_ID]
    if hasattr(via, "_meta"):
        model = via.__class__  # `request.user` is a lazy object
        return f"{target_type(model)}:{_key_of(model, via.pk)}"[:MAX_ID]
    return safe_str(via)[:MAX_ID]


def _key_of(model: type[Model], pk: Any) -> str | None:
    """The key of rest_framework's Token is the token, and its name, `key`, says nothing."""
    is_user = target_type(model) == get_settings().user_model.lower()
    if pk is None or is_user or isinstance(pk, (int, uuid.UUID)):
        return target_id(model, pk)
    return f"fp:{fingerprint('key', safe_str(pk), 32)}"
