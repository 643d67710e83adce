"""Separation of duties at the bank: who works with the data, who sees the log, who opens it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent.parent
SEES = {"list": 200, "record": 200, "target": 200, "alerts": 200, "admin": 200}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("BANK_", "DATABASE_URL"))},
        "DJANGO_SETTINGS_MODULE": "example_project.settings",
        "BANK_VAR_DIR": str(tmp_path_factory.mktemp("bank")),
        "ALLOWED_HOSTS": "testserver",
        "LOG_LEVEL": "CRITICAL",
    }
    ended = subprocess.run(
        [sys.executable, "-m", "tests.flows.separation"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    answers: dict[str, Any] = json.loads(ended.stdout)
    return answers


def noted(found: dict[str, Any], actor: str | None, outcome: str) -> set[tuple[str, str | None]]:
    rows = found["noted"]
    return {
        (row["action"], row["what"])
        for row in rows
        if (row["actor"], row["outcome"]) == (actor, outcome)
    }


def test_teller_sees_nothing_of_the_log_and_every_attempt_is_on_record(found):
    """tenant_read."""
    refused = dict.fromkeys(SEES, 403)
    # The admin asks whoever is no member of staff to log in as somebody who is.
    assert found["answers"]["teller1"] == {**refused, "admin": 302, "contents": 403}
    assert noted(found, "teller1", "denied") == {
        ("audit_log.viewed", what)
        for what in ("records", "record", "history", "alerts", "contents")
    }
    assert noted(found, "teller1", "success") == set()


def test_auditor_sees_the_log_and_opens_nothing(found):
    assert found["answers"]["auditor1"] == {**SEES, "contents": 403}
    assert ("audit_log.viewed", "records") in noted(found, "auditor1", "success")
    assert noted(found, "auditor1", "denied") == {("audit_log.viewed", "contents")}


def test_compliance_opens_it_on_record(found):
    assert found["answers"]["compliance1"] == {**SEES, "contents": 200}
    assert ("audit_log.revealed", None) in noted(found, "compliance1", "success")
    assert noted(found, "compliance1", "denied") == set()


def test_nobody_is_challenged(found):
    assert found["answers"]["nobody"] == {**dict.fromkeys(SEES, 401), "admin": 302}
    assert ("audit_log.viewed", "records") in noted(found, None, "denied")


def test_auditor_finds_the_payments_of_the_day(found):
    rows = found["listed"]["results"]
    assert len(rows) == 2
    assert {row["target"]["type"] for row in rows} == {"bank.payment"}
    assert all("amount" in row["changes"] for row in rows)
