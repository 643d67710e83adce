"""Through whom or what a request acts: an impersonator, or an API key.

What the packages say on the request or keep in the session is read, and nothing of them imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.db.models import Model
from django.http import HttpRequest

from audit_log.conf import get_settings
from audit_log.recording.people import via_of
from audit_log.recording.values import safe_str

_MAX_KEY: Final = 64
# Each holds the primary key of who impersonates: django-hijack and django-su a list of them, the
# last one is in charge; django-loginas a signed one.
_HIJACK: Final = "hijack_history"
_LOGINAS: Final = "loginas_from_user"
_SU: Final = "exit_users_pk"


def via(request: HttpRequest, session: Mapping[str, Any] | None) -> str | None:
    """What stands in `actor.via`; `session` holds its data, as far as somebody has loaded it."""
    return impersonator(request, session) or _api_key(getattr(request, "auth", None))


def impersonator(request: HttpRequest, session: Mapping[str, Any] | None) -> str | None:
    """Who acts as the user of the request, as `auth.user:7`."""
    person = getattr(request, "impersonator", None)  # django-impersonate
    if isinstance(person, Model):
        return via_of(person)
    key = None if session is None else _key_in(session)
    return None if key is None else f"{get_settings().user_model.lower()}:{key}"


def _key_in(session: Mapping[str, Any]) -> str | None:
    if history := session.get(_HIJACK):
        return safe_str(history[-1])[:_MAX_KEY] if isinstance(history, list) else None
    if signed := session.get(_LOGINAS):
        # `key:time:signature`: whoever can write sessions needs no signature to log in.
        return safe_str(signed).rsplit(":", 2)[0][:_MAX_KEY]
    if exits := session.get(_SU):
        last = exits[-1] if isinstance(exits, list) else None
        return safe_str(last[0])[:_MAX_KEY] if isinstance(last, (list, tuple)) and last else None
    return None


def _api_key(auth: Any) -> str | None:
    """What rest_framework's `request.auth` is: a row, or a JSON Web Token with an id.

    Anything else may be the secret itself.
    """
    if isinstance(auth, Model):
        return None if auth.pk is None else via_of(auth)
    claims = getattr(auth, "payload", auth)
    token_id = claims.get("jti") if isinstance(claims, Mapping) else None
    return f"jwt:{safe_str(token_id)[:_MAX_KEY]}" if isinstance(token_id, (str, int)) else None
