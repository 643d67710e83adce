from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from audit_log import testing
from audit_log.events import Event


@pytest.fixture
def events() -> Iterator[list[Event]]:
    """What was captured so far, without what was rolled back."""
    with testing.capture_events() as captured:
        yield captured


@pytest.fixture
def spool_dir(settings: Any, tmp_path: Path) -> Path:
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "SPOOL_DIR": str(tmp_path / "spool")}
    return tmp_path / "spool"
