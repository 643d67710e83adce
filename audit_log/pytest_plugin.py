"""Fixtures for the tests of projects that use us; pytest finds them by itself.

Every pytest run where the distribution is installed imports this module, so it imports no Django.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

    from audit_log.events import Event
    from audit_log.testing.leaks import Watch


@pytest.fixture
def audit_events() -> Iterator[list[Event]]:
    """The events captured during the test (`audit_log.testing.capture_events`).

    They are there as soon as something is saved, though the test's transaction never commits.
    """
    with _testing().capture_events() as events:
        yield events


@pytest.fixture
def assert_audited(audit_events: list[Event]) -> Callable[..., Event]:
    """`assert_audited("update", payment, amount=(1, 2))` on the events captured so far.

    Or `assert_audited("payments.payment", "update", pk=7)`. See `audit_log.testing.assert_audited`.
    """
    return partial(_testing().assert_audited, audit_events)


@pytest.fixture
def audit_leaks(request: pytest.FixtureRequest) -> Iterator[Watch]:
    """Secrets for the test, which must be nowhere in the log (`audit_log.testing.leaks.watch`).

    Where secrets were made, the end of the test asserts it, unless the test has.
    """
    testing = _testing()
    with suppress(pytest.FixtureLookupError):  # without pytest-django
        request.getfixturevalue("db")  # it is there until we have looked into it
    with testing.leaks.watch() as watch:
        yield watch
        watch.asked |= not watch.secrets


def _testing() -> ModuleType:
    """`audit_log.testing`, where Django is set up and the app installed; else the test fails."""
    from django.apps import apps  # noqa: PLC0415 - see above

    if not apps.ready:
        pytest.fail(
            "audit_events: Django is not set up (with pytest-django, it is).", pytrace=False
        )
    if not apps.is_installed("audit_log"):
        pytest.fail("audit_events: audit_log is not in INSTALLED_APPS.", pytrace=False)
    from audit_log import testing  # noqa: PLC0415 - see above

    return testing
