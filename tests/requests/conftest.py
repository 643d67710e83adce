from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db.backends.utils import CursorWrapper

from audit_log.events import Event
from audit_log.testing import capture_events

PASSWORD = "correct horse"


@pytest.fixture
def events(db: None) -> Iterator[list[Event]]:
    """Everything captured during the test, requests included: nothing commits under `db`."""
    with capture_events() as found:
        yield found


@pytest.fixture
def anna(db: None) -> User:
    return User.objects.create_user("anna", "anna@example.com", PASSWORD)


@pytest.fixture
def bert(db: None) -> User:
    return User.objects.create_user("bert", "bert@example.com", PASSWORD, is_staff=True)


@pytest.fixture
def only(events: list[Event]) -> Callable[..., list[Event]]:
    """The events with one of these actions."""

    def select(*actions: str) -> list[Event]:
        return [event for event in events if event.action in actions]

    return select


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every statement that Django's cursors really execute, ours too, logged or not."""
    found: list[str] = []
    execute = CursorWrapper.execute

    def spy(self: CursorWrapper, sql: Any, params: Any = None) -> Any:
        found.append(str(sql))
        return execute(self, sql, params)

    monkeypatch.setattr(CursorWrapper, "execute", spy)
    return found
