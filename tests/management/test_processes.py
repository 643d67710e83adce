"""The commands as processes: exit codes, and a loop that is told to stop."""

from __future__ import annotations

import io
import itertools
import json
import signal
import subprocess
import sys
import time

import pytest
from django.core.management import call_command
from django.db import OperationalError

from audit_log.delivery.claims import Relayed
from audit_log.management.verbs import relay as relay_verb
from audit_log.models import Outbox, Record
from audit_log.recording import outbox
from tests.ledger.building import a_full_event, an_event, overwrite, write

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])
SECONDS = 300  # not to hang


@pytest.fixture
def manage(process_environment):
    """Starts `manage.py audit_log …`; what still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "audit_log", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=process_environment,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def until(condition) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def put(n: int) -> None:
    from django.db import connection

    outbox.insert(connection, outbox.rows_of([an_event(affected=n)]))


def test_exit_codes_say_whether_the_ledger_is_whole(manage):
    write([a_full_event()])
    whole = manage("verify", "--json", "--no-record")
    out, err = whole.communicate(timeout=SECONDS)
    assert (whole.returncode, err) == (0, "")
    assert json.loads(out)["verified"] is True
    overwrite("action", "login", 0)
    altered = manage("verify", "--json", "--no-record", "-v", "0")
    out, err = altered.communicate(timeout=SECONDS)
    assert altered.returncode == 1
    assert json.loads(out)["findings"][0]["sequence"] == 0
    assert "CommandError: The ledger was altered" in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_loop_relays_until_it_is_told_to_stop(manage, number):
    put(1)
    process = manage("relay", "--loop", "--interval", "0.05", "--json")
    until(lambda: Record.objects.count() == 1)
    put(2)
    until(lambda: Record.objects.count() == 2)
    process.send_signal(number)
    out, err = process.communicate(timeout=SECONDS)
    assert (process.returncode, err) == (0, "")
    found = json.loads(out)
    assert (found["batches"], found["events"], found["waiting"]) == (2, 2, 0)
    assert Outbox.objects.count() == 0
    assert list(Record.objects.order_by("sequence").values_list("sequence", flat=True)) == [0, 1]


def test_loop_outlives_a_server_that_restarts(monkeypatch, caplog):
    """It is asked less and less often, and the trouble is logged."""
    calls: list[float] = []

    def flaky(**_options: object) -> Relayed:
        calls.append(time.monotonic())
        if len(calls) < 4:
            raise OperationalError("the server went away")
        signal.raise_signal(signal.SIGTERM)
        return Relayed(batches=1, events=7)

    monkeypatch.setattr(relay_verb, "relay_everywhere", flaky)
    before = signal.getsignal(signal.SIGTERM)
    out = io.StringIO()
    call_command("audit_log", "relay", "--loop", "--interval", "0.05", "--json", stdout=out)
    assert json.loads(out.getvalue())["events"] == 7
    pauses = [b - a for a, b in itertools.pairwise(calls)]  # at least these: it may be woken late
    assert all(pause >= 0.05 * 2**n for n, pause in enumerate(pauses, start=1))
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 3
    assert signal.getsignal(signal.SIGTERM) is before
