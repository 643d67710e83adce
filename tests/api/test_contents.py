"""Opening what is sealed: by POST, on record before anything is shown."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import pytest
from django.test import Client

import audit_log
from audit_log import testing
from audit_log.models import DataKey, Record
from audit_log.privacy import data_keys
from audit_log.reading import access
from tests.api.asking import ROOT, post
from tests.ledger.building import a_full_event, write

pytestmark = pytest.mark.django_db


@pytest.fixture
def row() -> Record:
    write([a_full_event()])
    return Record.objects.get()


def place(row: Record) -> str:
    return f"{ROOT}records/{row.pk}/contents/"


def test_contents_are_opened(opener, row):
    answer = post(opener, place(row))
    assert answer.json() == {
        "changes": {"name": ["old", "new"], "price": ["1.10", "2.20"], "stock": [0, 1]},
        "labels": {"price": ["1.10 EUR", "2.20 EUR"]},
        "target_label": "Product 0",
        "data": {"batch": 4, "gateway": "x"},
        "actor": {
            "label": "alice",
            "email": "alice@example.com",
            "ip": "203.0.113.9",
            "user_agent": "Mozilla/5.0",
        },
        "request": {"query": "page=2", "body": {"price": "2.20"}},
        "reason": "repricing",
        "closed": [],
    }
    assert answer["Cache-Control"] == "no-store"


def test_opening_is_on_record_with_its_reason(opener, row):
    post(opener, place(row), reason="ticket 42")
    testing.relay()
    revealed = Record.objects.get(action="audit_log.revealed")
    assert (revealed.target_type, revealed.target_id) == ("audit_log.record", str(row.pk))
    opened = audit_log.contents(revealed)
    assert (opened["actor"]["label"], opened["reason"]) == ("opener", "ticket 42")
    assert opened["data"] == {"stream": "default", "sequence": 0}


def test_every_opening_is_on_record(opener, row):
    for _ in range(3):
        post(opener, place(row))
    testing.relay()
    assert Record.objects.filter(action="audit_log.revealed").count() == 3


def test_what_cannot_be_recorded_is_not_shown(opener, row, monkeypatch):
    def failing(*args: object) -> None:
        raise RuntimeError("no outbox")

    monkeypatch.setattr(access, "note_revealed", failing)
    opener.raise_request_exception = False
    answer = post(opener, place(row))
    assert answer.status_code == 500
    assert b"alice@example.com" not in answer.content


def test_a_link_opens_nothing(opener, row):
    """A page elsewhere can make a browser GET, never POST with the token."""
    assert opener.get(place(row)).status_code == 405
    testing.relay()
    assert not Record.objects.filter(action="audit_log.revealed").exists()


def test_session_needs_the_csrf_token(opener, row):
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = opener.cookies
    answer = post(strict, place(row))
    assert answer.status_code == 403
    assert "CSRF" in answer.json()["detail"]


def test_erased_part_says_so(opener, row):
    moment = datetime(2026, 11, 30, tzinfo=UTC)
    theirs = DataKey.objects.filter(scope="subject:auth.user:7")
    assert theirs.update(wrapped=None, destroyed_at=moment) == 1
    data_keys.forget()
    found = post(opener, place(row)).json()
    said = {"label": "erased on 2026-11-30", "email": None, "ip": None, "user_agent": None}
    assert found["actor"] == said
    assert found["target_label"] == "Product 0"
    assert len(found["closed"]) == 1
    assert found["closed"][0].startswith("sealed_actor: ")


@pytest.mark.parametrize("reason", ["x" * 501, 5.5, ["a"], {"b": 1}, "nul\x00"])
def test_reason_that_is_no_short_text_is_refused(opener, row, reason):
    answer = post(opener, place(row), reason=reason)
    if answer.status_code != 200:  # DRF takes a number for text
        assert (answer.status_code, list(answer.json()["errors"])) == (400, ["reason"])
    else:
        assert reason == 5.5


@pytest.mark.parametrize("body", ["[]", "nonsense", '"text"', "null"])
def test_body_that_is_no_object_is_refused(opener, row, body):
    answer = opener.post(place(row), body, content_type="application/json")
    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("body", ["[" * 16_000, '{"reason":' * 200_000])
def test_body_that_is_nested_too_deep_is_refused(opener, row, body):
    answer = opener.post(place(row), body, content_type="application/json")
    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"


def test_body_that_is_too_large_is_refused(opener, row, settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    answer = post(opener, place(row), reason="x" * 2000)
    assert (answer.status_code, answer["Content-Type"]) == (413, "application/problem+json")


def test_form_is_not_taken(opener, row):
    assert opener.post(place(row), {"reason": "x"}).status_code == 415


def test_unknown_record_is_not_found(opener):
    answer = post(opener, f"{ROOT}records/{uuid.uuid4()}/contents/")
    assert answer.status_code == 404
    testing.relay()
    assert not Record.objects.filter(action="audit_log.revealed").exists()
