from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from audit_log.delivery.relay import relay
from audit_log.models import Outbox
from audit_log.privacy import data_keys
from audit_log.recording import losses


@pytest.fixture(autouse=True)
def apart(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has its own spool, its own keys and its own first warning."""
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "SPOOL_DIR": str(tmp_path / "spool")}
    monkeypatch.setattr(losses, "_warned", {})
    data_keys.forget()


@pytest.fixture
def try_again() -> Callable[[], None]:
    """Let what waits for its next attempt have it now."""

    def now() -> None:
        Outbox.objects.update(next_attempt_at=datetime.now(UTC))
        relay()

    return now
