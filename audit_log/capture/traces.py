"""Correlation ids, in and out: the request's id, and W3C Trace Context."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from audit_log import context
from audit_log.capture import spans
from audit_log.capture.headers import sent_name
from audit_log.conf import get_settings

TRACE_PARENT: Final = "traceparent"
# A later version may say more behind a dash (Trace Context, 4.3): we hand on what version 00 knows.
_TRACE_PARENT: Final = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-((?!0{16})[0-9a-f]{16})-([0-9a-f]{2})(-.{0,256})?"
)


class Trace(NamedTuple):
    """The id of a trace, and the header to hand on (`traceparent`, version 00)."""

    id: str
    parent: str


def parsed(given: object) -> Trace | None:
    """What a `traceparent` says; None where it is not one."""
    match = _TRACE_PARENT.fullmatch(given) if isinstance(given, str) else None
    if match is None or (match[5] is not None and match[1] == "00"):
        return None
    return Trace(match[2], f"00-{match[2]}-{match[3]}-{match[4]}")


def trace_parent() -> str | None:
    """The `traceparent` to send along now: of the current span, else the one that came in."""
    return spans.trace_parent() or context.current().trace_parent


def correlation_headers() -> dict[str, str]:
    """Headers for a call to another service, so that its log and ours can be joined.

    `REQUEST_ID_HEADER` with the id of the request (also in its tasks), and `traceparent` where one
    came in or OpenTelemetry has a current span. Empty outside of any request.
    """
    now = context.current()
    request = now.request or (now.scope.request() if now.scope is not None else None)
    found = {}
    if request is not None and request.id:
        found[sent_name(get_settings().request_id_header)] = request.id
    if parent := trace_parent():
        found[TRACE_PARENT] = parent
    return found
