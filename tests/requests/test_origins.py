"""Where a request comes from: its id, its address, its tenant."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory, override_settings
from hypothesis import given
from hypothesis import strategies as st

from audit_log.capture.requests import begin
from audit_log.conf.requests import Network
from audit_log.events import Event
from audit_log.middleware import AuditMiddleware
from audit_log.privacy.addresses import client_address, network_of, parse
from audit_log.recording import losses
from tests.shop.models import Category

Only = Callable[..., list[Event]]


def _id(**headers: str) -> str:
    scope = begin(RequestFactory().get("/", **headers))  # type: ignore[arg-type]
    assert scope is not None
    return scope.id


# --- F12 ---


@pytest.mark.parametrize("spelling", ["X-Request-ID", "x-request-id", "HTTP_X_REQUEST_ID"])
def test_the_request_id_is_the_headers_however_the_setting_spells_it(spelling: str):
    """F12"""
    with override_settings(AUDIT_LOG={"REQUEST_ID_HEADER": spelling}):
        assert _id(HTTP_X_REQUEST_ID="abc-123") == "abc-123"


def test_another_header_can_carry_it():
    """F12"""
    with override_settings(AUDIT_LOG={"REQUEST_ID_HEADER": "X-Correlation-ID"}):
        assert _id(HTTP_X_CORRELATION_ID="abc", HTTP_X_REQUEST_ID="other") == "abc"


@pytest.mark.parametrize(
    "given_id",
    [
        "",
        "a b",
        "a\r\nSet-Cookie: x",
        "a\0b",
        "a\x1b[31m",
        "x" * 129,
        "<script>",
        "n\xe4me",
        "a\u2028b",
        "4111111111111111",
        "anna@example.com",
        "ghp_0123456789abcdefghij0123456789abcdef",
    ],
)
def test_an_id_that_is_none_is_replaced(given_id: str):
    """F12: control characters, over-long ones, and what the detectors know."""
    made = _id(HTTP_X_REQUEST_ID=given_id)
    assert made != given_id
    assert len(made) == 32
    assert int(made, 16) >= 0


def test_a_middleware_that_alters_the_address_is_not_believed():
    """F13: one that takes the client's word for it."""

    request = RequestFactory().get("/", REMOTE_ADDR="192.0.2.1")
    scope = begin(request)
    assert scope is not None
    request.META["REMOTE_ADDR"] = "6.6.6.6"
    assert scope.ip == "192.0.2.1"


def test_threads_of_one_request_share_its_id():
    """F12"""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        for _ in range(50):
            scope = begin(RequestFactory().get("/"))
            assert scope is not None
            assert len(set(pool.map(lambda _, s=scope: s.id, range(8)))) == 1


def test_without_a_header_each_request_has_an_id_of_its_own():
    """F12"""
    assert len({_id() for _ in range(10)}) == 10


def test_all_events_of_a_request_share_its_id(client: Client, anna: User, only: Only):
    """F12"""
    client.post(
        "/log-in/",
        {"username": "anna", "password": "correct horse"},
        headers={"x-request-id": "r-1"},
    )
    found = [e for e in only("create", "login", "request") if e.request is not None]
    assert [e.action for e in found] == ["create", "login", "create", "request"]
    assert {e.request.id for e in found if e.request} == {"r-1"}


def test_our_reading_of_headers_hides_none_from_the_view():
    """A middleware that turns a cookie into a header, as JWT set-ups do, is still heard."""

    def view(request: HttpRequest) -> HttpResponse:
        request.META["HTTP_X_FROM_COOKIE"] = "found"
        return HttpResponse(request.headers.get("X-From-Cookie", "hidden"))

    response = AuditMiddleware(view)(RequestFactory().get("/", HTTP_X_REQUEST_ID="abc"))
    assert response.content == b"found"


def test_the_trace_is_the_one_of_the_trace_parent():
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    scope = begin(RequestFactory().get("/", HTTP_TRACEPARENT=f"00-{trace}-00f067aa0ba902b7-01"))
    assert scope is not None
    assert scope.trace_id == trace
    scope = begin(RequestFactory().get("/", HTTP_TRACEPARENT=f"00-{trace}-nonsense-01"))
    assert scope is not None
    assert scope.trace_id is None


# --- F13 ---

PROXIES: tuple[Network, ...] = (
    ipaddress.ip_network("10.0.0.0/8"),
    ipaddress.ip_network("2001:db8::/32"),
)
FORGED = "6.6.6.6"
HUNDRED = ", ".join([FORGED] * 100)


@pytest.mark.parametrize(
    ("trusted", "remote", "forwarded", "expected"),
    [
        # No proxy: the header is the client's own.
        (0, "192.0.2.1", None, "192.0.2.1"),
        (0, "192.0.2.1", FORGED, "192.0.2.1"),
        (0, "192.0.2.1", HUNDRED, "192.0.2.1"),
        # One proxy: it added the last entry.
        (1, "10.0.0.1", "192.0.2.1", "192.0.2.1"),
        (1, "10.0.0.1", f"{FORGED}, 192.0.2.1", "192.0.2.1"),
        (1, "10.0.0.1", f"{HUNDRED}, 192.0.2.1", "192.0.2.1"),
        (1, "10.0.0.1", "x" * 5000 + ", 192.0.2.1", "192.0.2.1"),
        (1, "10.0.0.1", None, "10.0.0.1"),
        (1, "10.0.0.1", "", "10.0.0.1"),
        # Two proxies: the last but one.
        (2, "10.0.0.1", f"{FORGED}, 192.0.2.1, 10.0.0.2", "192.0.2.1"),
        (2, "10.0.0.1", f"{HUNDRED}, 192.0.2.1, 10.0.0.2", "192.0.2.1"),
        # Fewer entries than proxies: somebody came around one of them, and may have written it.
        (2, "192.0.2.9", FORGED, "192.0.2.9"),
        (3, "192.0.2.9", f"{FORGED}, {FORGED}", "192.0.2.9"),
        # Networks: the first from the right that is no proxy.
        (PROXIES, "10.0.0.1", f"{FORGED}, 192.0.2.1, 10.0.0.2", "192.0.2.1"),
        (PROXIES, "10.0.0.1", f"{HUNDRED}, 192.0.2.1", "192.0.2.1"),
        (PROXIES, "::ffff:10.0.0.1", f"{FORGED}, 192.0.2.1", "192.0.2.1"),
        (PROXIES, "2001:db8::1", f"{FORGED}, 2001:db9::7, 2001:db8::2", "2001:db9::7"),
        (PROXIES, "192.0.2.1", FORGED, "192.0.2.1"),  # no proxy of ours is connected
        (PROXIES, "", FORGED, None),
        (PROXIES, "10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        (PROXIES, "10.0.0.1", f"{FORGED}, garbage, 10.0.0.2", None),
        # Spellings.
        (1, "10.0.0.1", "192.0.2.1:4711", "192.0.2.1"),
        (1, "10.0.0.1", "[2001:db9::1]:4711", "2001:db9::1"),
        (1, "10.0.0.1", "2001:DB9::1", "2001:db9::1"),
        (1, "10.0.0.1", " 192.0.2.1 ", "192.0.2.1"),
        (1, "10.0.0.1", "::ffff:192.0.2.1", "192.0.2.1"),
        (1, "10.0.0.1", "fe80::1%anna@example.com", "fe80::1"),
        # Garbage.
        (1, "10.0.0.1", f"{FORGED}, unknown", None),
        (1, "10.0.0.1", f"{FORGED}, _hidden", None),
        (1, "10.0.0.1", f"{FORGED},", None),
        (1, "10.0.0.1", ",,,,", None),
        (1, "10.0.0.1", f"{FORGED}, 1.2.3.4.5", None),
        (1, "10.0.0.1", f"{FORGED}, \xff\xfe", None),
        (0, "", None, None),
        (0, "unix:", None, None),
        (0, "127.0.0.1:80", None, "127.0.0.1"),
    ],
)
def test_the_address_is_never_one_the_client_made_up(
    trusted: Any, remote: str, forwarded: str | None, expected: str | None
):
    """F13, xff_spoof"""
    meta = {"REMOTE_ADDR": remote}
    if forwarded is not None:
        meta["HTTP_X_FORWARDED_FOR"] = forwarded
    assert client_address(meta, trusted) == expected


@given(
    forged=st.text(max_size=300),
    trusted=st.sampled_from([1, 2, 3]),
    spaces=st.sampled_from([",", ", ", " , "]),
)
def test_whatever_the_client_forges_the_proxies_entries_decide(
    forged: str, trusted: int, spaces: str
):
    """F13, xff_spoof"""
    proxies = [f"10.0.0.{n}" for n in range(1, trusted)]
    header = spaces.join([forged, "192.0.2.1", *proxies])
    meta = {"REMOTE_ADDR": "10.0.0.99", "HTTP_X_FORWARDED_FOR": header}
    assert client_address(meta, trusted) == "192.0.2.1"
    assert client_address(meta, PROXIES) == "192.0.2.1"


@given(st.text(max_size=60))
def test_what_is_parsed_is_an_address_or_nothing(text: str):
    found = parse(text)
    assert found is None or str(ipaddress.ip_address(found)) == found


def test_garbage_does_not_fail_the_request(client: Client, only: Only):
    """F13"""
    with override_settings(AUDIT_LOG={"TRUSTED_PROXIES": 1}):
        response = client.post("/plain/", headers={"x-forwarded-for": "\xff, unknown"})
    assert response.status_code == 200
    [event] = only("request")
    assert event.request is not None
    assert event.request.ip is None


def test_addresses_can_be_left_out(client: Client, only: Only):
    """F13"""
    with override_settings(AUDIT_LOG={"TRUSTED_PROXIES": None}):
        client.post("/create/", REMOTE_ADDR="192.0.2.1", HTTP_X_FORWARDED_FOR="192.0.2.2")
    assert {event.request and event.request.ip for event in only("create", "request")} == {None}


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("nonsense", None),
    ],
)
def test_the_network_of_an_address_is_its_24_or_48(address: str, network: str | None):
    assert network_of(address) == network


# --- tenant ---


def _tenants(events: list[Event]) -> list[str | None]:
    return [event.tenant for event in events]


def test_the_tenant_is_what_the_callable_says_asked_once(client: Client, only: Only):
    calls: list[str] = []

    def tenant(request: HttpRequest) -> str:
        calls.append(request.path)
        return "acme"

    with override_settings(AUDIT_LOG={"TENANT": tenant}):
        client.post("/create/")
    assert _tenants(only("create", "request")) == ["acme", "acme"]
    assert calls == ["/create/"]


def test_a_tenant_that_is_none_is_asked_once_too(client: Client, only: Only):
    calls: list[str] = []

    def tenant(request: HttpRequest) -> None:
        calls.append(request.path)

    with override_settings(AUDIT_LOG={"TENANT": tenant}):
        client.post("/create/")
    assert _tenants(only("create", "request")) == [None, None]
    assert len(calls) == 1


@pytest.mark.parametrize("source", ["raises", "tests.no.such.callable"])
def test_a_tenant_that_fails_costs_no_event(client: Client, only: Only, source: str):
    def raises(request: HttpRequest) -> str:
        raise RuntimeError("no tenant")

    before = losses.counts().get("tenant_failed", 0)
    with override_settings(AUDIT_LOG={"TENANT": raises if source == "raises" else source}):
        assert client.post("/create/").status_code == 200
    assert _tenants(only("create", "request")) == [None, None]
    assert losses.counts()["tenant_failed"] > before


def test_a_tenant_that_failed_too_early_is_asked_again(events: list[Event]):
    def tenant(request: HttpRequest) -> str:
        return str(request.tenant)  # type: ignore[attr-defined]

    def view(request: HttpRequest) -> HttpResponse:
        Category.objects.create(name="too early")
        request.tenant = "acme"  # type: ignore[attr-defined]
        Category.objects.create(name="in time")
        return HttpResponse()

    with override_settings(AUDIT_LOG={"TENANT": tenant}):
        AuditMiddleware(view)(RequestFactory().get("/"))
    assert _tenants(events) == [None, "acme", "acme"]


def test_a_tenant_that_writes_does_not_recurse(client: Client, only: Only):
    def tenant(request: HttpRequest) -> str:
        Category.objects.create(name="by the callable")
        return "acme"

    with override_settings(AUDIT_LOG={"TENANT": tenant}):
        client.get("/create/")
    assert _tenants(only("create")) == [None, "acme"]


def test_a_path_that_a_middleware_rewrites_is_looked_at_again():
    request = RequestFactory().post("/old/42/")
    scope = begin(request)
    assert scope is not None
    assert scope.request().path == "/old/42/"
    request.path = request.path_info = "/reset/abc/"
    event = scope.event(HttpResponse(), 1)
    assert event.request is not None
    assert event.request.path == "/reset/[MASKED]/"
    assert event.redactions
