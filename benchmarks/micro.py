"""Microseconds of each step of an event's way that needs no database.

`python -m benchmarks.micro` prints a table. The steps take turns, so that a busy moment hits all
alike; each turn is a loop of some milliseconds, and the figures are the median and the 95th
percentile of the loops' means. The time is that of the processor (`time.process_time`): nothing
here waits, and what other processes take is not ours.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from benchmarks.micro_cases import Case

_ENVIRONMENT: Final = {
    "DJANGO_SETTINGS_MODULE": "benchmarks.relay_settings",
    "AUDIT_LOG_BENCH_DB": "sqlite",
    "AUDIT_LOG_BENCH_NAME": ":memory:",
}
_TURNS: Final = {True: 15, False: 60}
_LOOP_SECONDS: Final = {True: 0.005, False: 0.02}


def measure(*, quick: bool) -> list[dict[str, Any]]:
    """`{"name", "unit", "median_us", "p95_us", "aim_us"}` for each step; an aim may be None.

    In a process of its own, with settings of its own.
    """
    printed = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-m", "benchmarks.micro", "--json", *(["--quick"] if quick else [])],
        check=True,
        env={**os.environ, **_ENVIRONMENT},
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    rows: list[dict[str, Any]] = json.loads(printed)
    return rows


def _measured(*, quick: bool) -> list[dict[str, Any]]:
    import django  # noqa: PLC0415 - and models only after its setup

    django.setup()
    from benchmarks.micro_cases import CASES  # noqa: PLC0415

    numbers = [_calibrated(case, _LOOP_SECONDS[quick]) for case in CASES]
    turns: list[list[float]] = [[] for _ in CASES]
    for _ in range(_TURNS[quick]):
        for case, number, times in zip(CASES, numbers, turns, strict=True):
            times.append(_loop(case, number) / number * 1e6)
    return [_row(case, times) for case, times in zip(CASES, turns, strict=True)]


def _calibrated(case: Case, seconds: float) -> int:
    """How many calls take so long. Also the warming up."""
    number = 1
    while _loop(case, number) < seconds:
        number *= 2
    return number


def _loop(case: Case, number: int) -> float:
    """Seconds of so many calls. No garbage is collected in between, as in `timeit`."""
    with case.prepare() as call:
        gc.collect()
        gc.disable()
        try:
            began = time.process_time()
            for _ in range(number):
                call()
            return time.process_time() - began
        finally:
            gc.enable()


def _row(case: Case, times: list[float]) -> dict[str, Any]:
    return {
        "name": case.name,
        "unit": case.unit,
        "median_us": round(statistics.median(times), 2),
        "p95_us": round(statistics.quantiles(times, n=20)[-1], 2),
        "aim_us": case.aim_us,
    }


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table."""
    print(f"{'step':18} {'for':20} {'median µs':>10} {'p95 µs':>10} {'aim µs':>8}")
    for row in rows:
        aim = "" if row["aim_us"] is None else f"{row['aim_us']:.0f}"
        print(
            f"{row['name']:18} {row['unit']:20} {row['median_us']:10.2f} {row['p95_us']:10.2f} "
            f"{aim:>8}"
        )


def main() -> None:
    """Print the table, or JSON for `measure`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter loops")
    parser.add_argument("--json", action="store_true", help="measure here, and print JSON")
    options = parser.parse_args()
    if options.json:
        print(json.dumps(_measured(quick=options.quick)))
    else:
        show(measure(quick=options.quick))


if __name__ == "__main__":
    main()
