"""The same tests with Django's other driver, and with parameters that the server binds."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.faults.servers import missing
from tests.settings import RUN

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

HERE = Path(__file__).parent
# These look at the messages that psycopg sends, or hand it statements of its own making.
MESSAGES = (
    "test_no_message_more_is_sent",
    "test_nothing_is_sent_where_there_is_nothing_to_say",
    "test_other_models_still_take_their_batch_along",
)
COMPOSED = "test_statements_that_are_put_together_by_the_driver_are_told_too"


@pytest.mark.parametrize("driver", ["psycopg2", "server-side"])
def test_triggers_are_told_who_acts_with_each_driver(driver: str):
    """L8"""
    if driver == "psycopg2" and find_spec("psycopg2") is None:
        missing("psycopg2 is not installed.")
    others = (*MESSAGES, COMPOSED) if driver == "psycopg2" else MESSAGES
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        "AUDIT_LOG_TEST_RUN": f"{RUN}_{os.getpid()}_{driver.partition('-')[0]}",
        "AUDIT_LOG_TEST_DRIVER": driver,
    }
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            "--ds=tests.triggers.driver_settings",
            *(f"--deselect=tests/triggers/test_surroundings.py::{name}" for name in others),
            *(str(HERE / f"test_{name}.py") for name in ("surroundings", "capture", "tasks")),
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"{len(others)} deselected" in ended.stdout
    assert "skipped" not in ended.stdout
