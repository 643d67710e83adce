"""What `migrate` makes where, with the ledger in a database of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from django.apps import apps

from tests.conftest import ROOT
from tests.databases import empty_database
from tests.settings import DATABASE, RUN

OUTBOX = "audit_log_outbox"

SCRIPT = """
import django, json
django.setup()
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.db import connections

def tables(alias):
    return sorted(connections[alias].introspection.table_names())

call_command("migrate", verbosity=0)
call_command("migrate", "audit_log", database="audit", verbosity=0)
found = {"default": tables("default"), "alone": tables("audit")}
call_command("migrate", database="audit", verbosity=0)
found["audit"] = tables("audit")
found["permissions"] = [
    Permission.objects.using(alias).filter(codename="view_record").count()
    for alias in ("default", "audit")
]
call_command("makemigrations", check=True, dry_run=True)
call_command("check", databases=["default", "audit"], fail_level="WARNING")
call_command("migrate", "audit_log", "zero", verbosity=0)
call_command("migrate", "audit_log", "zero", database="audit", verbosity=0)
found["zero"] = [name for alias in ("default", "audit") for name in tables(alias)]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("tables")
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.multi_db.settings",
        "PYTHONPATH": str(ROOT),
    }
    with ExitStack() as stack:
        for alias in ("default", "audit"):
            made = empty_database(DATABASE, f"tables_{alias}_{RUN}_{os.getpid()}", folder)
            environment[f"AUDIT_LOG_TEST_NAME_{alias.upper()}"] = stack.enter_context(made)
        # makemigrations asks all databases; the others are not what is looked at here.
        environment["AUDIT_LOG_TEST_NAME_OTHER"] = environment["AUDIT_LOG_TEST_NAME_DEFAULT"]
        ended = subprocess.run(
            [sys.executable, "-W", "error", "-c", SCRIPT],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr[-2000:]
        yield json.loads(ended.stdout.splitlines()[-1])


def _ours(tables: list[str]) -> set[str]:
    return {name for name in tables if name.startswith("audit_log_")}


def test_business_database_has_an_outbox_and_nothing_else_of_the_log(found: Any):
    """J4."""
    assert _ours(found["default"]) == {OUTBOX}
    assert "auth_user" in found["default"]


def test_ledger_database_has_every_table_of_the_log(found: Any):
    """J4."""
    ours = {model._meta.db_table for model in apps.get_app_config("audit_log").get_models()}
    assert OUTBOX in ours
    assert len(ours) > 5
    assert _ours(found["audit"]) == ours


def test_ledger_database_needs_no_table_of_the_project(found: Any):
    assert set(found["alone"]) - _ours(found["alone"]) == {"django_migrations"}
    assert _ours(found["alone"]) == _ours(found["audit"])


def test_permissions_are_where_the_users_are(found: Any):
    """Django makes them for each database that holds its own tables of them."""
    assert found["permissions"] == [1, 1]


def test_migrating_to_zero_takes_all_of_it_away(found: Any):
    """L7."""
    assert _ours(found["zero"]) == set()
