"""Processes that are no tests: whatever broker there is or is not, and with us switched off."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.guests.conftest import MakeHost
from tests.guests.running import Host, Run

pytestmark = pytest.mark.slow

REFUSED = "127.0.0.1:1"
# The broker's URL as CELERY_BROKER_URL, and how many lines may be written about it.
BROKERS = {
    "no Celery app": ("none", 0),
    "task_always_eager": ("eager", 0),
    "memory": ("memory://", 0),
    "Redis refuses": (f"redis://{REFUSED}/0", 1),
    "RabbitMQ refuses": (f"amqp://guest:guest@{REFUSED}//", 1),
    "Redis is silent": ("redis://{silent}/0", 1),
    "RabbitMQ is silent": ("amqp://guest:guest@{silent}//", 1),
}


@pytest.fixture(scope="module")
def migrated(make_host: MakeHost) -> Host:
    """A host whose real database has all tables."""
    host = make_host("library", "migrated")
    host.database.create()
    run = host.run("manage.py", "migrate", "--verbosity", "0", GUEST_AUDIT="on")
    assert run.code == 0, run
    return host


@pytest.fixture(scope="module")
def silent() -> Iterator[str]:
    """A server that takes connections and says nothing."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
        host, port = server.getsockname()
        yield f"{host}:{port}"


@pytest.fixture(params=BROKERS)
def burst(request, make_host, migrated, silent) -> tuple[Host, Run, int]:
    url, lines = BROKERS[request.param]
    host = make_host("library", "burst")
    host.database.create(migrated.database.name)
    run = host.run("burst.py", GUEST_AUDIT="on", GUEST_CELERY=url.format(silent=silent))
    return host, run, lines


def test_no_broker_loses_nothing_and_makes_no_storm(burst):
    """L5: the process exits by itself, and all waits in the outbox; nobody relayed it."""
    host, run, lines = burst
    assert run.answer["notes"] == 200
    actions = host.actions()
    assert (actions["create"], actions["request"]) == (200, 20)
    assert host.database.rows("SELECT count(*) FROM audit_log_record") == [(0,)]
    assert run.spooled == []
    assert len(run.err.splitlines()) == lines, run


def test_switched_off_nothing_of_us_is_there(make_host, migrated):
    """L10."""
    host = make_host("library", "off")
    host.database.create(migrated.database.name)
    before = host.database.rows("SELECT count(*) FROM audit_log_outbox")
    found = host.run("look.py", GUEST_AUDIT="off").answer
    assert found["hooks"] == []
    assert found["connection"] == []
    assert found["receivers"] == []
    assert found["threads"] == ["MainThread"]
    assert [sql.split()[0] for sql in found["executed"]] == ["INSERT"]  # the project's own
    assert host.database.rows("SELECT count(*) FROM audit_log_outbox") == before


def test_switched_on_the_same_look_finds_us(make_host, migrated):
    """So that the test above can fail."""
    host = make_host("library", "on")
    host.database.create(migrated.database.name)
    found = host.run("look.py", GUEST_AUDIT="on").answer
    assert "Model._save_table" in found["hooks"]
    assert "commit" in found["connection"]
    assert found["receivers"]
    assert host.actions()["login"] == 1


def test_flush_command_empties_every_table(make_host, migrated):
    """L2."""
    host = make_host("library", "flushed")
    host.database.create(migrated.database.name)
    assert host.run("burst.py", GUEST_AUDIT="on").answer["notes"] == 200
    run = host.run("manage.py", "flush", "--noinput", GUEST_AUDIT="on")
    assert run.code == 0, run
    assert host.database.rows("SELECT count(*) FROM books_note") == [(0,)]
    assert host.actions()["create"] == 0
