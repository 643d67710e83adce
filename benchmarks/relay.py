"""Events per second of the relay, beside the bare COPY or INSERT of the same rows.

`python -m benchmarks.relay` prints a table for one and two relay processes on PostgreSQL, MariaDB
and SQLite, and where the time of a batch goes. Every database is the benchmark's own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from tests.databases import empty_database
from tests.services import trouble

DATABASES: Final = ("postgres", "mysql", "sqlite")
# What years of a busy project leave: into as many records the relay is measured as well.
LARGE: Final = {"postgres": 10_000_000, "mysql": 1_000_000, "sqlite": 1_000_000}
_SIZES: Final = {
    False: ("--rounds", "5", "--events", "10000"),
    True: ("--rounds", "2", "--events", "3000"),
}


def measure(
    *,
    quick: bool,
    databases: Sequence[str] = DATABASES,
    workers: Sequence[int] = (1, 2),
    records: int | None = None,
    keep: bool = False,
) -> list[dict[str, Any]]:
    """A row for each database and number of workers; databases that do not answer have none.

    `records_in_table`, `events_per_second`, `bare_per_second`, `ratio`, `floor` (the ratio of rows
    that are ready: benchmarks/relaying/floor.py), `memory_mib` (the peak of one process) and, with
    one worker, `stages`: {name: {"us": per event, "share": of all}}. `records` fills the table
    first; without it both an empty table and, unless `quick`, one of LARGE records are measured.
    `keep` leaves the database behind.
    """
    rows: list[dict[str, Any]] = []
    for database in databases:
        if database != "sqlite" and (reason := trouble(database)) is not None:
            print(f"{database} is left out: {reason}", file=sys.stderr)
            continue
        default = (0,) if quick else (0, LARGE[database])
        for size in default if records is None else (records,):
            options = [*_SIZES[quick], "--records", str(size), "--workers", *map(str, workers)]
            rows += _measured(database, options, keep=keep)
    return rows


def _measured(database: str, options: Sequence[str], *, keep: bool) -> list[dict[str, Any]]:
    name = f"audit_log_bench_{os.getpid()}"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        made = stack.enter_context(empty_database(database, name, folder))
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "benchmarks.relay_settings",
            "AUDIT_LOG_BENCH_DB": database,
            "AUDIT_LOG_BENCH_NAME": made,
        }
        printed = subprocess.run(  # noqa: S603 - our own code
            [sys.executable, "-m", "benchmarks.relaying.rounds", database, *options],
            check=True,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout
        if keep:
            stack.pop_all()
            print(f"Kept: {database}, {made}", file=sys.stderr)
    return [json.loads(line) for line in printed.splitlines()]


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print the rates, then the stages."""
    print(
        f"{'database':9} {'workers':>7} {'records':>10} {'events/s':>9} {'bare/s':>8} "
        f"{'ratio':>6} {'floor':>6} {'MiB':>5}"
    )
    for row in rows:
        print(
            f"{row['database']:9} {row['workers']:7} {row['records_in_table']:10} "
            f"{row['events_per_second']:9.0f} {row['bare_per_second']:8.0f} {row['ratio']:6.2f} "
            f"{row['floor']:6.2f} {row['memory_mib']:5.0f}   {row['rates']} "
            f"floor {row['floor_rates']} bare {row['bare_rates']}"
        )
    for row in rows:
        if row["stages"]:
            print(f"\n{row['database']}: microseconds an event, one worker")
            for name, stage in row["stages"].items():
                print(f"  {name:16} {stage['us']:7.1f} {stage['share']:6.1%}")
            print(f"  {'':16} {sum(s['us'] for s in row['stages'].values()):7.1f}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", choices=DATABASES, action="append")
    parser.add_argument("--workers", type=int, action="append")
    parser.add_argument("--records", type=int, default=0, help="fill the table first")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller rounds")
    parser.add_argument("--keep-table", action="store_true", help="do not drop the database")
    options = parser.parse_args()
    rows = measure(
        quick=options.quick,
        databases=options.database or DATABASES,
        workers=options.workers or (1, 2),
        records=options.records,
        keep=options.keep_table,
    )
    show(rows)


if __name__ == "__main__":
    main()
