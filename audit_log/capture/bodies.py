"""The body of a request, where it is small, declared, and not a log-in.

Touching `request.body` of an upload or a stream would change what the view can do; so only JSON and
form bodies with a declared length are read, never multipart, never chunked. Of an upload there is
what the view itself has read by then.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import parse_qs

import msgspec
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest
from django.utils.datastructures import MultiValueDict

from audit_log.conf import get_settings
from audit_log.events import JSON, Redaction
from audit_log.privacy.redaction import redact, redact_form, sensitive_path
from audit_log.recording.values import plain

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_JSON: Final = "application/json"
_FORM: Final = "application/x-www-form-urlencoded"
_MULTIPART: Final = "multipart/form-data"
_PATH: Final = "request.body"
_MAX_LENGTH_DIGITS: Final = 9


def wants_body(request: HttpRequest) -> bool:
    """Whether this body may be read without being felt."""
    settings = get_settings()
    if settings.request_body == "off" or request.method in SAFE_METHODS:
        return False
    if request.content_type not in {_JSON, _FORM} or "HTTP_TRANSFER_ENCODING" in request.META:
        return False
    length = str(request.META.get("CONTENT_LENGTH") or "")
    # Some signs are digits to Python, but no number: "²".
    if not (length.isascii() and length.isdigit()) or len(length) > _MAX_LENGTH_DIGITS:
        return False
    return 0 < int(length) <= settings.max_body_bytes and not sensitive_path(request.path)


def read_body(http: HttpRequest) -> bytes | None:
    """The raw body, before the view; the view still finds all of it, or the same error."""
    if not wants_body(http):
        return None
    request: Any = http  # its stream is nobody's business but Django's
    stream = request._stream
    try:
        raw: bytes = request.body
    except RequestDataTooBig:
        if hasattr(stream, "seekable") and stream.seekable():
            stream.seek(0)
        return None
    except OSError as error:
        request._stream = _Broken(error.__cause__ or error)
        request._read_started = False
        return None
    return raw if len(raw) <= get_settings().max_body_bytes else None


class _Broken:
    """A stream that failed once, and fails the view in the same way: nothing of it is left."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def read(self, *_: object) -> bytes:
        raise self._error

    readline = read

    def seekable(self) -> bool:
        """Django 6.1 asks."""
        return False

    def close(self) -> None:
        """Nothing to close."""


def redact_body(request: HttpRequest, raw: bytes) -> tuple[JSON, list[Redaction]]:
    """The body as JSON, without secrets. What cannot be parsed is not kept. Never raises."""
    names = get_settings().key_names
    # A form that is none: what `curl -d '{"a": 1}'` sends. Read as one, its text would be a name.
    form = request.content_type == _FORM and not raw.lstrip().startswith((b"{", b"["))
    try:
        value = _form(raw, request.encoding) if form else _json(raw)
    except (ValueError, LookupError, RecursionError):
        kind = "a form" if form else "JSON"
        return f"<{len(raw)} bytes that are not {kind}>", [Redaction(_PATH, "unparsed")]
    value, found = plain(value, _PATH)
    # Names come from strangers, and the paths of marks are stored open.
    marks = sorted({Redaction(_PATH, mark.rule) for mark in found})
    if form:
        value, redactions = redact_form(value, _PATH, **names)
    else:
        value, redactions = redact(value, _PATH, **names)
    return value, [*marks, *redactions]


Form = tuple[MultiValueDict[str, Any], MultiValueDict[str, Any]]


def read_form(request: HttpRequest) -> Form | None:
    """Fields and files of a multipart form that somebody has read; None where nobody has."""
    if request.content_type != _MULTIPART or request.method in SAFE_METHODS:
        return None
    known = vars(request)  # to ask the request would be to read it
    fields, files = known.get("_post"), known.get("_files")
    if get_settings().request_body == "off" or not (fields or files):
        return None
    if not isinstance(fields, MultiValueDict) or not isinstance(files, MultiValueDict):
        return None  # of a parser of the project's
    return fields, files


def redact_upload(read: Form) -> tuple[JSON, list[Redaction]]:
    """Fields without secrets, and files as `<name, size>`. Too long fields are not kept."""
    settings, (fields, files) = get_settings(), read
    form: dict[str, list[str]] = {name: list(found) for name, found in fields.lists()}
    marks: list[Redaction] = []
    if sum(len(name) + sum(map(len, form[name])) for name in form) > settings.max_body_bytes:
        form, marks = {}, [Redaction(_PATH, "limit")]
    for name, uploads in files.lists():
        form.setdefault(name, []).extend(map(_file, uploads))
    value, found = plain(form, _PATH)
    marks += sorted({Redaction(_PATH, mark.rule) for mark in found})
    value, redactions = redact_form(value, _PATH, **settings.key_names)
    return value, [*marks, *redactions]


def _file(upload: Any) -> str:
    # An upload handler of the project's may return anything.
    return f"<{getattr(upload, 'name', '?')}, {getattr(upload, 'size', '?')} bytes>"


def _json(raw: bytes) -> JSON:
    return msgspec.json.decode(raw.decode("utf-8", "replace"))


def _form(raw: bytes, encoding: str | None) -> dict[str, list[str]]:
    # Not a QueryDict: that refuses more fields than DATA_UPLOAD_MAX_NUMBER_FIELDS, and the request
    # with them would be missing from the log.
    encoding = encoding or "utf-8"
    text = raw.decode(encoding, "replace")
    return parse_qs(text, keep_blank_values=True, encoding=encoding, errors="replace")
