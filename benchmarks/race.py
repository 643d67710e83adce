"""Rounds: operation by operation, all processes one after another, in a new random order."""

from __future__ import annotations

import random
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence

from benchmarks import figures, progress
from benchmarks.plan import Extent, Operation
from benchmarks.processes import Process
from benchmarks.subjects import NONE

Times = dict[str, dict[str, list[list[float]]]]


def set_up(started: Mapping[str, Process]) -> None:
    """Tables and first rows, in all at once; then each operation a few times."""
    for command in ("setup", "warm"):
        progress.show(f"{command}: {', '.join(started)}")
        for process in started.values():
            process.send(command)
        for process in started.values():
            process.receive()


class Race:
    """What the processes took for each operation, block by block."""

    def __init__(
        self, started: Mapping[str, Process], operations: Sequence[Operation], extent: Extent
    ) -> None:
        self._started = started
        self._operations = operations
        self._extent = extent
        self._times: Times = defaultdict(lambda: defaultdict(list))
        self._cpu: dict[tuple[str, str], list[float]] = defaultdict(list)

    def run(self, title: str = "") -> None:
        """All rounds."""
        rounds = self._extent.rounds
        for number in range(rounds):
            for operation in self._operations:
                progress.show(f"{title}round {number + 1} of {rounds}: {operation.name}")
                self._block(operation)
            for process in self._started.values():  # one at a time: the next must find it quiet
                process.ask("rest")

    def _block(self, operation: Operation) -> None:
        iterations = self._extent.iterations(operation)
        for name in random.sample(list(self._started), len(self._started)):
            answer = self._started[name].ask(
                "time", operation=operation.name, iterations=iterations
            )
            self._times[operation.name][name].append(answer["us"])
            self._cpu[operation.name, name].append(answer["cpu_us"])

    def summaries(self, operation: str) -> dict[str, dict[str, float]]:
        """`{subject: median_us, p95_us, ratio, ratio_p25, ratio_p75}`."""
        return figures.summaries(self._times[operation], NONE)

    def effort(self, operation: str, subject: str) -> dict[str, float]:
        """`cpu_us` of one iteration, `rounds`, and `iterations` in all."""
        blocks = self._times[operation][subject]
        return {
            "cpu_us": round(statistics.median(self._cpu[operation, subject]), 1),
            "rounds": len(blocks),
            "iterations": sum(map(len, blocks)),
        }
