"""The body of a request, where it is small, declared, and not a log-in.

Touching `request.body` of an upload or a stream would change what the view can do; so only JSON and
form bodies with a declared length are read, never multipart, never chunked.
"""

from __future__ import annotations

from typing import Final

import msgspec
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, QueryDict
from django.http.request import UnreadablePostError

from audit_log.conf import get_settings
from audit_log.events import JSON, Redaction
from audit_log.privacy.redaction import redact, redact_form, sensitive_path
from audit_log.recording.values import plain

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_JSON: Final = "application/json"
_FORM: Final = "application/x-www-form-urlencoded"


def wants_body(request: HttpRequest) -> bool:
    """Whether this body may be read without being felt."""
    settings = get_settings()
    if settings.request_body == "off" or request.method in SAFE_METHODS:
        return False
    if request.content_type not in {_JSON, _FORM} or "HTTP_TRANSFER_ENCODING" in request.META:
        return False
    length = str(request.META.get("CONTENT_LENGTH") or "")
    if not length.isdigit() or not 0 < int(length) <= settings.max_body_bytes:
        return False
    return not sensitive_path(request.path)


def read_body(request: HttpRequest) -> bytes | None:
    """The raw body, before the view; the view still finds all of it."""
    if not wants_body(request):
        return None
    try:
        return request.body
    except (RequestDataTooBig, UnreadablePostError, OSError):
        return None  # the view will meet the same error, and answer it


def redact_body(request: HttpRequest, raw: bytes) -> tuple[JSON, list[Redaction]]:
    """The body as JSON, without secrets. What cannot be parsed is not kept."""
    path = "request.body"
    names = get_settings().key_names
    if request.content_type == _FORM:
        form = QueryDict(raw, encoding=request.encoding or "utf-8")
        return redact_form(dict(form.lists()), path, **names)
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return f"<{len(raw)} bytes that are not JSON>", [Redaction(path, "unparsed")]
    value, marks = plain(value, path)
    value, redactions = redact(value, path, **names)
    return value, [*marks, *redactions]
