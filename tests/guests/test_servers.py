"""L9: under every server, reloaded and killed, each change is recorded once."""

from __future__ import annotations

import os
import signal
from collections import Counter
from contextlib import suppress

import pytest

from tests import settings
from tests.guests.conftest import MakeHost
from tests.guests.running import Host, Process, until
from tests.guests.serving import RELOAD, SERVERS, STOP, busy

pytestmark = pytest.mark.slow

# SQLite has one writer and MariaDB's client is C throughout: one of each kind does there.
NAMES = list(SERVERS) if settings.DATABASE == "postgres" else ["gunicorn, gthread", "uvicorn"]
AUDIT = {"GUEST_AUDIT": "on"}


@pytest.fixture(scope="module")
def migrated(make_host: MakeHost) -> Host:
    host = make_host("library", "migrated")
    host.database.create()
    run = host.run("manage.py", "migrate", "--verbosity", "0", **AUDIT)
    assert run.code == 0, run
    return host


@pytest.fixture
def host(make_host: MakeHost, migrated: Host) -> Host:
    host = make_host("library", "served")
    host.database.create(migrated.database.name)
    return host


def compare(host: Host, told: set[int]) -> int:
    """Each row of the database is recorded once, and nothing else. How many requests made them."""
    until(lambda: not host.database.sessions())  # what was killed may still be committing
    for verb in (["relay"], ["verify", "--no-record"]):
        run = host.run("manage.py", "audit_log", *verb, **AUDIT)
        assert (run.code, run.spooled) == (0, []), run
    rows = {pk for (pk,) in host.database.rows("SELECT id FROM books_note")}
    assert told <= rows
    created = host.database.rows(
        "SELECT target_id, request_id FROM audit_log_record WHERE action = 'create'"
    )
    numbered = host.database.rows("SELECT emitter, emitter_seq FROM audit_log_record")
    assert len(set(numbered)) == len(numbered)  # a gap in them shows what is missing
    recorded = Counter(int(pk) for pk, _ in created)
    assert recorded == Counter(rows)
    # Each request made two: a third, or one, would be another request's.
    requests = Counter(request for _, request in created)
    assert None not in requests
    assert set(requests.values()) <= {1, 2}
    return len(requests)


def kill_one(processes: set[int], server: Process) -> bool:
    """Kill a worker that has answered and is still there: some end by themselves."""
    for pid in processes:
        with suppress(ProcessLookupError):
            if os.getsid(pid) == server.id:  # else another process has got its number
                os.kill(pid, signal.SIGKILL)
                return True
    return False


def recorded_requests(host: Host) -> int:
    ((number,),) = host.database.rows(
        "SELECT count(*) FROM audit_log_record WHERE action = 'request' AND status = 201"
    )
    return int(number)


@pytest.mark.parametrize("name", NAMES)
def test_reloaded_and_stopped_server_has_recorded_all(host, name):
    """L9: changes and requests, from workers that came and went."""
    with busy(host, SERVERS[name], **AUDIT) as (process, load):
        load.wait_for(40)
        before = load.processes
        process.send(RELOAD)
        load.wait_for_others(before)
        load.wait_for(40)
        load.stop()
        process.send(STOP)
        run = process.finish()
    assert "Traceback" not in run.err, run
    changed, requests = compare(host, load.notes), recorded_requests(host)
    # uvicorn ends by raising its signal again, and uWSGI while a thread is busy: then no exit
    # handler runs, and the requests of the last 100 ms are lost as by a kill.
    if name in {"uvicorn", "uWSGI, threads"}:
        assert changed >= requests > 0
    else:
        assert changed == requests


@pytest.mark.parametrize("name", NAMES)
def test_killed_server_has_recorded_every_change(host, name):
    """L9: a worker, and then all of it."""
    with busy(host, SERVERS[name], **AUDIT) as (process, load):
        load.wait_for(20)
        while not kill_one(load.processes, process):
            load.wait_for(1)
        load.wait_for(20)
        process.kill_all()
        load.stop()
        process.finish()
    # What was buffered in the last 100 ms is lost, which may be all of them.
    assert compare(host, load.notes) >= recorded_requests(host)
