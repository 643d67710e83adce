"""Where alerts are evaluated and seen: tasks, commands, health, checks, the admin."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.db import OperationalError
from django.test import Client, override_settings

from audit_log import checks, health, tasks
from audit_log.admin.alerts import VIEW
from audit_log.alerts import evaluation, sweeping
from audit_log.models import Alert, Outbox, Record
from audit_log.reading import access
from audit_log.recording import losses, outbox
from tests.alerts.conftest import RULE
from tests.ledger.building import an_event

pytestmark = pytest.mark.django_db(databases=["default", "other"])
URL = "/admin/audit_log/alert/"


def put(number: int) -> None:
    """Captured and waiting for the relay."""
    from django.db import connection

    from audit_log.events import Actor

    events = [an_event(action="delete", actor=Actor("admin", "7")) for _ in range(number)]
    outbox.insert(connection, outbox.rows_of(events))


def command(*words: str) -> str:
    out = io.StringIO()
    call_command("audit_log", *words, stdout=out)
    return out.getvalue()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The messages that a task sends: there is no broker here."""
    messages: list[dict[str, Any]] = []
    monkeypatch.setattr(tasks.alerts, "apply_async", lambda **options: messages.append(options))
    return messages


# --- tasks


def test_relay_task_fires_and_leaves_the_telling_to_another_task(rule, sent, caplog, settings):
    rule()
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "QUEUE": "audit"}
    put(120)
    tasks.relay()
    assert Alert.objects.get().measured == 120
    (message,) = sent
    assert (message["queue"], message["retry"]) == ("audit", False)
    assert "sent_at" not in Alert.objects.get().channels["log"]
    tasks.alerts()
    assert "sent_at" in Alert.objects.get().channels["log"]


def test_relay_task_without_news_asks_nothing(rule, sent, monkeypatch):
    rule()
    monkeypatch.setattr(sweeping, "evaluate", pytest.fail)
    tasks.relay()
    assert sent == []


def test_broker_that_takes_no_message_leaves_it_to_beat(rule, monkeypatch, caplog):
    def refuse(**_: object) -> None:
        raise OSError("no broker")

    monkeypatch.setattr(tasks.alerts, "apply_async", refuse)
    rule()
    put(120)
    tasks.relay()
    assert "took no message" in caplog.text
    tasks.alerts()
    assert "sent_at" in Alert.objects.get().channels["log"]


def test_error_in_an_evaluation_is_counted_and_fails_no_relay(rule, sent, monkeypatch, caplog):
    def fail(*_args: object, **_options: object) -> None:
        raise OperationalError("boom")

    rule()
    put(120)
    before = losses.counts().get("alerts_failed", 0)
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "_page", fail)
        tasks.relay()
    assert losses.counts()["alerts_failed"] == before + 1
    assert "could not be evaluated" in caplog.text
    assert Record.objects.count() == 120
    assert not Outbox.objects.exists()
    tasks.alerts()
    assert Alert.objects.count() == 1


def test_error_in_the_telling_is_counted_too(rule, monkeypatch, caplog):
    def fail() -> None:
        raise OperationalError("boom")

    monkeypatch.setattr(sweeping, "notify", fail)
    rule()
    tasks.alerts()
    assert "Nobody could be told" in caplog.text


# --- commands


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_relay_command_evaluates_tells_and_stores_that_it_did(rule):
    rule()
    put(120)
    found = json.loads(command("relay", "--json"))
    assert (found["events"], found["waiting"]) == (121, 0)
    assert "sent_at" in Alert.objects.get().channels["log"]
    assert Record.objects.filter(action="audit_log.alerted").count() == 1


def test_alerts_command_lists_and_evaluates(rule, happened):
    rule(threshold=10)
    assert command("alerts") == "No alert has fired.\n"
    happened(range(10))
    assert command("alerts") == "No alert has fired.\n"
    text = command("alerts", "--evaluate")
    assert "1 alerts fired now, 1 deliveries succeeded." in text
    assert "many_deletes: sum(affected) 10 (threshold 10 in 5m) by actor_id 7" in text
    assert "log: sent 20" in text
    (line,) = json.loads(command("alerts", "--json"))["alerts"]
    assert (line["rule"], line["group"], line["measured"]) == ("many_deletes", "7", 10)


def test_alerts_command_lists_no_more_than_asked(rule, happened):
    rule(threshold=1)
    for actor in "123":
        happened([0], actor_id=actor)
    found = json.loads(command("alerts", "--evaluate", "--json", "--limit", "2"))
    assert (found["fired"], found["delivered"], len(found["alerts"])) == (3, 3, 2)


def test_alerts_command_says_why_a_channel_fails(rule, happened, settings):
    settings.ADMINS = []
    rule(threshold=1, channels=["email"])
    happened([0])
    text = command("alerts", "--evaluate")
    assert "email: failed 1 times, tried again: ValueError: There is no recipient" in text


# --- health and checks


def test_alert_that_keeps_failing_is_a_trouble(rule, happened, settings):
    settings.ADMINS = []
    rule(threshold=1, channels=["email"])
    happened([0])
    sweeping.sweep()
    assert health.measure().alerts_failing == 0
    Alert.objects.update(due_at=datetime.now(UTC))
    sweeping.sweep()
    found = health.measure()
    assert found.alerts_failing == 1
    assert any("audit_log alerts" in trouble for trouble in found.troubles)


@pytest.mark.parametrize(
    ("options", "admins", "wrong"),
    [
        ({}, [], []),
        ({"channels": ["email"]}, [], ["audit_log.W005"]),
        ({"channels": ["email"], "to": ["ops@example.com"]}, [], []),
        ({"channels": ["email"]}, ["ops@example.com"], []),
    ],
)
def test_mail_without_a_recipient_is_w005(options, admins, wrong):
    alerts = [{**RULE, **options}]
    with override_settings(AUDIT_LOG={"ALERTS": alerts}, ADMINS=admins):
        found = checks.check_alerts()
    assert [message.id for message in found] == wrong
    assert all("many_deletes" in message.msg for message in found)


# --- the admin


@pytest.fixture
def client(settings: Any) -> Client:
    """Somebody who may see alerts and nothing else."""
    settings.ROOT_URLCONF = "tests.admin.urls"
    access.forget()
    user = User.objects.create_user("watch", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename=VIEW.partition(".")[2]))
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def alert(rule, happened) -> Alert:
    rule(threshold=10)
    happened(range(12))
    happened([20], action="update")
    happened([21], actor_id="8")
    sweeping.sweep()
    return Alert.objects.get()


def test_list_and_page_show_the_alert(client, alert):
    """I1."""
    listed = client.get(URL).content.decode()
    assert "many_deletes" in listed
    assert "actor_id 7" in listed
    page = client.get(f"{URL}{alert.pk}/change/").content.decode()
    assert "sum(affected) 12 (10 in 5m)" in page
    assert "log: sent 20" in page
    assert "default/9" in page


def test_link_leads_to_the_records_that_made_it(client, alert):
    import html
    import re

    page = client.get(f"{URL}{alert.pk}/change/").content.decode()
    (link,) = re.findall(r'href="(/admin/audit_log/record/\?[^"]*)"', page)
    client.force_login(User.objects.create_superuser("root"))
    response = client.get(html.unescape(link))
    records = response.context_data["cl"].result_list
    assert {record.sequence for record in records} == set(range(12))


def test_looking_at_alerts_is_recorded(client, alert):
    from audit_log import testing

    with testing.capture_events() as events:
        client.get(URL)
        client.get(f"{URL}{alert.pk}/change/")
    viewed = [event.data for event in events if event.action == "audit_log.viewed"]
    assert [data["what"] for data in viewed if data] == ["alerts", "alert"]


@pytest.mark.parametrize("path", ["add/", "{pk}/delete/", "{pk}/change/"])
def test_nobody_changes_an_alert(client, alert, path):
    """I1."""
    client.force_login(User.objects.create_superuser("root"))
    assert client.post(URL + path.format(pk=alert.pk), {"post": "yes"}).status_code == 403
    assert "delete_selected" not in client.get(URL).content.decode()
    assert Alert.objects.count() == 1


@pytest.mark.parametrize("path", ["", "{pk}/change/"])
def test_alerts_need_their_permission(client, alert, path):
    other = User.objects.create_user("other", is_staff=True)
    other.user_permissions.add(Permission.objects.get(codename="view_record"))
    client.force_login(other)
    assert client.get(URL + path.format(pk=alert.pk)).status_code == 403


def test_hostile_group_is_escaped(client, rule, happened):
    """I2."""
    rule(threshold=1)
    happened([0], actor_id="<script>alert(1)</script>\u202e")
    sweeping.sweep()
    for path in ("", f"{Alert.objects.get().pk}/change/"):
        text = client.get(URL + path).content.decode()
        assert "<script>alert" not in text
        assert "\u202e" not in text


def test_list_costs_the_same_however_many_there_are(
    client, rule, happened, django_assert_num_queries
):
    """I4."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    rule(threshold=1)
    happened([0])
    sweeping.sweep()
    client.get(URL)
    with CaptureQueriesContext(connection) as one:
        client.get(URL)
    for n in range(20):
        happened([0], actor_id=f"more {n}")
    sweeping.sweep()
    with django_assert_num_queries(len(one)):
        client.get(URL)


def test_alert_that_waits_says_so(client, rule, happened):
    rule(threshold=1)
    happened([0])
    evaluation.evaluate()
    assert "not sent yet" in client.get(URL).content.decode()
