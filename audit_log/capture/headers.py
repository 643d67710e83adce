"""What is read of a request's headers: an allow-list of few, never a deny-list."""

from __future__ import annotations

import re
from functools import lru_cache
from secrets import token_hex  # not uuid4, which a host's test may replace and count
from typing import Final

from django.http import HttpRequest, HttpResponseBase

from audit_log.conf import get_settings
from audit_log.privacy.detectors import detect
from audit_log.recording.values import clean

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_TOLD: Final = "_audit_log_request_id"


def header(request: HttpRequest, name: str) -> str:
    """One header, by either spelling (`X-Request-ID`, `HTTP_X_REQUEST_ID`).

    From META: `request.headers` is made once, so a middleware that alters META would not be heard.
    """
    given = request.META.get(_meta_key(name))
    return str(given) if given else ""


@lru_cache(maxsize=16)
def _meta_key(name: str) -> str:
    key = name.upper().replace("-", "_")
    return key if key.startswith("HTTP_") else f"HTTP_{key}"


@lru_cache(maxsize=16)
def sent_name(name: str) -> str:
    """A header's name as it is sent, by either spelling."""
    if not name.upper().startswith("HTTP_"):
        return name
    return name[5:].replace("_", "-").title()


def decoded(text: str) -> str:
    """A header or query as UTF-8: both kinds of server hand bytes over as Latin-1."""
    if text.isascii():
        return clean(text)
    try:
        return clean(text.encode("latin-1").decode("utf-8", "replace"))
    except UnicodeEncodeError:
        return clean(text)


def is_id(given: str) -> bool:
    """Whether this can be the id of a request."""
    # It is stored open, and a client may send anything: a card number is no id.
    return _REQUEST_ID.fullmatch(given) is not None and not detect(given, personal=True)


def new_id() -> str:
    """An id nobody has had."""
    return token_hex(16)


def tell_id(response: HttpResponseBase, request_id: str) -> None:
    """Tell the client the id of its request, unless the project has told one.

    What we told before is no word of the project's: some views return one response many times.
    """
    name = sent_name(get_settings().request_id_header)
    if response.headers.get(name) == getattr(response, _TOLD, None):
        response.headers[name] = request_id
        setattr(response, _TOLD, request_id)
