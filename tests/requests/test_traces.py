"""Correlation: W3C Trace Context in and out, request ids out, OpenTelemetry's current span."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory, override_settings
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

import audit_log
from audit_log import context
from audit_log.capture import spans, traces
from audit_log.events import Event
from audit_log.middleware import AuditMiddleware
from audit_log.testing import capture_events
from tests.shop.models import Category

Only = Callable[..., list[Event]]
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
SPAN_TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN_PARENT = f"00-{SPAN_TRACE}-b7ad6b7169203331-01"
SPAN = NonRecordingSpan(
    SpanContext(int(SPAN_TRACE, 16), 0xB7AD6B7169203331, is_remote=False, trace_flags=TraceFlags(1))
)


@pytest.mark.parametrize(
    ("given", "handed_on"),
    [
        (PARENT, PARENT),
        (PARENT[:-2] + "00", PARENT[:-2] + "00"),
        (f"cc-{PARENT[3:]}-what-the-future-brings", PARENT),
        (f"cc-{PARENT[3:]}", PARENT),
        (f"{PARENT}-more", None),  # version 00 says no more
        (f"ff-{PARENT[3:]}", None),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (PARENT.upper(), None),
        (f"{PARENT}\n", None),
        (f"cc-{PARENT[3:]}-{'x' * 9999}", None),
        ("", None),
        (None, None),
        (7, None),
    ],
)
def test_a_trace_parent_is_what_the_specification_says(given: object, handed_on: str | None):
    found = traces.parsed(given)
    assert (found and found.parent) == handed_on
    assert found is None or found.id == TRACE


def test_what_came_in_can_be_handed_on():
    seen: list[dict[str, str]] = []

    def view(request: HttpRequest) -> HttpResponse:
        seen.append(audit_log.correlation_headers())
        return HttpResponse()

    request = RequestFactory().get("/", HTTP_X_REQUEST_ID="r-1", HTTP_TRACEPARENT=PARENT)
    AuditMiddleware(view)(request)
    with override_settings(AUDIT_LOG={"REQUEST_ID_HEADER": "HTTP_X_CORRELATION_ID"}):
        AuditMiddleware(view)(RequestFactory().get("/", HTTP_X_CORRELATION_ID="r-2"))
    assert seen == [
        {"X-Request-ID": "r-1", "traceparent": PARENT},
        {"X-Correlation-Id": "r-2"},
    ]
    assert audit_log.correlation_headers() == {}


# --- OpenTelemetry ---


@pytest.fixture
def span() -> Iterator[None]:
    with trace.use_span(SPAN):
        yield


def test_the_current_span_is_the_trace_of_an_event(db: None, span: None):
    with capture_events() as events:
        Category.objects.create(name="inside")
    assert events[0].trace_id == SPAN_TRACE
    assert audit_log.correlation_headers() == {"traceparent": SPAN_PARENT}


def test_without_a_span_the_header_counts_and_with_one_the_span(client: Client, only: Only):
    client.get("/create/", headers={"traceparent": PARENT})
    with trace.use_span(SPAN):
        client.get("/create/", headers={"traceparent": PARENT})
    assert [e.trace_id for e in only("create")] == [TRACE, SPAN_TRACE]


def test_a_span_that_began_inside_of_us_is_the_one_of_the_request(client: Client, only: Only):
    def view(request: HttpRequest) -> HttpResponse:
        with trace.use_span(SPAN):
            Category.objects.create(name="x")
        return HttpResponse()

    AuditMiddleware(view)(RequestFactory().get("/"))
    assert {e.trace_id for e in only("create", "request")} == {SPAN_TRACE}


def test_where_the_package_is_missing_nobody_is_asked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(spans, "_trace", None)
    spans.install()
    assert context._span is None
    assert spans.trace_parent() is None
    monkeypatch.undo()
    spans.install()
    assert context._span is not None
