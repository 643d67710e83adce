"""What is read of a request's headers: an allow-list of few, never a deny-list."""

from __future__ import annotations

import re
from functools import lru_cache
from secrets import token_hex  # not uuid4, which a host's test may replace and count
from typing import Final

from django.http import HttpRequest

from audit_log.privacy.detectors import detect
from audit_log.recording.values import clean

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


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


def request_id(given: str) -> str:
    """The id the header gave, or a new one."""
    # It is stored open, and a client may send anything: a card number is no id.
    if _REQUEST_ID.fullmatch(given) and not detect(given, personal=True):
        return given
    return token_hex(16)
