"""A run without any test that uses a database touches none, and no spool."""

from __future__ import annotations

import pytest

from tests.guests.running import assert_silent
from tests.guests.test_suites import MANAGE, PYTEST

pytestmark = pytest.mark.slow

SIMPLE = "hosttests_simple.py"
FUNCTIONS = "hosttests_functions.py"
COMMANDS = {
    "manage.py": [*MANAGE[:-1], SIMPLE],
    "pytest": [*PYTEST, f"books/hosttests/{SIMPLE}"],
    "pytest without the mark": [
        *PYTEST,
        f"books/hosttests/{FUNCTIONS}",
        "-k",
        "without_database or unsaved",
    ],
}


@pytest.fixture(scope="module")
def real(make_host):
    """A host with a real database beside that of its tests."""
    host = make_host("library", "real")
    host.database.create()
    run = host.run("manage.py", "migrate", "--verbosity", "0", GUEST_AUDIT="on")
    assert run.code == 0, run
    return host


@pytest.mark.parametrize("runner", COMMANDS)
def test_simple_tests_write_nowhere(real, runner):
    """L4: nor does the process when it exits, to the project's real database."""

    def counts() -> list[object]:
        tables = ("outbox", "record")
        return [real.database.rows(f"SELECT count(*) FROM audit_log_{name}") for name in tables]

    before = counts()
    run = real.run(*COMMANDS[runner], GUEST_AUDIT="on")
    assert run.code == 0, run
    assert run.outcomes
    assert_silent(run)
    assert counts() == before


@pytest.mark.parametrize("runner", COMMANDS)
def test_simple_tests_need_no_server(make_host, runner):
    """L4: every connection would be refused, and a thread that tried would fail the run."""
    host = make_host("library", "refused", vendor="postgres")
    run = host.run(*COMMANDS[runner], GUEST_AUDIT="on", PGPORT="1")
    assert run.code == 0, run
    assert run.outcomes
    assert_silent(run)
