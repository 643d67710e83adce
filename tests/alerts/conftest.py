from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from audit_log import testing
from audit_log.alerts.evaluation import evaluate
from audit_log.events import Actor, Event, emitter
from audit_log.models import Alert
from audit_log.recording import losses
from tests.ledger.building import an_event, write

RULE: dict[str, Any] = {
    "name": "many_deletes",
    "match": {"action": "delete", "actor_type": "admin"},
    "measure": "sum(affected)",
    "threshold": 100,
    "window": "5m",
    "group_by": "actor_id",
    "channels": ["log"],
}


@pytest.fixture(autouse=True)
def _apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "_warned", {})


@pytest.fixture
def rules(settings: Any) -> Callable[..., None]:
    """Puts these rules in force: dicts over RULE."""

    def use(*given: dict[str, Any]) -> None:
        alerts = [{**RULE, "name": f"rule{n}", **rule} for n, rule in enumerate(given)]
        settings.AUDIT_LOG = {**settings.AUDIT_LOG, "ALERTS": alerts}

    return use


@pytest.fixture
def rule(rules: Callable[..., None]) -> Callable[..., None]:
    """Puts one rule in force: RULE, but for what is given."""

    def use(**options: Any) -> None:
        rules({"name": "many_deletes", **options})

    return use


@pytest.fixture
def start(db: None) -> datetime:
    """A moment from which tests count their seconds: what happened then is recorded now."""
    return datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=30)


@pytest.fixture
def happened(start: datetime) -> Callable[..., None]:
    """Stores one record for each of these seconds after `start`."""

    def store(seconds: Iterable[float], stream: str = "default", **values: Any) -> None:
        write([_event(start + timedelta(seconds=at), **values) for at in seconds], stream)

    return store


def _event(moment: datetime, actor_id: str | None = "7", **values: Any) -> Event:
    least: dict[str, Any] = {"action": "delete", "actor": Actor("admin", actor_id)}
    stamp = {"id": emitter().id_for(moment), "occurred_at": moment}
    return an_event(**{**least, **stamp, **values})


@pytest.fixture
def fired(start: datetime) -> Callable[[], list[tuple[str, int, float]]]:
    """Evaluates. Every alert so far: (group, measured, seconds after `start` that it begins)."""

    def look() -> list[tuple[str, int, float]]:
        before = Alert.objects.count()
        assert evaluate() == Alert.objects.count() - before
        return [
            (alert.group, alert.measured, (alert.window_start - start).total_seconds())
            for alert in Alert.objects.order_by("pk")
        ]

    return look


@pytest.fixture
def relay_and_evaluate() -> Callable[[], int]:
    def call() -> int:
        testing.relay()
        return evaluate()

    return call
