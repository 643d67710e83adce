"""Who may see what, and that every look and every refusal is on record."""

from __future__ import annotations

import uuid
from base64 import b64encode
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

import audit_log
from audit_log import testing
from audit_log.events import Target
from audit_log.models import Record
from audit_log.reading import access
from tests.api.asking import ROOT, get, numbers, post
from tests.api.conftest import ALERTS, OPEN, VIEW
from tests.ledger.building import a_full_event, an_event, write

pytestmark = pytest.mark.django_db(databases=["default", "other"])  # health looks at both

READING = (
    *("records/", f"records/{uuid.UUID(int=1)}/", "targets/shop.category/1/"),
    *("streams/", "checkpoints/", "parts/", "health/", "schema/"),
    *("statistics/", "statistics/routes/"),
)
CONTENTS = f"records/{uuid.UUID(int=1)}/contents/"


def viewed(**columns: Any) -> list[Record]:
    """What is on record about reading the log, oldest first."""
    testing.relay()
    rows = Record.objects.filter(action="audit_log.viewed", **columns)
    return list(rows.order_by("sequence"))


def said(row: Record) -> dict[str, Any]:
    opened: dict[str, Any] = audit_log.contents(row)
    return {**opened["data"], "actor": opened["actor"]["label"]}


@pytest.mark.parametrize("path", [*READING, "alerts/"])
def test_anonymous_is_refused_and_that_is_on_record(client, path):
    """tenant_read."""
    problem = get(client, path, 403)  # session log-in has no challenge, so not 401
    assert problem["code"] == "not_authenticated"
    (row,) = viewed(outcome="denied")
    assert row.actor_type == "anonymous"


def test_anonymous_is_challenged_where_the_project_says_how(client, settings):
    settings.REST_FRAMEWORK = {
        "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.BasicAuthentication"]
    }
    response = client.get(f"{ROOT}records/")
    assert response.status_code == 401
    assert response["WWW-Authenticate"].startswith("Basic")
    assert response["Content-Type"] == "application/problem+json"


def test_wrong_password_is_refused_and_that_is_on_record(client, settings, person):
    settings.REST_FRAMEWORK = {
        "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.BasicAuthentication"]
    }
    person(VIEW, name="ada")

    def status(password: str) -> int:
        basic = b64encode(f"ada:{password}".encode()).decode()
        answer = client.get(f"{ROOT}records/", headers={"Authorization": f"Basic {basic}"})
        return int(answer.status_code)

    assert (status("wrong"), status("right")) == (401, 200)
    assert len(viewed(outcome="denied")) == 1
    (row,) = viewed(outcome="success")
    assert said(row)["actor"] == "ada"


@pytest.mark.parametrize("path", [*READING, "alerts/"])
def test_user_without_the_permission_is_refused_and_that_is_on_record(person, path):
    """tenant_read."""
    problem = get(person(name="eve"), path, 403)
    assert (problem["status"], problem["code"]) == (403, "permission_denied")
    (row,) = viewed(outcome="denied")
    assert said(row)["actor"] == "eve"
    assert row.target_id is None


@pytest.mark.parametrize("path", READING)
def test_view_record_alone_is_enough_to_read(reader, path):
    response = reader.get(ROOT + path)
    assert response.status_code in {200, 404}
    assert viewed(outcome="denied") == []


def test_being_staff_is_not_enough():
    client = Client()
    client.force_login(User.objects.create_user("boss", is_staff=True))
    get(client, "records/", 403)


def test_inactive_user_is_refused(person):
    client = person(VIEW, name="ada")
    User.objects.update(is_active=False)
    get(client, "records/", 403)


def test_alerts_need_a_permission_of_their_own(person, reader):
    get(reader, "alerts/", 403)
    alert_reader = person(ALERTS, name="watch")
    get(alert_reader, "alerts/")
    get(alert_reader, "records/", 403)


@pytest.mark.parametrize("permissions", [(), (VIEW,), (OPEN,), (ALERTS,)])
def test_contents_need_both_permissions(person, permissions):
    write([a_full_event()])
    row = Record.objects.get()
    response = post(person(*permissions), f"{ROOT}records/{row.pk}/contents/")
    assert response.status_code == 403
    assert b"alice@example.com" not in response.content
    (denied,) = viewed(outcome="denied")
    assert said(denied)["what"] == "contents"
    assert not Record.objects.filter(action="audit_log.revealed").exists()


def test_refusal_is_on_record_also_with_atomic_requests(person, monkeypatch):
    from django.db import connection

    client = person(name="eve")
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    get(client, "records/", 403)
    assert len(viewed(outcome="denied")) == 1


def test_refusals_of_a_minute_are_one_record_however_the_question_varies(person):
    eve = person(name="eve")
    for n in range(20):
        get(eve, "records/", 403, target_id=n)
    get(eve, "streams/", 403)
    mallory = person(name="mallory")
    get(mallory, "records/", 403)
    assert [(said(row)["actor"], said(row)["what"]) for row in viewed(outcome="denied")] == [
        ("eve", "records"),
        ("eve", "streams"),
        ("mallory", "records"),
    ]


def test_secret_in_a_refused_question_is_masked(person):
    get(person(name="eve"), "records/", 403, api_key="q-9f3c1d7a55", action="login")
    (row,) = viewed(outcome="denied")
    assert "q-9f3c1d7a55" not in repr(audit_log.contents(row))
    assert said(row)["query"].endswith("&action=login")


def test_reading_is_on_record_with_query_and_count(reader):
    write([an_event(action="login"), an_event(action="login"), an_event()])
    get(reader, "records/", action="login")
    (row,) = viewed()
    assert said(row) == {
        "what": "records",
        "query": "action=login",
        "results": 2,
        "actor": "reader",
    }
    assert row.stream == "audit_log"
    assert row.request_id is not None


def test_same_question_within_a_minute_is_one_record(reader, monkeypatch):
    write([an_event() for _ in range(9)])
    page = get(reader, "records/", page_size=3)
    while page["next"]:
        page = get(reader, page["next"])
    get(reader, "records/")
    assert len(viewed()) == 1
    get(reader, "records/", outcome="success")
    assert len(viewed()) == 2
    monkeypatch.setattr(access, "_COLLAPSE_SECONDS", 0)
    get(reader, "records/")
    assert len(viewed()) == 3


def test_record_and_history_are_on_record_too(reader):
    write([an_event(target=Target("shop.shelf", "3"))])
    row = Record.objects.get()
    get(reader, f"records/{row.pk}/")
    get(reader, "targets/shop.shelf/3/")
    get(reader, "statistics/")
    one, history, statistics = viewed()
    assert (one.target_type, one.target_id) == ("audit_log.record", str(row.pk))
    assert said(history)["query"] == "shop.shelf#3"
    assert said(statistics)["what"] == "statistics"


def test_reading_what_was_read_does_not_fill_the_log(reader, monkeypatch):
    """Who follows the bookkeeping would else find his own reading, for ever."""
    monkeypatch.setattr(access, "_COLLAPSE_SECONDS", 0)
    get(reader, "records/")
    testing.relay()
    after, seen = -1, []
    for _ in range(5):
        page = get(reader, "records/", stream="audit_log", after=after)
        seen += numbers(page)
        after = seen[-1]
        for row in page["results"]:
            get(reader, f"records/{row['id']}/")
        get(reader, "records/", stream="audit_log")
        testing.relay()
    assert seen == [0]


def test_opening_the_bookkeeping_is_on_record_all_the_same(opener):
    get(opener, "records/")
    (row,) = viewed()
    assert post(opener, f"{ROOT}records/{row.pk}/contents/").status_code == 200
    testing.relay()
    assert Record.objects.filter(action="audit_log.revealed", target_id=str(row.pk)).exists()


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
@pytest.mark.parametrize("path", ["records/", f"records/{uuid.UUID(int=1)}/", "streams/"])
def test_nothing_can_be_written(reader, method, path):
    response = getattr(reader, method)(ROOT + path)
    assert response.status_code == 405
    assert response["Content-Type"] == "application/problem+json"


def test_nothing_is_noted_while_recording_is_off(reader, opener, settings):
    write([a_full_event()])
    row = Record.objects.get()
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "ENABLED": False}
    get(reader, "records/")
    refused = post(opener, f"{ROOT}records/{row.pk}/contents/")
    assert refused.status_code == 403
    assert "Recording is off" in refused.json()["detail"]
