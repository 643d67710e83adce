"""The user behind a request, read so that the project cannot tell.

Evaluating `request.user` would mark the session as read (`Vary: Cookie`) and spare the view a
query. It may even write: Django renews a session whose hash an older SECRET_KEY made, and ends one
whose user has changed the password. So Django's own user is read through a second session store
that cannot write.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from django.contrib import auth
from django.db import connections
from django.http import HttpRequest
from django.utils.functional import LazyObject, empty

from audit_log.recording import outbox

_WRITES: Final = ("create", "cycle_key", "delete", "flush", "save")
_DJANGO: Final = "django.contrib.auth.middleware"


def seen_user(request: HttpRequest) -> Any:
    """`request.user`, unwrapped if the project has evaluated it: whoever it is, it is the same."""
    user = getattr(request, "user", None)
    wrapped = user.__dict__.get("_wrapped", empty) if isinstance(user, LazyObject) else empty
    return user if wrapped is empty else wrapped


Loaded = Mapping[str, Any] | None
"""What a session holds, where somebody has loaded it already: to load it would be a query more."""


def read_user(request: HttpRequest, user: Any) -> tuple[Any, Loaded]:
    """Who `seen_user` is, and the session. May query; raises what the project's own code raises."""
    if not isinstance(user, LazyObject):
        return user, loaded_session(request)
    known = cached_user(request)
    if known is not None:
        return known, loaded_session(request)
    setup = user.__dict__.get("_setupfunc")
    if setup is None:
        raise LookupError("request.user is lazy in a way that only evaluating it could read.")
    with _quiet():
        if getattr(setup, "__module__", None) == _DJANGO:
            return _of_session(getattr(request, "session", None))
        with _restored(request):
            return setup(), loaded_session(request)


def cached_user(request: HttpRequest) -> Any:
    """Whom Django has read from the session in this request, before a log-in in it changed that."""
    for name in ("_cached_user", "_acached_user"):
        if name in request.__dict__:
            return request.__dict__[name]
    return None


def loaded_session(request: HttpRequest) -> Loaded:
    """What the session holds, if it is loaded; nothing is marked as accessed."""
    data = getattr(getattr(request, "session", None), "__dict__", {}).get("_session_cache")
    return dict(data) if isinstance(data, dict) else None


@contextmanager
def _quiet() -> Iterator[None]:
    """No query in the project's logs, whichever database sessions and users are in."""
    seen = [
        connection
        for connection in connections.all(initialized_only=True)
        if connection.queries_logged or connection.execute_wrappers
    ]
    if not seen:  # as in production
        yield
        return
    with ExitStack() as stack:
        for connection in seen:
            stack.enter_context(outbox.quiet(connection))
        yield


def _of_session(session: Any) -> tuple[Any, Loaded]:
    if session is None or not (session.session_key or "_session_cache" in session.__dict__):
        return None, None  # nobody can be logged in without a session
    double = type(session)(session.session_key)
    if "_session_cache" in session.__dict__:
        double._session_cache = dict(session._session_cache)
    for name in _WRITES:
        setattr(double, name, _nothing)
    request = HttpRequest()
    request.session = double
    return auth.get_user(request), loaded_session(request)


def _nothing(*_: Any, **__: Any) -> None:
    """Stand in for what would write."""


@contextmanager
def _restored(request: HttpRequest) -> Iterator[None]:
    """Take away again what a project's own lazy user leaves on the request and its session."""
    before = set(request.__dict__)
    session = getattr(request, "session", None)
    state = dict(getattr(session, "__dict__", {}))
    try:
        yield
    finally:
        for name in set(request.__dict__) - before:
            if "user" in name:  # another thread may have put the rest there meanwhile
                del request.__dict__[name]
        if session is not None and state and not session.modified:
            session.__dict__.clear()
            session.__dict__.update(state)
