"""HTTP requests: who sent them, from where, and an event for each one worth it."""

from __future__ import annotations

import re
import time
import uuid
from fnmatch import fnmatchcase
from typing import Any, Final

from django.db import DEFAULT_DB_ALIAS, connections
from django.http import HttpRequest, HttpResponseBase
from django.utils.functional import LazyObject, empty
from django.utils.module_loading import import_string

from audit_log import context
from audit_log.capture import usage
from audit_log.capture.bodies import SAFE_METHODS, read_body, redact_body
from audit_log.conf import get_settings
from audit_log.events import Actor, Event, Redaction, Request
from audit_log.privacy.addresses import client_address
from audit_log.privacy.encryption import blind_index
from audit_log.privacy.redaction import redact_path, redact_query
from audit_log.recording import buffer, losses, outbox, pending
from audit_log.recording.people import actor_of
from audit_log.recording.values import clean

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_TRACE_PARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_MAX_PATH: Final = 2048
_MAX_AGENT: Final = 512
_MAX_ROUTE: Final = 200
_ERROR: Final = 400
_DENIED: Final = frozenset({401, 403})


class RequestScope:
    """One HTTP request (a `context.Scope`)."""

    def __init__(self, request: HttpRequest) -> None:
        settings = get_settings()
        self.http = request
        self.started = time.perf_counter()
        self.notable = False
        self.body = read_body(request)
        self.id = _request_id(request, settings.request_id_header)
        self.trace_id = _trace_id(request)
        self.ip = client_address(request.META, settings.trusted_proxies)
        self._actor: Actor | None = None
        self._seen_user: Any = None
        self._tenant: str | None = None
        self._tenant_known = False
        self._request: Request | None = None

    def actor(self) -> Actor | None:
        """Who is logged in now. Leaves the request as it found it."""
        user = getattr(self.http, "user", None)
        if isinstance(user, LazyObject) and _evaluated(user) is not None:
            user = _evaluated(user)
        if self._actor is None or user is not self._seen_user:
            with outbox.quiet(connections[DEFAULT_DB_ALIAS]):
                self._actor = actor_of(_resolve(self.http, user))
            self._seen_user = user
        return self._actor

    def request(self) -> Request:
        """What an event says about the request it happened in."""
        if self._request is None or self._request.route is None:
            path, _ = self._path()
            self._request = Request(
                id=self.id,
                method=clean(str(self.http.method or ""))[:16],
                route=self.route(),
                path=path,
                ip=self.ip,
                user_agent=self._agent(),
                session=self._session(),
            )
        return self._request

    def tenant(self) -> str | None:
        """What the setting `TENANT` says of the request, asked once."""
        if not self._tenant_known:
            self._tenant_known = True
            source = get_settings().tenant
            if source is not None:
                call = import_string(source) if isinstance(source, str) else source
                try:
                    value = call(self.http)
                except Exception:  # noqa: BLE001 - the project's callable
                    losses.warn("tenant_failed", "AUDIT_LOG['TENANT'] raised an error.")
                    value = None
                self._tenant = None if value is None else clean(str(value))[:64]
        return self._tenant

    def noticed(self, event: Event) -> None:
        """Something happened in this request, so it is worth an event."""
        self.notable = True

    def route(self) -> str | None:
        """The name of the view, once the URL is resolved."""
        match = getattr(self.http, "resolver_match", None)
        if match is None:
            return None
        return clean(match.view_name or match.route or "")[:_MAX_ROUTE] or None

    def _path(self) -> tuple[str, list[Redaction]]:
        match = getattr(self.http, "resolver_match", None)
        captured = {} if match is None else match.captured_kwargs
        path, marks = redact_path(self.http.path, captured, **get_settings().key_names)
        return clean(path)[:_MAX_PATH], marks

    def _agent(self) -> str | None:
        agent = self.http.META.get("HTTP_USER_AGENT")
        return clean(str(agent))[:_MAX_AGENT] if agent else None

    def _session(self) -> str | None:
        session = getattr(self.http, "session", None)
        return blind_index("session", getattr(session, "session_key", None))

    def event(self, response: HttpResponseBase | None, milliseconds: int) -> Event:
        """The event of the request itself."""
        status = None if response is None else response.status_code
        base = self.request()
        _, redactions = self._path()
        query, marks = redact_query(
            clean(self.http.META.get("QUERY_STRING") or ""), **get_settings().key_names
        )
        redactions += marks
        body = None
        if self.body:
            body, marks = redact_body(self.http, self.body)
            redactions += marks
        return context.new_event(
            "request",
            source="request",
            outcome=_outcome(status),
            actor=self.actor(),
            tenant=self.tenant(),
            request=Request(
                id=base.id,
                method=base.method,
                route=base.route,
                path=base.path,
                query=query[:_MAX_PATH] or None,
                status=status,
                duration_ms=milliseconds,
                ip=base.ip,
                user_agent=base.user_agent,
                session=self._session(),
                body=body,
            ),
            trace_id=self.trace_id,
            redactions=tuple(redactions[:64]),
        )


def _outcome(status: int | None) -> str:
    if status is None:
        return "unknown"
    if status in _DENIED:
        return "denied"
    return "failure" if status >= _ERROR else "success"


def _request_id(request: HttpRequest, header: str) -> str:
    given = str(request.headers.get(header) or "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _trace_id(request: HttpRequest) -> str | None:
    match = _TRACE_PARENT.fullmatch(str(request.headers.get("traceparent") or ""))
    return None if match is None else match[1]


def _evaluated(user: Any) -> Any:
    wrapped = user.__dict__.get("_wrapped", empty)
    return None if wrapped is empty else wrapped


def _resolve(request: HttpRequest, user: Any) -> Any:
    """The user behind `request.user`, without evaluating it for the project.

    Reading it would mark the session as read (`Vary: Cookie`) and spare the view a query; both
    would show. So what was not there before is taken away again.
    """
    if not isinstance(user, LazyObject):
        return user
    evaluated = _evaluated(user)
    if evaluated is not None:
        return evaluated
    if hasattr(request, "_cached_user"):
        return request._cached_user
    session = getattr(request, "session", None)
    if session is None or not session.session_key:
        return None  # nobody can be logged in without a session
    had_cache = "_session_cache" in session.__dict__
    accessed = session.accessed
    try:
        return user.__dict__["_setupfunc"]()
    except Exception:  # noqa: BLE001 - a broken session must not fail the write it belongs to
        losses.warn("actor_failed", "The user of a request could not be read.")
        return None
    finally:
        request.__dict__.pop("_cached_user", None)
        session.accessed = accessed
        if not had_cache and not session.modified:
            session.__dict__.pop("_session_cache", None)


def excluded(request: HttpRequest) -> bool:
    """Whether `EXCLUDE_PATHS` names the request's path."""
    return any(fnmatchcase(request.path, pattern) for pattern in get_settings().exclude_paths)


def begin(request: HttpRequest) -> RequestScope | None:
    """The scope of a request that starts; None where nothing is to be looked at."""
    if not get_settings().enabled:
        return None
    try:
        return RequestScope(request)
    except Exception:  # noqa: BLE001 - a hostile request must reach its view
        losses.warn("request_failed", "A request could not be looked at.")
        return None


def is_notable(scope: RequestScope, status: int) -> bool:
    """Whether the request gets an event of its own."""
    wanted = get_settings().requests
    if wanted == "off" or excluded(scope.http):
        return False
    unsafe = scope.http.method not in SAFE_METHODS
    return wanted == "all" or unsafe or status >= _ERROR or scope.notable


def finish(scope: RequestScope, response: HttpResponseBase) -> None:
    """Count the request, and record it if it is notable. Never raises.

    A streamed response is recorded once its last byte is sent.
    """
    try:
        if not excluded(scope.http) and get_settings().requests != "off":
            usage.count(scope.route(), response.status_code, _elapsed(scope))
        if not is_notable(scope, response.status_code):
            return
        if response.streaming:
            closers: Any = response
            closers._resource_closers.append(lambda: _record(scope, response))
        else:
            _record(scope, response)
    except Exception:  # noqa: BLE001 - the response is made; it must be sent
        losses.warn("request_failed", "A request could not be recorded.")


def _elapsed(scope: RequestScope) -> int:
    return round((time.perf_counter() - scope.started) * 1000)


def _record(scope: RequestScope, response: HttpResponseBase) -> None:
    event = scope.event(response, _elapsed(scope))
    connection = connections[DEFAULT_DB_ALIAS]
    if connection.in_atomic_block:
        pending.add(connection, event)
    else:
        buffer.enqueue(event)
