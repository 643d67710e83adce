from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def spool_dir(settings: Any, tmp_path: Path) -> Path:
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "SPOOL_DIR": str(tmp_path / "spool")}
    return tmp_path / "spool"
