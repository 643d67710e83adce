from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connections

from audit_log import testing
from audit_log.events import Event


@pytest.fixture
def events() -> Iterator[list[Event]]:
    """What was captured so far, without what was rolled back."""
    with testing.capture_events() as captured:
        yield captured


@pytest.fixture
def on_postgres(request: pytest.FixtureRequest) -> None:
    if connections["default"].vendor != "postgresql":
        pytest.skip("Only PostgreSQL gives up a transaction after an error.")
