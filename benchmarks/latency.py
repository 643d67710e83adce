"""From COMMIT to the visible record, at 10, 100 and 1,000 events per second.

`python -m benchmarks.latency` prints a table. Everything is real and the run's own: a writing
process, a Celery worker of two processes and a beat on Redis, a database on PostgreSQL.

A commit's moment is taken in the writer when COMMIT has returned. Visibility is polled on a
connection of its own: the size in the stream's head row, which is committed with the records it
numbers, every 2 ms; one row by its key disturbs nobody. So a figure is too large by at most one
poll (2 ms and a round trip), and never too small. Which record is which is read afterwards.

What to expect: a lone commit waits for the nudge thread to gather 100 ms of commits, then for a
message by a fresh connection to Redis, for the worker to take it, and for one claim of the relay.
Of a steady stream each event finds the thread somewhere within its 100 ms, or a relay at work. A
nudge that was lost would show as up to 5 s, beat's sweep. With 1,000 events per second ten share a
transaction, a save and nine events that the project records itself: one process neither commits
nor saves a thousand times a second on most machines.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from itertools import pairwise
from typing import Any, Final

from benchmarks import progress
from benchmarks.latency_project import Stuck, connected, has_said, line_of, project, send, writing
from tests import services

RATES: Final = {10: 1, 100: 1, 1_000: 10}  # events per second: events per transaction
_SECONDS: Final = {True: {10: 4, 100: 3, 1_000: 3}, False: {10: 60, 100: 30, 1_000: 30}}
_POLL_SECONDS: Final = 0.002
_PATIENCE_SECONDS: Final = 60.0
_SIZE: Final = "SELECT size FROM audit_log_stream WHERE name = 'default'"
_PLACES: Final = (
    "SELECT target_id::bigint, sequence FROM audit_log_record "
    "WHERE stream = 'default' AND target_type = 'workload.order' AND sequence >= %s"
)


def measure(*, quick: bool) -> list[dict[str, Any]]:
    """A row for each rate; none where a server is missing.

    `events_per_second` (asked for), `achieved_per_second`, `median_ms`, `p99_ms`, `database`,
    `broker`, `events_per_commit` and `events`, the number of them.
    Raises Stuck when records are not there a minute after their COMMIT.
    """
    for service in ("postgres", "redis"):
        if (reason := services.trouble(service)) is not None:
            print(f"No latency: {reason}", file=sys.stderr)
            return []
    with project() as (name, environment), writing(environment) as writer, connected(name) as db:
        _measured(writer, db, 10, 2)  # whatever is made at first use
        return [_row(writer, db, rate, _SECONDS[quick][rate]) for rate in RATES]


def _row(writer: subprocess.Popen[str], db: Any, rate: int, seconds: int) -> dict[str, Any]:
    progress.show(f"latency at {rate} events per second")
    took, latencies = _measured(writer, db, rate, seconds)
    return {
        "events_per_second": rate,
        "achieved_per_second": round(len(latencies) / took),
        "median_ms": round(statistics.median(latencies), 1),
        "p99_ms": round(statistics.quantiles(latencies, n=100, method="inclusive")[-1], 1),
        "database": "postgres",
        "broker": "redis",
        "events_per_commit": RATES[rate],
        "events": len(latencies),
    }


def _measured(
    writer: subprocess.Popen[str], db: Any, rate: int, seconds: int
) -> tuple[float, list[float]]:
    """How long the writing took, and the milliseconds of each event."""
    start = _size(db)
    send(writer, f"{rate} {seconds} {RATES[rate]}")
    seen, answer = _polled(writer, db, rate, seconds)
    visible = _visible(seen)
    committed = dict(answer["commits"])
    latencies = [
        (visible[sequence] - committed[key]) / 1e6
        for key, sequence in db.execute(_PLACES, [start]).fetchall()
    ]
    return answer["seconds"], latencies


def _polled(
    writer: subprocess.Popen[str], db: Any, rate: int, seconds: int
) -> tuple[list[tuple[int, int]], dict[str, Any]]:
    """(size, moment it was first seen) whenever it has grown, and the writer's answer."""
    seen = [(_size(db), time.monotonic_ns())]
    answer: dict[str, Any] | None = None
    end = sys.maxsize
    deadline = time.monotonic() + seconds + _PATIENCE_SECONDS
    while answer is None or seen[-1][0] < end:
        time.sleep(_POLL_SECONDS)
        size = _size(db)
        if size > seen[-1][0]:
            seen.append((size, time.monotonic_ns()))
        elif time.monotonic() > deadline:
            raise Stuck(f"{size} of {end} records are there.")
        if answer is None and has_said(writer):
            answer = json.loads(line_of(writer))
            end = seen[0][0] + len(answer["commits"]) * RATES[rate]
    return seen, answer


def _visible(seen: list[tuple[int, int]]) -> dict[int, int]:
    """The moment of each sequence."""
    return {
        sequence: moment
        for (before, _), (size, moment) in pairwise(seen)
        for sequence in range(before, size)
    }


def _size(db: Any) -> int:
    row = db.execute(_SIZE).fetchone()
    return 0 if row is None else int(row[0])


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table."""
    print(f"{'events/s':>9} {'achieved':>9} {'a commit':>9} {'median ms':>10} {'p99 ms':>8}")
    for row in rows:
        print(
            f"{row['events_per_second']:9} {row['achieved_per_second']:9.0f} "
            f"{row['events_per_commit']:9} {row['median_ms']:10.0f} {row['p99_ms']:8.0f}"
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="From COMMIT to the visible record")
    parser.add_argument("--quick", action="store_true", help="a few seconds for each rate")
    show(measure(quick=parser.parse_args().quick))


if __name__ == "__main__":
    main()
