"""A project's own suite, by every runner, without us and with everything of ours installed."""

from __future__ import annotations

import json

import pytest

from tests.guests.conftest import MakeHost
from tests.guests.running import PATTERN, Run, assert_silent, assert_unnoticed

pytestmark = pytest.mark.slow

MANAGE = ["manage.py", "test", "--verbosity", "2", "--pattern", PATTERN]
CASES = [*MANAGE[:-1], "hosttests_cases.py"]  # the others need the data of a migration
PYTEST = ["-m", "pytest", "--quiet", "-rA", "-p", "no:cacheprovider", "-p", "no:randomly"]
RUNNERS = {
    "manage.py": MANAGE,
    "manage.py in parallel": [*MANAGE, "--parallel", "2"],
    "pytest": PYTEST,
    "pytest-xdist": [*PYTEST, "-n", "2"],
}


def both(make_host: MakeHost, command: list[str], **variables: str) -> tuple[Run, Run]:
    """The same command without us and with us, side by side."""
    hosts = make_host("library", "plain"), make_host("library", "audited")
    without = hosts[0].start(*command, **variables)
    with_us = hosts[1].start(*command, GUEST_AUDIT="on", **variables)
    runs = without.finish(), with_us.finish()
    assert not hosts[1].database.exists()  # the tests' database is another
    return runs


@pytest.mark.parametrize("runner", RUNNERS)
def test_suite_of_the_host_does_not_notice_us(make_host, runner):
    """L1, L2, L3."""
    assert_unnoticed(*both(make_host, RUNNERS[runner]))


def test_suite_of_the_host_does_not_notice_that_we_are_switched_off(make_host):
    """L10."""
    hosts = make_host("library", "plain"), make_host("library", "off")
    without = hosts[0].start(*CASES)
    switched_off = hosts[1].start(*CASES, GUEST_AUDIT="off")
    assert_unnoticed(without.finish(), switched_off.finish())


def test_kept_database_serves_the_next_run(make_host, tmp_path):
    """L3: nothing of ours stays in it that the next run would find."""
    host = make_host("library", "kept")
    options = {"NAME": str(tmp_path / "kept.sqlite3") if host.vendor == "sqlite" else None}
    command = [*MANAGE, "--keepdb", "-k", "test_relations", "-k", "test_requests"]
    runs = [host.run(*command, GUEST_AUDIT="on", GUEST_TEST=json.dumps(options)) for _ in range(2)]
    for run in runs:
        assert run.code == 0, run
        assert run.outcomes
        assert_silent(run)
    if host.vendor != "sqlite":
        assert host.database.drop() == [f"test_{host.database.name}"]


@pytest.mark.parametrize(
    ("command", "variables"),
    [
        ([*PYTEST, "--nomigrations", "books/hosttests/hosttests_cases.py"], {}),
        (CASES, {"GUEST_TEST": json.dumps({"MIGRATE": False})}),
        (CASES, {"GUEST_MIGRATIONS": "none"}),
    ],
    ids=["--nomigrations", "MIGRATE False", "MIGRATION_MODULES None"],
)
def test_plain_tables_do(make_host, command, variables):
    """L6."""
    run = make_host("library", "tables").run(*command, GUEST_AUDIT="on", **variables)
    assert run.code == 0, run
    assert len(run.outcomes) > 40
    assert_silent(run)
