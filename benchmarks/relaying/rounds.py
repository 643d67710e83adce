"""The rounds of one database, in a process of their own: prints a line of JSON a row."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from typing import Any, Final

import django
from django.core.management import call_command

USING: Final = "default"


class Worker:
    """A relay process (`benchmarks.relaying.worker`)."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.relaying.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.answer()

    def tell(self, command: str) -> None:
        """Begin; `answer` waits for the end."""
        assert self._process.stdin is not None  # noqa: S101 - for the type checker
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """What it says."""
        assert self._process.stdout is not None  # noqa: S101 - for the type checker
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def end(self) -> None:
        """Let it go."""
        self._process.communicate(timeout=60)


class Bench:
    """A database with an outbox to fill, and the rates measured on it."""

    def __init__(self, database: str, events: int) -> None:
        from benchmarks.workload.events import captured  # noqa: PLC0415

        self.database = database
        self.events = events
        self.batches = captured(USING)
        self.workers: list[Worker] = []
        self.bare_rows = 0

    def relayed(self, workers: int, command: str = "relay") -> dict[str, Any]:
        """One round: the outbox filled, and emptied by so many processes at once."""
        from benchmarks.workload.events import fill_outbox  # noqa: PLC0415

        while len(self.workers) < workers:
            self.workers.append(Worker())
        filled = fill_outbox(self.batches, self.events, USING)
        if command == "floor":
            self._all(workers, "ready")
        answers = self._all(workers, command)
        moved = sum(answer["events"] for answer in answers)
        lost = sum(answer["lost"] for answer in answers)
        if (moved, lost) != (filled, 0):
            raise RuntimeError(f"{filled} events in the outbox, {moved} stored, {lost} not.")
        seconds = max(a["ended"] for a in answers) - min(a["began"] for a in answers)
        peak = max(answer["peak_mib"] for answer in answers)
        stages = {name: 1e6 * s / moved for name, s in answers[0]["stages"].items()}
        return {"rate": moved / seconds, "peak_mib": peak, "stages": stages}

    def _all(self, workers: int, command: str) -> list[dict[str, Any]]:
        for worker in self.workers[:workers]:
            worker.tell(command)
        return [worker.answer() for worker in self.workers[:workers]]

    def bare(self) -> float:
        """Rows per second of the bare statement."""
        from benchmarks.relaying import bare  # noqa: PLC0415

        rows = self.events // bare.ROWS_A_COMMIT * bare.ROWS_A_COMMIT
        seconds = bare.bare(USING, rows, self.bare_rows)
        self.bare_rows += rows
        return rows / seconds

    def rows(self, workers: list[int], rounds: int) -> list[dict[str, Any]]:
        """The rounds interleaved, and the medians of each."""
        from audit_log.models import Record  # noqa: PLC0415

        found: dict[int, list[dict[str, Any]]] = {count: [] for count in workers}
        floors: dict[int, list[float]] = {count: [] for count in workers}
        bares: list[float] = []
        self.relayed(max(workers))  # warms up: connections, keys, what the database caches
        records = Record.objects.using(USING).count()
        self.bare()
        for _ in range(rounds):
            bares.append(self.bare())
            for count in workers:
                found[count].append(self.relayed(count))
                floors[count].append(self.relayed(count, "floor")["rate"])
        stages = _shares(self.relayed(1, "stages")["stages"])
        shared = {"database": self.database, "records_in_table": records}
        return [
            shared
            | {"workers": count, "stages": stages if count == 1 else {}}
            | _figures(found[count], floors[count], bares)
            for count in workers
        ]


def _figures(
    rounds: list[dict[str, Any]], floors: list[float], bares: list[float]
) -> dict[str, Any]:
    """The medians, and what they are medians of."""
    rates = [found["rate"] for found in rounds]
    bare = statistics.median(bares)
    return {
        "events_per_second": statistics.median(rates),
        "bare_per_second": bare,
        "ratio": statistics.median(rates) / bare,
        "floor": statistics.median(floors) / bare,
        "memory_mib": max(found["peak_mib"] for found in rounds),
        "rates": [round(rate) for rate in rates],
        "floor_rates": [round(rate) for rate in floors],
        "bare_rates": [round(rate) for rate in bares],
    }


def _shares(stages: dict[str, float]) -> dict[str, dict[str, float]]:
    total = sum(stages.values())
    return {name: {"us": us, "share": us / total} for name, us in stages.items()}


def main() -> None:
    """Measure the database that the environment names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("database")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--records", type=int, default=0)
    options = parser.parse_args()
    django.setup()
    from django.test.utils import setup_test_environment  # noqa: PLC0415

    setup_test_environment()
    call_command("migrate", run_syncdb=True, verbosity=0)
    bench = Bench(options.database, options.events)
    if options.records:
        from benchmarks.filling import fill  # noqa: PLC0415

        fill(USING, options.records)
    for row in bench.rows(options.workers, options.rounds):
        print(json.dumps(row), flush=True)
    for worker in bench.workers:
        worker.end()


if __name__ == "__main__":
    main()
