"""Runs `apart_cases.py` with business and ledger apart, also on different engines."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import services
from tests.conftest import ROOT
from tests.faults.servers import missing
from tests.settings import DATABASE, RUN

# Each run pairs its engine with another one, so that the three runs cover each engine in each role.
LEDGERS = {"sqlite": ["sqlite", "postgres"], "postgres": ["mysql"], "mysql": ["sqlite"]}


@pytest.mark.slow
@pytest.mark.parametrize("ledger", LEDGERS[DATABASE])
def test_log_works_with_its_ledger_apart(ledger: str) -> None:
    """J4, multi_db."""
    reason = None if ledger == "sqlite" else services.trouble(ledger)
    if reason is not None:
        missing(reason)
    # A run of its own within this one: its databases must not be those of the tests around it.
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        "AUDIT_LOG_TEST_RUN": f"{RUN}_{os.getpid()}_{ledger}",
        "AUDIT_LOG_TEST_LEDGER_DB": ledger,
    }
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            "--ds=tests.multi_db.settings",
            str(Path(__file__).with_name("apart_cases.py")),
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert " passed" in ended.stdout
