"""audit_log.started, audit_log.stopped, and having been off."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from audit_log.events import Event
from audit_log.recording import buffer, lifecycle, nudge
from tests import settings as tests_settings

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, spool_dir: Path) -> list[Event]:
    """What a process that is no test run says about itself."""
    events: list[Event] = []
    monkeypatch.setattr(nudge, "in_test_environment", lambda: False)
    monkeypatch.setattr(nudge, "is_running", lambda: True)
    monkeypatch.setattr(buffer, "enqueue", events.append)
    monkeypatch.setattr(lifecycle, "_process", lifecycle._Process())
    return events


def test_process_says_once_that_it_records_and_that_it_stops(said: list[Event]):
    lifecycle._start()
    lifecycle._start()
    lifecycle._stop()
    started, stopped = said
    assert (started.action, stopped.action) == ("audit_log.started", "audit_log.stopped")
    assert started.actor is not None
    assert started.actor.type == "system"
    assert started.source == "explicit"
    data = started.data or {}
    assert sorted(data) == ["enabled_since", "fingerprint", "version"]
    assert re.fullmatch(r"[0-9a-f]{64}", data["fingerprint"])
    assert data["enabled_since"].endswith("Z")
    assert started.sealed == ()


def test_process_that_ends_before_its_first_round_says_both(said: list[Event]):
    lifecycle._stop()
    assert [event.action for event in said] == ["audit_log.started", "audit_log.stopped"]


def test_process_without_anything_to_record_says_nothing(
    said: list[Event], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(nudge, "is_running", lambda: False)
    lifecycle._stop()
    assert said == []


def test_tests_say_nothing(said: list[Event], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(nudge, "in_test_environment", lambda: True)
    lifecycle._start()
    lifecycle._stop()
    assert said == []


def test_forked_child_is_a_process_of_its_own(said: list[Event]):
    lifecycle._start()
    pid = os.fork()
    if not pid:
        os._exit(1 if lifecycle._process.has_started else 7)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 7


def test_fingerprint_changes_with_the_settings_but_not_with_the_keys(settings: Any):
    base = settings.AUDIT_LOG
    first = lifecycle.fingerprint()
    settings.AUDIT_LOG = {**base, "ENCRYPTION_KEYS": {}, "REQUESTS": "all"}
    other = lifecycle.fingerprint()
    assert other != first
    settings.AUDIT_LOG = {
        **base,
        "SIGNING_KEY": tests_settings.AUDIT_LOG["ENCRYPTION_KEYS"]["test"],
    }
    assert lifecycle.fingerprint() == first
    settings.AUDIT_LOG = {
        **base,
        "TENANT": lifecycle.fingerprint,
        "TRUSTED_PROXIES": ["10.0.0.0/8"],
    }
    odd = lifecycle.fingerprint()
    assert odd == lifecycle.fingerprint() != first


def _process(spool_dir: Path, *, enabled: bool, before: str = "") -> None:
    script = (
        f"{before}\n"
        "import django\n"
        "from django.conf import settings\n"
        "from tests import settings as base\n"
        f"audit = {{**base.AUDIT_LOG, 'ENABLED': {enabled}, 'SPOOL_DIR': {str(spool_dir)!r}}}\n"
        "names = {n: getattr(base, n) for n in dir(base) if n.isupper()}\n"
        "settings.configure(**{**names, 'AUDIT_LOG': audit})\n"
        "django.setup()\n"
        "from audit_log.recording import lifecycle\n"
        "lifecycle.note_disabled()\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, timeout=300)


def test_next_start_says_that_it_was_off(said: list[Event], spool_dir: Path):
    """L10."""
    _process(spool_dir, enabled=False)
    marker = spool_dir / "disabled-since"
    first = marker.read_text()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", first)
    assert marker.stat().st_mode & 0o777 == 0o600
    _process(spool_dir, enabled=False)
    assert marker.read_text() == first  # the first of them counts
    lifecycle._start()
    assert (said[0].data or {})["was_off_since"] == first
    assert not marker.exists()


def test_test_runs_leave_no_word_that_they_were_off(spool_dir: Path):
    """L4."""
    _process(spool_dir, enabled=False, before="import django.test.utils")
    assert not spool_dir.exists()


def test_marker_that_cannot_be_read_stops_nothing(said: list[Event], spool_dir: Path):
    (spool_dir / "disabled-since").mkdir(parents=True)
    lifecycle._start()
    assert "was_off_since" not in (said[0].data or {})
