"""What a save costs on each database, and the least that it could (benchmarks/catalog/floor.py)."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from benchmarks import progress
from benchmarks.plan import ELSEWHERE, OPERATIONS, Extent
from benchmarks.processes import processes
from benchmarks.race import Race, set_up
from benchmarks.subjects import FLOOR, NONE, OURS
from tests.databases import empty_database
from tests.services import trouble

ENGINES: Final = ("postgres", "mysql", "sqlite")


def measure(extent: Extent) -> list[dict[str, Any]]:
    """`none_us`, `median_us`, `ratio` and its quartiles, for each operation and database.

    `floor` is the ratio of ready rows, of which nothing was captured. Databases that do not answer
    have none.
    """
    rows: list[dict[str, Any]] = []
    for engine in ENGINES:
        if engine != "sqlite" and (reason := trouble(engine)) is not None:
            progress.show(f"{engine} is left out: {reason}")
            continue
        rows += _measured(engine, extent)
    return rows


def _measured(engine: str, extent: Extent) -> list[dict[str, Any]]:
    operations = [operation for operation in OPERATIONS if operation.name in ELSEWHERE]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        made = {
            subject: stack.enter_context(
                empty_database(engine, f"audit_bench_{os.getpid()}_{subject}", folder)
            )
            for subject in (NONE, FLOOR, OURS)
        }
        started = stack.enter_context(processes(made, engine))
        set_up(started)
        race = Race(started, operations, extent)
        race.run(f"{engine}: ")
    return [_row(engine, operation.name, race) for operation in operations]


def _row(engine: str, operation: str, race: Race) -> dict[str, Any]:
    found = race.summaries(operation)
    ours = found[OURS]
    del ours["p95_us"]
    return {
        "database": engine,
        "operation": operation,
        "none_us": found[NONE]["median_us"],
        **ours,
        "floor": found[FLOOR]["ratio"],
    }
