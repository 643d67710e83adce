from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connections, models

from audit_log import conf, registry
from audit_log.capture.triggers import installing
from audit_log.capture.triggers.watched import automatic_tables
from audit_log.models import Outbox


@pytest.fixture(autouse=True)
def _on_postgres(request: pytest.FixtureRequest) -> None:
    if connections["default"].vendor != "postgresql":
        pytest.skip("Triggers capture on PostgreSQL only.")


@pytest.fixture
def triggers(transactional_db: None) -> Iterator[Callable[..., None]]:
    """Captures models by triggers until the test is over: `triggers(Product, open=["name"])`."""
    held = dict(registry._registered)

    def capture(*wanted: type[models.Model], **options: Any) -> None:
        for model in wanted:
            registry.register(model, capture="triggers", **options)
        tables = [each for model in wanted for each in (model, *automatic_tables(model))]
        installing.install("default", tables)
        Outbox.objects.all().delete()

    yield capture
    connections["default"].close()  # whatever a test left open
    registry._registered.clear()
    registry._registered.update(held)
    conf.forget()
    installing.remove("default")
