"""What is said of the device, and of a session that is suddenly used from elsewhere."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.test import Client

from audit_log.capture import sessions
from audit_log.events import Event
from audit_log.ledger import devices
from audit_log.models import Record
from audit_log.reading.contents import contents
from audit_log.testing import relay

Only = Callable[..., list[Event]]
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 "
    "(KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1"
)


@pytest.fixture(autouse=True)
def _strange() -> None:
    sessions.forget()
    devices._families.cache_clear()


def test_families_are_open_and_the_agent_sealed(client: Client, anna: User):
    client.post(
        "/log-in/", {"username": "anna", "password": "correct horse"}, HTTP_USER_AGENT=IPHONE
    )
    relay()
    for action in ("login", "request"):
        record = Record.objects.get(action=action)
        assert record.data is not None
        assert record.data["device"] == {
            "browser": "Mobile Safari",
            "system": "iOS",
            "device": "iPhone",
        }
        assert contents(record)["actor"]["user_agent"] == IPHONE
        row = Record.objects.filter(pk=record.pk).values_list()[0]
        assert not any("605.1.15" in str(value) for value in row)
    assert Record.objects.filter(action="create").exclude(data__isnull=True).count() == 0


def test_without_the_package_records_say_nothing_of_it(
    client: Client, db: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(devices, "_parse", None)
    client.post("/echo/", HTTP_USER_AGENT=FIREFOX)
    relay()
    assert Record.objects.get(action="request").data is None


@pytest.mark.parametrize("agent", ["", "x" * 4000, "\x00\x07", "Mozilla/5.0 (" * 60, "ÿþ☃"])
def test_a_strange_agent_costs_no_record(client: Client, db: None, agent: str):
    client.post("/echo/", HTTP_USER_AGENT=agent.encode().decode("latin-1"))
    relay()
    assert Record.objects.filter(action="request").count() == 1


def test_a_parser_that_fails_costs_no_record(
    client: Client, db: None, monkeypatch: pytest.MonkeyPatch
):
    def broken(_: str) -> None:
        raise RuntimeError

    monkeypatch.setattr(devices, "_parse", broken)
    client.post("/echo/", HTTP_USER_AGENT=FIREFOX)
    relay()
    assert Record.objects.get(action="request").data is None


def test_a_session_used_from_elsewhere_says_so(client: Client, anna: User, only: Only):
    client.force_login(anna)
    places = [
        ("192.0.2.1", FIREFOX),
        ("192.0.2.1", FIREFOX),
        ("198.51.100.7", FIREFOX),
        ("203.0.113.5", IPHONE),
        ("203.0.113.5", IPHONE),
    ]
    for address, agent in places:
        client.post("/echo/", REMOTE_ADDR=address, HTTP_USER_AGENT=agent)
    assert [event.data for event in only("request")] == [
        None,
        None,
        {"moved": ["address"]},
        {"moved": ["address", "agent"]},
        None,
    ]


def test_two_sessions_in_two_places_have_not_moved(anna: User, only: Only):
    for address in ("192.0.2.1", "198.51.100.7") * 2:
        client = Client(REMOTE_ADDR=address)
        client.force_login(anna)
        client.post("/echo/")
    assert [event.data for event in only("request")] == [None] * 4


def test_no_session_has_not_moved():
    assert sessions.moved(None, "192.0.2.1", FIREFOX) == []
    assert sessions.moved(None, "192.0.2.2", IPHONE) == []


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sessions, "_MAX_SESSIONS", 3)
    for n in range(10):
        sessions.moved(f"s{n}", "192.0.2.1", FIREFOX)
    assert list(sessions._seen) == ["s7", "s8", "s9"]
    sessions.moved("s7", "192.0.2.1", FIREFOX)
    sessions.moved("s10", "192.0.2.1", FIREFOX)
    assert list(sessions._seen) == ["s9", "s7", "s10"]
