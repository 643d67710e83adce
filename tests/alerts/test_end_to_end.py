"""From a click in the admin to a mail: real processes, a real mail server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from django.contrib.auth.models import User
from django.test import Client

import audit_log
from audit_log.models import Alert, Outbox, Record
from tests.alerts.conftest import RULE
from tests.alerts.mailbox import Mailbox
from tests.conftest import ROOT
from tests.faults.servers import redis_server
from tests.shop.models import Category

pytestmark = [
    pytest.mark.slow,
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
]
SECONDS = 300  # not to hang


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    mailbox = Mailbox()
    mailbox.start()
    yield mailbox
    mailbox.stop()


@pytest.fixture
def environment(
    process_environment: dict[str, str], tmp_path: Path, mailbox: Mailbox, settings: Any
) -> dict[str, str]:
    settings.ROOT_URLCONF = "tests.admin.urls"
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "SPOOL_DIR": str(tmp_path / "spool")}
    rule = {**RULE, "channels": ["email", "log", "signal"], "to": ["security@example.com"]}
    return {
        **process_environment,
        "DJANGO_SETTINGS_MODULE": "tests.alerts.process_settings",
        "FAULTS_SPOOL_DIR": str(tmp_path / "spool"),
        "FAULTS_AUDIT_LOG": json.dumps({"ALERTS": [rule]}),
        "ALERTS_SMTP_PORT": str(mailbox.port),
    }


@contextmanager
def _running(environment: dict[str, str], log: Path, *words: str) -> Iterator[int]:
    """A process, killed at the end of the block; what it wrote is shown where a test fails."""
    with (
        log.open("w") as file,
        subprocess.Popen(
            [sys.executable, *words], cwd=ROOT, env=environment, stdout=file, stderr=file
        ) as process,
    ):
        try:
            yield process.pid
        finally:
            process.kill()
            sys.stdout.write(log.read_text())


def _loop(environment: dict[str, str], log: Path) -> Any:
    words = ("manage.py", "audit_log", "relay", "--loop", "--interval", "0.05")
    return _running(environment, log, *words)


def _until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"After {SECONDS} s: {what}")
        time.sleep(0.05)


def _until_evaluated(deletes: int) -> None:
    """Until a record that came after all these was evaluated: what was to fire has fired."""
    from audit_log.models import Cursor

    _until(lambda: Record.objects.filter(action="delete").count() == deletes, "not relayed")
    size = Record.objects.filter(stream="default").count()
    places = Cursor.objects.filter(stream="default", sequence__gte=size)
    _until(places.exists, "not evaluated")


def _made(number: int) -> list[int]:
    names = [Category(name=str(n)) for n in range(number)]
    return [category.pk for category in Category.objects.bulk_create(names)]


def _delete_in_the_admin(number: int, name: str) -> User:
    """Select them all in the list, and say yes: two requests by an admin of this name."""
    root = User.objects.create_superuser(name)
    client = Client()
    client.force_login(root)
    form = {"action": "delete_selected", "_selected_action": _made(number)}
    assert client.post("/admin/shop/category/", form).status_code == 200
    assert client.post("/admin/shop/category/", {**form, "post": "yes"}).status_code == 302
    assert not Category.objects.exists()
    return root


def test_admin_who_deletes_many_objects_causes_one_mail(
    environment, mailbox, tmp_path, record_property
):
    """Two workers at once, and neither ninety-nine objects nor those of a teller do."""
    with _loop(environment, tmp_path / "1.log"), _loop(environment, tmp_path / "2.log"):
        _delete_in_the_admin(99, "careful")
        with audit_log.acting(User.objects.create_user("teller")):
            Category.objects.filter(pk__in=_made(150)).delete()
        _until_evaluated(249)
        assert mailbox.mails == []
        started = time.monotonic()
        root = _delete_in_the_admin(120, "root")
        _until(lambda: mailbox.mails, "no mail came")
        record_property("seconds_to_mail", round(time.monotonic() - started, 3))
        Category.objects.create(name="afterwards")
        _until(lambda: Record.objects.filter(action="audit_log.alerted").exists(), "not recorded")
        _until(lambda: not Outbox.objects.exists(), "not relayed")
    with _loop(environment, tmp_path / "3.log"):
        Category.objects.all().delete()
        _until_evaluated(370)
    (mail,) = mailbox.mails
    assert f"sum(affected) 120 (threshold 100 in 5m) by actor_id {root.pk}" in mail["Subject"]
    alert = Alert.objects.get()
    assert all("sent_at" in state for state in alert.channels.values())


def test_worker_of_celery_mails_within_seconds(environment, mailbox, tmp_path):
    """The message that a commit sends, a relay, an alert, a second task, a mail."""
    with redis_server(tmp_path) as broker:
        words = ["-m", "celery", "-A", "tests.faults.celery_app", "worker", "--pool", "solo"]
        quiet = ["--loglevel", "INFO", "--without-mingle", "--without-gossip"]
        worker = {**environment, "FAULTS_BROKER": broker.url}
        _delete_in_the_admin(120, "root")
        with _running(worker, tmp_path / "worker.log", *words, *quiet):
            app = Celery("messages", broker=broker.url, set_as_current=False)
            for _ in range(2):
                app.send_task("audit_log.relay", ignore_result=True)
            _until(lambda: mailbox.mails, "no mail came")
            app.send_task("audit_log.alerts", ignore_result=True)
            _until(lambda: Alert.objects.filter(due_at=None).exists(), "not noted")
            app.close()
    assert len(mailbox.mails) == 1


def test_mail_server_that_is_down_holds_up_nothing(environment, mailbox, tmp_path):
    mailbox.stop()
    with _loop(environment, tmp_path / "loop.log"):
        _delete_in_the_admin(120, "root")
        _until(lambda: Alert.objects.filter(attempts=1).exists(), "it was not tried")
        Category.objects.create(name="goes on")
        _until(
            lambda: Record.objects.filter(action="create", target_type="shop.category").exists(),
            "not relayed",
        )
        mailbox.start()
        Alert.objects.update(due_at=datetime.now(UTC))
        Category.objects.create(name="and on")
        _until(lambda: Alert.objects.filter(due_at=None).exists(), "it was not tried again")
    assert len(mailbox.mails) == 1
    assert Alert.objects.get().channels["email"]["attempts"] >= 2


def test_kill_between_sending_and_noting_repeats_the_same_mail(environment, mailbox, tmp_path):
    """At least once; the mailbox can tell that it is the same."""
    _delete_in_the_admin(120, "root")
    with _loop(environment, tmp_path / "killed.log") as pid:
        mailbox.on_mail = lambda: os.kill(pid, signal.SIGKILL)
        _until(lambda: mailbox.mails, "no mail came")
    mailbox.on_mail = None
    alert = Alert.objects.get()
    assert "sent_at" not in alert.channels["email"]
    assert "sent_at" in alert.channels["log"]
    Alert.objects.update(due_at=datetime.now(UTC))  # the lease ran out
    words = ["manage.py", "audit_log", "alerts", "--evaluate"]
    subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, check=True, timeout=SECONDS)
    first, second = mailbox.mails
    assert first["Message-ID"] == second["Message-ID"]
    assert Alert.objects.get().channels["log"]["attempts"] == 1
