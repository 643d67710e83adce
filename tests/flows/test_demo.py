"""`make demo`, as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.settings import DATABASE

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.slow
@pytest.mark.skipif(DATABASE != "sqlite", reason="the demo always runs on SQLite: once is enough")
def test_the_demo_keeps_every_promise_and_says_so_in_json() -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("BANK_", "DJANGO_"))}
    ended = subprocess.run(
        [sys.executable, "-m", "example_project.demo", "--once", "--json", "--rounds", "3"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,  # a bound for what hangs
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    figures = json.loads(ended.stdout.splitlines()[-1])
    assert figures["events"] == figures["tree_size"] > 13_000
    assert figures["records"] == figures["tree_size"] - figures["purged_records"] > 100
    assert figures["archived_records"] == figures["history_events"] > 13_000
    assert figures["archived_parts"] > 250
    assert figures["archived_bytes"] > 0
    assert figures["purged_records"] > 10_000
    assert figures["rows_after"] < figures["rows_before"]
    assert figures["bytes_after"] < figures["bytes_before"]
    assert figures["brake_held"] is True
    assert figures["verified_before_purge"] is True
    assert figures["verified_after_purge"] is True
    assert figures["changes_recorded"] == figures["changes_committed"] > 50
    assert figures["outbox_left"] == 0
    assert figures["verified"] is True
    assert figures["secrets_found"] == 0
    assert figures["masked"] > 0
    assert figures["sealed"] > 0
    assert figures["requests"] > 50
    assert figures["transactions"] > 0
    assert len(figures["root"]) == 64
    assert figures["seconds"] > 0
