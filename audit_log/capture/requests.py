"""HTTP requests: who sent them, from where, and an event for each one worth it."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from functools import partial
from time import perf_counter  # by name: a host's test may replace time.perf_counter
from typing import Any, Final

import msgspec
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpRequest, HttpResponseBase
from django.utils.functional import cached_property  # before 3.12 functools' has a lock for all

from audit_log import context
from audit_log.capture import auth, impersonation, sessions, traces, usage
from audit_log.capture.bodies import SAFE_METHODS, read_body, read_form, redact_body, redact_upload
from audit_log.capture.callables import resolve
from audit_log.capture.exclusions import excluded_by_path, excluded_by_project
from audit_log.capture.headers import decoded, header, is_id, new_id, tell_id
from audit_log.capture.places import MAX_PATH, Place, origin, place_of
from audit_log.capture.users import read_user, seen_user
from audit_log.conf import get_settings
from audit_log.events import Actor, Event, Redaction, Request
from audit_log.privacy.addresses import ADDRESS_HEADERS, client_address
from audit_log.privacy.encryption import blind_index
from audit_log.privacy.redaction import CUT_NODES, redact_query
from audit_log.privacy.words import cut
from audit_log.recording import buffer, losses
from audit_log.recording.people import actor_of
from audit_log.recording.values import clean

_MAX_AGENT: Final = 512
_MAX_ROUTE: Final = 200
_MAX_REDACTIONS: Final = 64
_ERROR: Final = 400
_DENIED: Final = frozenset({401, 403})


class RequestScope:
    """One HTTP request (a `context.Scope`).

    Most requests have no event: what only an event asks for is worked out when it asks.
    """

    notable = False
    ended = False
    views: dict[Hashable, Any] | None = None
    body: bytes | None = None
    _actor: Actor | None = None
    _seen_user: Any = None
    _seen_token: Any = None
    exception: str | None = None
    switched: tuple[Any, Any] | None = None
    """Who was logged in before the log-in of this request, and who is now."""
    _tenant: str | None = None
    _tenant_known = False
    _request: Request | None = None
    _session_key: Any = None
    _known_place: Place | None = None

    def __init__(self, request: HttpRequest) -> None:
        settings = get_settings()
        self.http = request
        self.started = perf_counter()
        self.is_counted = settings.requests != "off" and not excluded_by_path(request)
        if self.is_counted and request.method not in SAFE_METHODS:
            self.body = read_body(request)
        trace = traces.parsed(request.META.get("HTTP_TRACEPARENT"))
        self.trace_id = None if trace is None else trace.id
        self.trace_parent = None if trace is None else trace.parent
        # As they came: a middleware may put the client's word for its address into REMOTE_ADDR.
        meta = request.META
        self._arrived = [meta.get(name) for name in ADDRESS_HEADERS]
        self._given_id = header(request, settings.request_id_header)

    @cached_property
    def _reading(self) -> set[tuple[str, int]]:
        """What is being found out, and in which threads: the project's code is run for it."""
        made: set[tuple[str, int]] = self.__dict__.setdefault("_reading", set())
        return made

    @cached_property
    def id(self) -> str:
        """The id that all events of the request share."""
        # Two threads of one request must not make two.
        made: str = self.__dict__.setdefault("id", self._find_id())
        return made

    def _find_id(self) -> str:
        """What the setting `REQUEST_ID` says, else what the client sent, else a new one."""
        source, asking = get_settings().request_id, ("id", threading.get_ident())
        if source is not None and asking not in self._reading:
            self._reading.add(asking)  # it may write something itself
            try:
                value = resolve(source)(self.http)
                if value is not None and is_id(str(value)):
                    return str(value)
            except Exception:  # noqa: BLE001 - the project's callable
                losses.warn("request_id_failed", "AUDIT_LOG['REQUEST_ID'] raised an error.")
            finally:
                self._reading.discard(asking)
        return self._given_id if is_id(self._given_id) else new_id()

    @cached_property
    def ip(self) -> str | None:
        """The client's address."""
        trusted = get_settings().trusted_proxies
        if trusted is None:
            return None
        return client_address(dict(zip(ADDRESS_HEADERS, self._arrived, strict=True)), trusted)

    def actor(self) -> Actor | None:
        """Who is logged in now; None where that cannot be read. Leaves the request as it was."""
        asking = ("actor", threading.get_ident())
        if asking in self._reading:
            return None  # what the project writes while it finds its user out
        self._reading.add(asking)
        try:
            user, token = seen_user(self.http), getattr(self.http, "auth", None)
            if self._actor is None or user is not self._seen_user or token is not self._seen_token:
                self._actor = self._read_actor(user)
                self._seen_user, self._seen_token = user, token
        except Exception:  # noqa: BLE001 - a broken session must not fail the write it belongs to
            losses.warn("actor_failed", "The user of a request could not be read.")
            return None
        finally:
            self._reading.discard(asking)
        return self._actor

    def _read_actor(self, user: Any) -> Actor:
        person, session = read_user(self.http, user)
        actor = actor_of(person)
        through = impersonation.via(self.http, session)
        return actor if through is None else msgspec.structs.replace(actor, via=through)

    def request(self) -> Request:
        """What an event says about the request it happened in."""
        known, session_key = self._request, self._find_session_key()
        if known is None or known.route is None or self._session_key != session_key:
            session = blind_index("session", session_key) if session_key else None
            self._request = known = Request(
                id=self.id,
                method=clean(str(self.http.method or ""))[:16],
                route=self.route(),
                path=self._place().path,
                ip=self.ip,
                user_agent=self._agent(),
                session=session,
            )
            self._session_key = session_key  # last: another thread may ask meanwhile
        return known

    def tenant(self) -> str | None:
        """What the setting `TENANT` says of the request, asked until it answers."""
        source = get_settings().tenant
        if self._tenant_known or source is None:
            return self._tenant
        self._tenant_known = True  # also while it is asked: it may write something itself
        try:
            value = resolve(source)(self.http)
            self._tenant = None if value is None else clean(str(value))[:64]
        except Exception:  # noqa: BLE001 - the project's callable
            losses.warn("tenant_failed", "AUDIT_LOG['TENANT'] raised an error.")
            self._tenant_known = False  # the user was not known yet, say
        return self._tenant

    def noticed(self, event: Event | None = None) -> None:
        """Something happened in this request, so it is worth an event."""
        self.notable = True
        if self.trace_id is None and event is not None:
            self.trace_id = event.trace_id  # of a span that began inside of us

    def route(self) -> str | None:
        """The name of the view, once the URL is resolved."""
        match = getattr(self.http, "resolver_match", None)
        if match is None:
            return None
        return clean(match.view_name or match.route or "")[:_MAX_ROUTE] or None

    def _place(self) -> Place:
        """Worked out again only if a middleware, or Django's resolver, has changed the request."""
        source, known = origin(self.http), self._known_place
        if known is None or known.origin != source:
            self._known_place = known = place_of(self.http, source)
        return known

    def _query(self) -> tuple[str | None, list[Redaction]]:
        raw = str(self.http.META.get("QUERY_STRING") or "")
        if not raw:
            return None, []
        if self._place().is_sensitive:
            return None, [Redaction("request.query", "path:sensitive")]
        # ASGI has decoded it; WSGI hands bytes over as Latin-1.
        raw = decoded(raw) if isinstance(self.http, WSGIRequest) else clean(raw)
        query, marks = redact_query(raw, **get_settings().key_names)
        if len(query) > MAX_PATH:  # not through a value: half a secret is one that nobody knows
            query = query[: MAX_PATH + 1].rpartition("&")[0] or CUT_NODES
        return query, marks

    def _body(self) -> tuple[Any, list[Redaction]]:
        form = None if self.body else read_form(self.http)
        if not self.body and form is None:
            return None, []
        if self._place().is_sensitive:
            return None, [Redaction("request.body", "path:sensitive")]
        if form is not None:
            return redact_upload(form)
        return redact_body(self.http, self.body or b"")

    def _agent(self) -> str | None:
        agent = self.http.META.get("HTTP_USER_AGENT")
        return cut(decoded(str(agent)), _MAX_AGENT) if agent else None

    def _find_session_key(self) -> str | None:
        key = getattr(getattr(self.http, "session", None), "session_key", None)
        return key if isinstance(key, str) else None

    def _data(self, request: Request) -> dict[str, Any] | None:
        data: dict[str, Any] = {}
        if self.exception is not None:
            data["exception"] = self.exception
        if moved := sessions.moved(request.session, request.ip, request.user_agent):
            data["moved"] = moved
        return data or None

    def event(self, response: HttpResponseBase | None, milliseconds: int) -> Event:
        """The event of the request itself; without a response it ended before there was one."""
        status = None if response is None else response.status_code
        base = self.request()
        query, in_query = self._query()
        body, in_body = self._body()
        redactions = [*self._place().marks, *in_query, *in_body]
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
                query=query,
                status=status,
                duration_ms=milliseconds,
                ip=base.ip,
                user_agent=base.user_agent,
                session=base.session,
                body=body,
            ),
            trace_id=self.trace_id,
            data=self._data(base),
            redactions=tuple(redactions[:_MAX_REDACTIONS]),
        )


def _outcome(status: int | None) -> str:
    if status is None:
        return "unknown"
    if status in _DENIED:
        return "denied"
    return "failure" if status >= _ERROR else "success"


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
    if not scope.is_counted:
        return False
    if scope.notable or status >= _ERROR or scope.http.method not in SAFE_METHODS:
        return True
    return get_settings().requests == "all"


def finish(scope: RequestScope, response: HttpResponseBase) -> None:
    """Count the request, and record it if it is notable. Never raises.

    A streamed response is recorded once its last byte is sent.
    """
    if scope.ended:
        return
    scope.ended = True
    try:
        tell_id(response, scope.id)  # making one takes 0.7 µs, so always
        status = response.status_code
        _ask_project(scope)
        if scope.is_counted:
            usage.count(scope.route(), status, _elapsed(scope))
        if scope.switched is not None:
            auth.note_switch(scope.http, *scope.switched)
        if is_notable(scope, status):
            _record_at_end(scope, response)
    except Exception:  # noqa: BLE001 - the response is made; it must be sent
        losses.warn("request_failed", "A request could not be recorded.")


def abandon(scope: RequestScope) -> None:
    """Record a notable request that got no response: cancelled, or its process told to stop."""
    if not scope.ended:
        scope.ended = True
        _ask_project(scope)
        if is_notable(scope, 0):
            _record(scope, None)


def asks_project(scope: RequestScope) -> bool:
    """Whether code of the project says whether the request is looked at."""
    return scope.is_counted and bool(get_settings().exclude_requests)


def _ask_project(scope: RequestScope) -> None:
    if asks_project(scope) and excluded_by_project(scope.http):
        scope.is_counted = False


def _record_at_end(scope: RequestScope, response: HttpResponseBase) -> None:
    if response.streaming:
        closers: Any = response
        closers._resource_closers.append(partial(_record, scope, response))
    else:
        _record(scope, response)


def _record(scope: RequestScope, response: HttpResponseBase | None) -> None:
    """Write or buffer the event of a request. Never raises."""
    try:
        event = scope.event(response, _elapsed(scope))
        buffer.add(event)
    except Exception:  # noqa: BLE001 - the response is made; it must be sent
        losses.warn("request_failed", "A request could not be recorded.")


def _elapsed(scope: RequestScope) -> int:
    return round((perf_counter() - scope.started) * 1000)
