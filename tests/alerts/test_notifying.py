"""Who is told, how often, and what becomes of channels that fail."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import django
import pytest
from django.core import mail
from django.db import connections, models

from audit_log import signals
from audit_log.alerts import notifying
from audit_log.alerts.evaluation import evaluate
from audit_log.alerts.notifying import notify
from audit_log.models import Alert, Cursor
from audit_log.recording import losses
from tests.alerts.mailbox import Mailbox
from tests.faults.servers import NOBODY, silent_port

pytestmark = pytest.mark.django_db
TO = ["security@example.com"]
NAIVE_ADMINS = ["ops@example.com"] if django.VERSION >= (6, 0) else [("Ops", "ops@example.com")]


@pytest.fixture
def fire(rule, happened) -> Any:
    """Fires an alert, with these options of its rule."""

    def call(*groups: str, **options: Any) -> Alert:
        rule(**{"threshold": 10, "channels": ["email"], "to": TO, **options})
        for group in groups or ("7",):
            happened(range(10), actor_id=group)
        assert evaluate() == len(groups or ("7",))
        return Alert.objects.order_by("-pk")[0]

    return call


@pytest.fixture
def smtp(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    """A mail server, which Django's settings name."""
    monkeypatch.setattr("audit_log.alerts.channels.email._TIMEOUT_SECONDS", 240.0)  # it may be slow
    mailbox = Mailbox()
    _use_server(settings, mailbox.port)
    mailbox.start()
    yield mailbox
    mailbox.stop()


def _use_server(settings: Any, port: int, **options: Any) -> None:
    backend = "django.core.mail.backends.smtp.EmailBackend"
    if django.VERSION >= (6, 1):
        given = {"host": "127.0.0.1", "port": port, **options}
        settings.MAILERS = {"default": {"BACKEND": backend, "OPTIONS": given}}
    else:
        settings.EMAIL_BACKEND, settings.EMAIL_HOST, settings.EMAIL_PORT = (
            backend,
            "127.0.0.1",
            port,
        )


def _let_time_pass() -> None:
    """What waits for its next attempt is due now."""
    Alert.objects.exclude(due_at=None).update(due_at=datetime.now(UTC))


def _state(alert: Alert, channel: str = "email") -> dict[str, Any]:
    alert.refresh_from_db()
    state = alert.channels[channel]
    assert isinstance(state, dict)
    return state


# --- the channels


def test_mail_says_what_happened_and_nothing_sealed(fire, smtp, settings):
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "SERVICE": "bank"}
    settings.ROOT_URLCONF = "tests.admin.urls"
    alert = fire()
    assert notify() == 1
    (sent,) = smtp.mails
    subject = "[bank] Alert many_deletes: sum(affected) 10 (threshold 10 in 5m) by actor_id 7"
    assert (sent["Subject"], sent["To"]) == (subject, "security@example.com")
    assert sent["Auto-Submitted"] == "auto-generated"
    body = sent.get_content()
    assert "record default/9" in body
    assert f"/admin/audit_log/alert/{alert.pk}/change/" in body
    assert 'actor_id:"7"' in body
    assert set(_state(alert)) == {"attempts", "sent_at"}
    assert alert.due_at is None


def test_mail_is_sent_once(fire, smtp):
    fire()
    assert [notify() for _ in range(3)] == [1, 0, 0]
    _let_time_pass()
    assert notify() == 0
    assert len(smtp.mails) == 1


def test_mail_goes_to_admins_where_the_rule_names_nobody(fire, smtp, settings):
    settings.ADMINS = NAIVE_ADMINS
    fire(to=[])
    assert notify() == 1
    assert smtp.mails[0]["To"] == "ops@example.com"


def test_mail_without_recipients_is_a_failure_that_says_so(fire, smtp, settings):
    settings.ADMINS = []
    alert = fire(to=[])
    assert notify() == 0
    assert "no recipient" in _state(alert)["error"]


def test_mail_of_a_rule_that_is_gone_goes_to_admins(fire, smtp, rules, settings):
    settings.ADMINS = NAIVE_ADMINS
    fire()
    rules()
    assert notify() == 1
    assert smtp.mails[0]["To"] == "ops@example.com"


def test_hostile_group_stays_within_its_header_and_line(fire, smtp, caplog):
    fire("7\r\nBcc: eve@example.com\x1b[31m\u202e" + "x" * 200, channels=["email", "log"])
    with caplog.at_level(logging.WARNING, "audit_log.alerts"):
        assert notify() == 2
    (sent,) = smtp.mails
    assert sent["Bcc"] is None
    assert "\\u000d\\u000aBcc" in sent["Subject"]
    (line,) = [r.getMessage() for r in caplog.records if r.name == "audit_log.alerts"]
    assert line.isprintable()


def test_log_channel_writes_one_warning(fire, caplog):
    alert = fire(channels=["log"])
    with caplog.at_level(logging.WARNING, "audit_log.alerts"):
        assert notify() == 1
    (record,) = [r for r in caplog.records if r.name == "audit_log.alerts"]
    assert record.levelno == logging.WARNING
    assert f"Alert {alert.pk}: many_deletes: sum(affected) 10" in record.getMessage()


def test_signal_channel_calls_the_project(fire, caplog):
    seen: list[Alert] = []

    def broken(**_: Any) -> None:
        raise ValueError("not ours")

    def receive(*, alert: Alert, **_: Any) -> None:
        seen.append(alert)

    signals.alert_fired.connect(broken)
    signals.alert_fired.connect(receive)
    try:
        alert = fire(channels=["signal"])
        assert [notify(), notify()] == [1, 0]
    finally:
        signals.alert_fired.disconnect(broken)
        signals.alert_fired.disconnect(receive)
    assert seen == [alert]
    assert "A receiver of `alert_fired` failed" in caplog.text


def test_rule_without_channels_tells_nobody(fire):
    alert = fire(channels=[])
    assert alert.due_at is None
    assert notify() == 0


# --- failing ones


def test_mail_server_that_is_down_holds_up_no_other_channel(fire, settings, caplog):
    _use_server(settings, NOBODY)
    alert = fire(channels=["email", "log", "signal"])
    before = losses.counts().get("alert_not_delivered", 0)
    assert notify() == 2
    assert "ConnectionRefusedError" in _state(alert)["error"]
    assert "sent_at" in _state(alert, "log")
    assert losses.counts()["alert_not_delivered"] == before + 1
    assert evaluate() == 0
    assert Cursor.objects.get(stream="default").sequence == 10


def test_mail_is_sent_once_when_the_server_is_back(fire, smtp):
    smtp.stop()
    alert = fire(channels=["email", "log"])
    assert notify() == 1
    assert notify() == 0  # not due yet
    smtp.start()
    _let_time_pass()
    assert notify() == 1
    _let_time_pass()
    assert notify() == 0
    assert len(smtp.mails) == 1
    assert _state(alert)["attempts"] == 2
    assert _state(alert, "log")["attempts"] == 1


def test_refused_recipient_is_tried_again(fire, smtp):
    smtp.refusing = True
    alert = fire()
    assert notify() == 0
    assert "SMTPRecipientsRefused" in _state(alert)["error"]
    smtp.refusing = False
    _let_time_pass()
    assert notify() == 1


def test_pauses_grow_to_an_hour(fire, settings):
    _use_server(settings, NOBODY)
    alert = fire()
    for minutes in (1, 2, 4, 8, 16, 32, 60, 60, 60):
        _let_time_pass()
        before = datetime.now(UTC)
        notify()
        after = datetime.now(UTC)
        alert.refresh_from_db()
        assert alert.due_at is not None
        assert before <= alert.due_at - timedelta(minutes=minutes) <= after


def test_channel_is_given_up_after_four_days_aloud(fire, settings, caplog):
    _use_server(settings, NOBODY)
    alert = fire()
    Alert.objects.update(fired_at=models.F("fired_at") - timedelta(days=5))
    assert notify() == 0
    assert "given_up_at" in _state(alert)
    assert alert.due_at is None
    assert "could not be delivered in four days" in caplog.text
    assert losses.counts()["alerts_given_up"] >= 1


def test_one_failure_spares_the_others_the_same_wait(fire, settings, monkeypatch):
    """A server that accepts and is silent costs one time limit a call, not one an alert."""
    from audit_log.alerts.channels import email

    monkeypatch.setattr(email, "_TIMEOUT_SECONDS", 0.5)
    with silent_port() as port:
        _use_server(settings, port)
        fire("1", "2", "3")
        assert notify() == 0
    attempts = sorted(alert.channels["email"]["attempts"] for alert in Alert.objects.all())
    assert attempts == [0, 0, 1]
    assert not Alert.objects.filter(due_at__lte=datetime.now(UTC)).exists()


def test_project_s_own_time_limit_is_kept(settings):
    from audit_log.alerts.channels import email

    if django.VERSION >= (6, 1):
        _use_server(settings, 1, timeout=3)
    else:
        _use_server(settings, 1)
        settings.EMAIL_TIMEOUT = 3
    assert email._mailer().timeout == 3


def test_what_a_mail_server_quotes_is_kept_without_secrets(fire, settings, monkeypatch, caplog):
    from audit_log.alerts.channels import email

    words = "no smtp://app:hunter2@host for 4111 1111 1111 1111"

    def refuses() -> None:
        raise OSError(words)  # a traceback shows the lines of the code

    monkeypatch.setattr(email, "_mailer", refuses)
    alert = fire()
    assert notify() == 0
    said = "OSError: no smtp://app:[MASKED]@host for **** **** **** 1111"
    assert _state(alert)["error"] == said
    assert said in caplog.text
    assert "hunter2" not in caplog.text


def test_backend_that_sends_nothing_is_a_failure(fire, settings):
    options = {"fail_silently": True}
    if django.VERSION >= (6, 1):
        _use_server(settings, NOBODY, **options)
    else:
        settings.EMAIL_BACKEND = "tests.alerts.silent_backend.EmailBackend"
    alert = fire()
    assert notify() == 0
    assert "sent nothing" in _state(alert)["error"]


# --- several workers, killed workers


def test_lease_that_ran_out_is_taken_over(fire, smtp):
    alert = fire()
    due = alert.due_at
    assert notifying._claim(alert, "default")
    alert.due_at = due
    assert not notifying._claim(alert, "default")  # somebody else is at it
    assert notify() == 0
    _let_time_pass()  # it was killed
    assert notify() == 1


@pytest.mark.django_db(transaction=True)
def test_workers_at_once_send_one_mail(fire, smtp):
    fire("1", "2", "3")
    barrier = threading.Barrier(4)
    sent: list[int] = []

    def work() -> None:
        try:
            barrier.wait(300)
            sent.append(notify())
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert sum(sent) == 3
    assert len({mail["Message-ID"] for mail in smtp.mails}) == len(smtp.mails) == 3


def test_nothing_due_costs_one_query(fire, django_assert_num_queries):
    fire(channels=["log"])
    notify()
    with django_assert_num_queries(1):
        notify()


def test_project_s_test_environment_gets_it_too(fire, settings):
    """Django's own stand-in for a mail server."""
    if django.VERSION >= (6, 1):
        settings.MAILERS = {"default": {"BACKEND": "django.core.mail.backends.locmem.EmailBackend"}}
    fire()
    assert notify() == 1
    assert mail.outbox[0].to == TO
