"""OpenTelemetry's current span, where that package is installed. The only module to import it.

A span is what the process itself knows, so it comes before a header that a client sent.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from audit_log import context

_trace: Any = None
with suppress(ImportError):
    from opentelemetry import trace as _trace


def install() -> None:
    """Ask for the current span whenever an event is made. Nothing where there can be none."""
    context.follow_spans(None if _trace is None else trace_id)


def uninstall() -> None:
    """Ask no more."""
    context.follow_spans(None)


def trace_id() -> str | None:
    """The trace of the current span, as 32 hexadecimal digits."""
    span = _current()
    return None if span is None else f"{span.trace_id:032x}"


def trace_parent() -> str | None:
    """The current span as a W3C `traceparent`."""
    span = _current()
    if span is None:
        return None
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{int(span.trace_flags):02x}"


def _current() -> Any:
    if _trace is None:
        return None
    span = _trace.get_current_span().get_span_context()
    return span if span.is_valid else None
