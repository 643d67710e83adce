"""The writing process of `benchmarks.latency`: creates rows at a steady rate.

Told `<events per second> <seconds> <events per transaction>` on stdin, it answers with a line of
JSON: `{"seconds", "commits": [[key of the row, nanoseconds]]}`, the moment being that of
CLOCK_MONOTONIC, which all processes of a machine share, right after COMMIT returned.
"""

from __future__ import annotations

import json
import random
import sys
import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import django
from django.db import transaction

import audit_log

if TYPE_CHECKING:
    from benchmarks.workload.models import Order


def main() -> None:
    """Answer until the input ends."""
    django.setup()
    from benchmarks import latency_app  # noqa: F401, PLC0415 - so that there is an app to nudge

    print("ready", flush=True)
    for line in sys.stdin:
        rate, seconds, size = map(int, line.split())
        print(json.dumps(_written(rate, seconds, size)), flush=True)


def _written(rate: int, seconds: int, size: int) -> dict[str, Any]:
    """One transaction in each `size / rate` seconds; one that is late is followed at once.

    At a random moment of them: a steady beat would fall into step with the nudge thread's.
    """
    chance = random.Random(rate)  # noqa: S311 - the same moments in every run
    commits: list[tuple[int, int]] = []
    began = time.monotonic()
    for n in range(max(1, rate * seconds // size)):
        due = began + (n + chance.random()) * size / rate
        time.sleep(max(0.0, due - time.monotonic()))
        commits.append(_commit(size))
        if time.monotonic() - began > seconds:
            break  # it cannot keep up: the rate it had is told
    return {"seconds": time.monotonic() - began, "commits": commits}


def _commit(size: int) -> tuple[int, int]:
    """A save; with more than one event, a transaction of a save and what else is to be said."""
    if size == 1:
        return _order().pk, time.monotonic_ns()
    with transaction.atomic():
        order = _order()
        for n in range(size - 1):
            audit_log.record("order.line_added", target=order, data={"sku": f"A-{n}", "count": 2})
    return order.pk, time.monotonic_ns()


def _order() -> Order:
    from benchmarks.workload.models import Order  # noqa: PLC0415 - after the setup

    return Order.objects.create(
        number="2026-00007",
        customer="Ada Byron",
        email="ada@example.com",
        status="new",
        note="Please deliver to the back door between eight and ten.",
        amount=Decimal("19.99"),
        placed_at=datetime.now(UTC),
        details={"lines": [{"sku": "A-7", "count": 2}]},
    )


if __name__ == "__main__":
    main()
