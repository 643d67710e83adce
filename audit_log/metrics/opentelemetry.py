"""Metrics for OpenTelemetry: observable instruments, asked when they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from audit_log.metrics import KINDS, Kind, samples

_PREFIX: Final = "audit_log."


def register(meter: Any = None) -> None:
    """Make the log's instruments, by `meter` or one of the global provider's."""
    meter = meter or metrics.get_meter("audit_log")
    for kind in KINDS:
        make = meter.create_observable_counter if kind.is_counter else meter.create_observable_gauge
        name = _PREFIX + kind.name.removesuffix("_total")
        make(name, [_asking(kind)], description=kind.meaning)


def _asking(kind: Kind) -> Callable[[CallbackOptions], Iterator[Observation]]:
    def observe(_options: CallbackOptions) -> Iterator[Observation]:
        for value, number in samples().get(kind.name, {}).items():
            yield Observation(number, {kind.label: value} if kind.label else {})

    return observe
