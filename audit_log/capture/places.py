"""Where a request went: its path as it may be shown, and whether secrets are sent there."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from django.http import HttpRequest
from django.urls import ResolverMatch, resolve

from audit_log.conf import get_settings
from audit_log.events import Redaction
from audit_log.privacy.redaction import MASK, redact_path, sensitive_path
from audit_log.privacy.words import cut
from audit_log.recording.values import clean

MAX_PATH: Final = 2048

Origin = tuple[str, str, ResolverMatch | None, Any]
"""All that a place is worked out from: path, path_info, how it was resolved, and the urlconf."""


class Place(NamedTuple):
    """A path without secrets, what was taken out of it, and what it was worked out from."""

    origin: Origin
    is_sensitive: bool
    path: str
    marks: list[Redaction]


def origin(request: HttpRequest) -> Origin:
    """What `place_of` looks at, to be compared with what it looked at before."""
    match = getattr(request, "resolver_match", None)
    return request.path, request.path_info, match, getattr(request, "urlconf", None)


def place_of(request: HttpRequest, source: Origin) -> Place:
    """Where the request goes; resolves its URL if Django has not. Tens of microseconds.

    It is sensitive if the path, or the name of its view, says log-in, password, token or reset.
    """
    path, _, match, _ = source
    if match is None:
        match = _resolved(request)
    name = "" if match is None else match.url_name or ""
    is_sensitive = sensitive_path(path) or sensitive_path(name)
    shown, marks = _shown(path, match, is_sensitive=is_sensitive)
    return Place(source, is_sensitive, shown, marks)


def _resolved(request: HttpRequest) -> ResolverMatch | None:
    """How the URL would resolve: a middleware may write before Django has looked."""
    # The second is what APPEND_SLASH redirects to.
    for path in (request.path_info, f"{request.path_info}/"):
        try:
            return resolve(path, getattr(request, "urlconf", None))
        except Exception:  # noqa: BLE001, S112 - Resolver404, or a converter's own
            continue
    return None


def _shown(
    path: str, match: ResolverMatch | None, *, is_sensitive: bool
) -> tuple[str, list[Redaction]]:
    if match is None:
        return _beginning(path)
    named: dict[str, Any] = getattr(match, "captured_kwargs", match.kwargs)
    captured = named or {f"arg{n}": value for n, value in enumerate(match.args)}
    if is_sensitive:
        # Whatever it is called there, it opens something. Numbers are keys of rows.
        captured = {
            name if str(value).isdigit() else f"token_{n}": value
            for n, (name, value) in enumerate(captured.items())
        }
    path, marks = redact_path(path, captured, **get_settings().key_names)
    return _bounded(path), marks


def _beginning(path: str) -> tuple[str, list[Redaction]]:
    """A path that no view has, without what follows a word such as `reset`."""
    segments = path.split("/")
    for n, segment in enumerate(segments[:-1], 1):
        if any(segments[n:]) and sensitive_path(segment):
            marks = [Redaction("request.path", "path:sensitive")]
            return _bounded("/".join([*segments[:n], MASK])), marks
    return _bounded(path), []


def _bounded(path: str) -> str:
    return cut(clean(path), MAX_PATH, personal=True)
