from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db.models import Count, Max, Min

from audit_log.delivery.relay import relay
from audit_log.ledger.verification import verify
from audit_log.models import Outbox, Record
from audit_log.privacy import data_keys
from tests.faults.forks import Forks, forks
from tests.faults.workers import wait_until


@pytest.fixture
def environment(process_environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """For processes of the test's own, with a spool of their own."""
    return {
        **process_environment,
        "DJANGO_SETTINGS_MODULE": "tests.faults.settings",
        "FAULTS_SPOOL_DIR": str(tmp_path / "spool"),
    }


@pytest.fixture
def spool_dir(settings: Any, tmp_path: Path) -> Path:
    """The same spool for the test's own process."""
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "SPOOL_DIR": str(tmp_path / "spool")}
    return tmp_path / "spool"


@pytest.fixture
def workers(environment: dict[str, str], spool_dir: Path) -> Iterator[Forks]:
    with forks(environment) as handle:
        yield handle


@pytest.fixture
def settle(spool_dir: Path) -> Callable[[], None]:
    """Relay all, then see that nothing is left, the numbers have no gap and the ledger holds."""

    def check() -> None:
        wait_until(_emptied, "the outbox still holds batches")
        for stream in Record.objects.values("stream").annotate(
            first=Min("sequence"), last=Max("sequence"), count=Count("id")
        ):
            assert stream["first"] == 0
            assert stream["last"] == stream["count"] - 1
        data_keys.forget()
        verified = verify()
        assert verified.findings == []

    return check


def _emptied() -> bool:
    # More than once: a server may notice a killed client late, and a relay passes over the rows
    # that it still has locked.
    relay()
    return not Outbox.objects.exists()


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Put figures into the report, and on the screen with `-s`."""

    def note(text: str) -> None:
        record_property("measured", text)
        sys.stdout.write(f"{text}\n")

    return note
