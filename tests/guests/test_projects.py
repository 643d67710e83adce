"""Projects of other shapes, and other drivers."""

from __future__ import annotations

import importlib.util
import json

import pytest

from tests import settings
from tests.guests.conftest import MakeHost
from tests.guests.running import Run, assert_unnoticed
from tests.guests.test_suites import MANAGE

pytestmark = pytest.mark.slow


def both(make_host: MakeHost, project: str, **variables: str) -> tuple[Run, Run]:
    without = make_host(project, "plain").start(*MANAGE, **variables)
    with_us = make_host(project, "audited").start(*MANAGE, GUEST_AUDIT="on", **variables)
    return without.finish(), with_us.finish()


def test_project_without_users_sessions_or_admin(make_host):
    """L8."""
    assert_unnoticed(*both(make_host, "bare"))


def test_project_with_its_own_user_model(make_host):
    """L8."""
    assert_unnoticed(*both(make_host, "members"))


def test_local_times_are_refused_with_the_reason(make_host):
    """L8."""
    host = make_host("library", "naive")
    run = host.run("manage.py", "check", GUEST_AUDIT="on", GUEST_USE_TZ="0")
    assert run.code != 0
    assert "(audit_log.E002) USE_TZ is False: times in the log would depend on" in run.err
    assert "HINT: Set USE_TZ = True." in run.err


# The other suites use psycopg as Django sets it up.
DRIVERS = {
    "psycopg, bound by the server and pooled": (
        "psycopg_pool",
        {"server_side_binding": True, "pool": True},
    ),
    "psycopg2": ("psycopg2", {}),
}


@pytest.mark.skipif(settings.DATABASE != "postgres", reason="Runs with the suite on PostgreSQL.")
@pytest.mark.parametrize("driver", DRIVERS)
def test_driver(make_host, driver):
    """L8."""
    module, options = DRIVERS[driver]
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed.")
    variables = {"GUEST_OPTIONS": json.dumps(options), "GUEST_DRIVER": module}
    assert_unnoticed(*both(make_host, "library", **variables))
