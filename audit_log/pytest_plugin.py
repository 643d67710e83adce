"""Fixtures for the tests of projects that use us; pytest finds them by itself.

Every pytest run where the distribution is installed imports this module, so it imports no Django.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from audit_log.events import Event


@pytest.fixture
def audit_events() -> Iterator[list[Event]]:
    """The events captured during the test (`audit_log.testing.capture_events`)."""
    from audit_log import testing  # noqa: PLC0415 - see above

    with testing.capture_events() as events:
        yield events


@pytest.fixture
def assert_audited(audit_events: list[Event]) -> Callable[..., Event]:
    """`assert_audited("update", payment, amount=(1, 2))` on the events captured so far.

    See `audit_log.testing.assert_audited`.
    """
    from audit_log import testing  # noqa: PLC0415 - see above

    return partial(testing.assert_audited, audit_events)
