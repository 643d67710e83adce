"""What an operator's dashboards show is what `status` says."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import OperationalError
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from audit_log import health, metrics
from audit_log.delivery.relay import relay
from audit_log.metrics import opentelemetry, prometheus
from audit_log.models import Outbox
from audit_log.recording import losses
from tests.shop.models import Category

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    metrics.forget()
    yield
    metrics.forget()


def _scraped() -> dict[tuple[str, str], float]:
    """What Prometheus reads, by name and the value of the label."""
    registry = CollectorRegistry()
    prometheus.register(registry)
    text = generate_latest(registry).decode()
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _read() -> dict[tuple[str, str], float]:
    """What OpenTelemetry reads, under the names that Prometheus would give."""
    reader = InMemoryMetricReader()
    opentelemetry.register(MeterProvider([reader]).get_meter("tests"))
    data: Any = reader.get_metrics_data()
    counters = {kind.name.removesuffix("_total"): kind.name for kind in metrics.KINDS}
    return {
        (
            "audit_log_" + counters[metric.name.removeprefix("audit_log.")],
            str(next(iter(point.attributes.values()), "")),
        ): point.value
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }


def _settled(found: dict[tuple[str, str], float]) -> dict[tuple[str, str], float]:
    """Without ages, which are others a moment later."""
    return {key: value for key, value in found.items() if not key[0].endswith("_seconds")}


def test_numbers_are_those_of_status():
    Category.objects.create(name="stored")
    relay()
    Category.objects.create(name="parked")
    Outbox.objects.update(parked_at=datetime.now(UTC), parked_reason="why")
    Category.objects.using("other").create(name="waits")
    old = datetime.now(UTC) - timedelta(seconds=100)
    Outbox.objects.using("other").update(created_at=old)
    losses.count("test_metrics", 3)
    found, said = _scraped(), health.measure_everywhere()
    assert found["audit_log_up", ""] == 1
    assert found["audit_log_outbox_batches", ""] == said.outbox_batches == 1
    assert found["audit_log_outbox_events", ""] == said.outbox_events == 1
    assert found["audit_log_outbox_oldest_seconds", ""] >= 100
    assert found["audit_log_parked", ""] == said.parked == 1
    sizes = {stream.name: stream.size for stream in said.streams}
    assert sizes["default"] == 1
    assert {k: v for (n, k), v in found.items() if n == "audit_log_records"} == sizes
    assert found["audit_log_lost_total", "test_metrics"] == 3
    assert _settled(_read()) == _settled(found)


def test_relays_are_counted():
    before = _scraped()
    for name in "abc":
        Category.objects.create(name=name)
    relay()
    after = _scraped()
    grown = {
        name: after[f"audit_log_relayed_{name}_total", ""]
        - before[f"audit_log_relayed_{name}_total", ""]
        for name in ("batches", "events", "seconds")
    }
    assert (grown["batches"], grown["events"]) == (3, 3)
    assert grown["seconds"] > 0


def test_every_kind_is_there():
    Category.objects.create(name="a")
    relay()
    assert {kind.name for kind in metrics.KINDS} == set(metrics.samples())
    assert all(kind.is_counter == kind.name.endswith("_total") for kind in metrics.KINDS)


def test_databases_are_asked_now_and_then(django_assert_num_queries: Any):
    _scraped()
    with django_assert_num_queries(0):
        _scraped()


def test_database_that_does_not_answer_takes_no_scrape_down(monkeypatch: pytest.MonkeyPatch):
    def down() -> None:
        raise OperationalError("gone")

    monkeypatch.setattr(health, "measure_everywhere", down)
    found = _scraped()
    assert found["audit_log_up", ""] == 0
    assert ("audit_log_parked", "") not in found
    assert ("audit_log_relayed_events_total", "") in found


def test_to_register_asks_no_database(django_assert_num_queries: Any):
    with django_assert_num_queries(0):
        prometheus.register(CollectorRegistry())
