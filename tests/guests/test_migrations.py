"""Our tables come after our code, before it, with other apps' data, and go again."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack
from typing import Any

import pytest

from audit_log.management import verbs
from tests.guests.conftest import MakeHost
from tests.guests.running import Host, Run, assert_silent, until

pytestmark = pytest.mark.slow

MIGRATE = ("manage.py", "migrate", "--verbosity", "0")
AUDIT = {"GUEST_AUDIT": "on"}


def well(run: Run) -> Run:
    assert run.code == 0, run
    return run


@pytest.fixture
def host(make_host: MakeHost, request: pytest.FixtureRequest) -> Host:
    """A project with an empty database."""
    host = make_host("library", request.node.originalname.removeprefix("test_")[:16])
    host.database.create()
    return host


def relayed(host: Host) -> list[tuple[Any, ...]]:
    """action, target_type and target_id of all that was ever captured, each once, and proved."""
    well(host.run("manage.py", "audit_log", "relay", **AUDIT))
    run = well(host.run("manage.py", "audit_log", "verify", "--no-record", "--json", **AUDIT))
    assert run.answer["verified"]
    assert host.run("manage.py", "check", **AUDIT).spooled == []
    return host.database.rows("SELECT action, target_type, target_id FROM audit_log_record")


def test_code_before_its_tables_loses_nothing(host):
    """L7: saves, requests, checks and the project's commands go on; all is spooled."""
    well(host.run(*MIGRATE))
    assert_silent(well(host.run("manage.py", "check", **AUDIT)))
    run = well(host.run("burst.py", **AUDIT))
    assert run.answer["notes"] == 200
    assert run.spooled
    assert 0 < run.err.count("Traceback") <= 6, run  # once a reason, with its cause
    password = {"DJANGO_SUPERUSER_PASSWORD": "x"}
    names = ("--username", "ada", "--email", "ada@example.com")
    well(host.run("manage.py", "createsuperuser", "--noinput", *names, **AUDIT, **password))
    well(host.run(*MIGRATE, **AUDIT))
    stored = relayed(host)
    notes = [id_ for action, what, id_ in stored if (action, what) == ("create", "books.note")]
    assert sorted(map(int, notes)) == list(range(1, 201))
    assert [action for action, *_ in stored].count("request") == 20
    assert [what for action, what, _ in stored if action == "create"].count("auth.user") == 1


@pytest.mark.parametrize("verb", verbs.NAMES)
def test_verb_without_its_tables_says_what_to_do(verb, tableless):
    """L7: a line rather than a traceback, from each verb that gets as far as its tables."""
    words = {"erase": ["user:1"]}.get(verb, [])
    run = tableless.run("manage.py", "audit_log", verb, *words, **AUDIT)
    assert run.code == 0 or any(
        said in run.err.splitlines()[-1] for said in ("manage.py migrate", "required:")
    ), run


@pytest.fixture(scope="module")
def tableless(make_host: MakeHost) -> Host:
    host = make_host("library", "tableless")
    host.database.create()
    return host


def test_tables_before_the_code_are_in_nobodys_way(host):
    """L7: the last release is still running while the next one's migrations are applied."""
    well(host.run(*MIGRATE, **AUDIT))
    assert well(host.run("burst.py")).answer["notes"] == 200
    well(host.run(*MIGRATE))
    well(host.run("manage.py", "check"))
    assert host.database.rows("SELECT count(*) FROM audit_log_outbox") == [(0,)]
    assert well(host.run("burst.py", **AUDIT)).answer["notes"] == 400
    assert len([row for row in relayed(host) if row[0] == "create"]) == 200


@pytest.mark.parametrize("when", ["before", "after"])
def test_data_migration_in_the_same_run_is_recorded(host, when):
    """L7: what comes before our tables goes by the spool, and is replayed as the run ends."""
    run = well(host.run(*MIGRATE, **AUDIT, GUEST_DATA_MIGRATION=when))
    assert ("Cannot write to the outbox" in run.err) is (when == "before")
    stored = relayed(host)
    assert stored.count(("create", "books.note", "1")) == 1
    assert stored.count(("update", "books.note", "1")) == 1


def _goes_on(host: Host) -> None:
    """Until the site has begun and committed a note after this was called."""
    ((newest,),) = host.database.rows("SELECT max(id) FROM books_note")
    # The next one may have begun before.
    until(lambda: host.database.rows("SELECT max(id) FROM books_note") > [(newest + 1,)])


def test_site_goes_on_while_the_tables_go_and_come_back(host, tmp_path):
    """L7: `migrate audit_log zero` takes what was stored; what is done from then on is kept.

    The relay is stopped before, as docs/operations.md says: it holds several of our tables, and
    PostgreSQL would call it a deadlock. One that starts while they are gone waits for them.
    """
    well(host.run(*MIGRATE, **AUDIT))
    stop = tmp_path / "stop"
    loop_words = ("manage.py", "audit_log", "relay", "--loop", "--interval", "0.1")
    with ExitStack() as running:
        site = host.start("alive.py", str(stop), **AUDIT)
        running.callback(site.close)
        until(lambda: host.database.rows("SELECT count(*) FROM audit_log_outbox") > [(20,)])
        well(host.run("manage.py", "audit_log", "relay", **AUDIT))
        well(host.run("manage.py", "migrate", "audit_log", "zero", "--verbosity", "0", **AUDIT))
        gone = time.monotonic()
        loop = host.start(*loop_words, **AUDIT)
        running.callback(loop.close)
        until(lambda: "The relay failed" in loop.err)  # it finds no table
        _goes_on(host)  # nor do the site's changes
        well(host.run(*MIGRATE, **AUDIT))
        back = time.monotonic()
        until(lambda: host.database.rows("SELECT count(*) FROM audit_log_record") > [(20,)])
        _goes_on(host)
        stop.touch()
        made = well(site.finish()).answer
        loop.send(signal.SIGTERM)
        well(loop.finish())
    stored = [
        id_ for action, what, id_ in relayed(host) if (action, what) == ("create", "books.note")
    ]
    assert len(stored) == len(set(stored))
    kept = {int(id_) for id_ in stored}
    assert [pk for began, pk in made if began > gone and pk not in kept] == []
    assert any(gone < began < back for began, _ in made)
    assert any(began > back for began, _ in made)
