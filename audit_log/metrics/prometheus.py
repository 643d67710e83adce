"""Metrics for Prometheus. The only module that imports prometheus_client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from audit_log.metrics import KINDS, Kind, samples

_PREFIX: Final = "audit_log_"


class Collector:
    """Asks for the numbers when it is scraped."""

    def collect(self) -> Iterator[Any]:
        """As prometheus_client asks for it."""
        found = samples()
        return (_family(kind, found[kind.name]) for kind in KINDS if kind.name in found)

    def describe(self) -> list[Any]:
        """Nothing: to be registered asks no database."""
        return []


def register(registry: Any = REGISTRY) -> Collector:
    """Let `registry` collect the log's numbers."""
    collector = Collector()
    registry.register(collector)
    return collector


def _family(kind: Kind, numbers: Mapping[str, float]) -> Any:
    make = CounterMetricFamily if kind.is_counter else GaugeMetricFamily
    family = make(_PREFIX + kind.name, kind.meaning, labels=[kind.label] if kind.label else [])
    for value, number in numbers.items():
        family.add_metric([value] if kind.label else [], number)
    return family
