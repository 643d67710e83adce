from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from audit_log.events import Event
from audit_log.testing import capture_events
from tests.shop.models import Category, Product


@pytest.fixture(autouse=True)
def _read_urls(settings: Any) -> None:
    settings.ROOT_URLCONF = "tests.reads.urls"


@pytest.fixture
def lamp(request: pytest.FixtureRequest) -> Product:
    """A product; its creation is not among the events."""
    request.getfixturevalue(
        "transactional_db" if "transactional_db" in request.fixturenames else "db"
    )
    return Product.objects.create(name="lamp", category=Category.objects.create(name="lights"))


@pytest.fixture
def events(lamp: Product) -> Iterator[list[Event]]:
    """Everything captured since, requests included."""
    with capture_events() as found:
        yield found


@pytest.fixture
def views(events: list[Event]) -> Callable[[], list[Event]]:
    """The `view` events so far."""
    return lambda: [event for event in events if event.action == "view"]
