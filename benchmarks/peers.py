"""Us beside the peers: each in its own process and database, in turn within each round."""

from __future__ import annotations

from typing import Any, Final

from benchmarks import progress
from benchmarks.databases import Unusable, databases
from benchmarks.plan import OPERATIONS, Extent
from benchmarks.processes import Process, processes
from benchmarks.race import Race, set_up
from benchmarks.subjects import NONE, SUBJECTS

_ROW: Final = ("median_us", "p95_us", "ratio", "queries", "captured")
_DETAIL: Final = ("ratio_p25", "ratio_p75", "statements", "cpu_us", "rounds", "iterations")


def installed() -> list[str]:
    """The names of the subjects, in the order of the table. Raises Unusable."""
    missing = [subject.distribution for subject in SUBJECTS if not subject.is_installed()]
    if missing:
        raise Unusable(
            f"Not installed: {', '.join(map(str, missing))}. `make bench` installs them, or: "
            "pip install --group bench"
        )
    return [subject.name for subject in SUBJECTS]


def measure_rows(extent: Extent) -> dict[str, list[dict[str, Any]]]:
    """`rows` as results.json has them, and `details`: spread, statements, processor time."""
    names = installed()
    with databases(names) as made, processes(made) as started:
        set_up(started)
        race = Race(started, OPERATIONS, extent)
        race.run()
        return _counted(started, race)


def measure_storage(extent: Extent) -> dict[str, list[dict[str, Any]]]:
    """`storage`, `memory` and `recorded`: in fresh processes, one after another."""
    names = installed()
    found: dict[str, list[dict[str, Any]]] = {"storage": [], "memory": [], "recorded": []}
    for name in names:
        progress.show(f"{name}: {extent.events} events, their bytes and memory")
        with databases([name]) as made, processes(made) as started:
            process = started[name]
            process.ask("setup")
            filled = process.ask("fill", events=extent.events)
            recorded = process.ask("probe")["recorded"]
        if name != NONE:
            found["storage"].append(_stored(name, filled))
            found["recorded"].append({"subject": name, **recorded})
        found["memory"].append({"subject": name, "events": filled["events"], **_memory(filled)})
    return found


def _stored(name: str, filled: dict[str, Any]) -> dict[str, Any]:
    return {
        "subject": name,
        "events": filled["events"],
        "bytes_per_event": round(filled["bytes"] / filled["events"]),
    }


def _memory(filled: dict[str, Any]) -> dict[str, float]:
    before, after = filled["rss_kb_before"], filled["rss_kb"]
    return {"start_mb": round(before / 1024, 1), "after_mb": round(after / 1024, 1)}


def _counted(started: dict[str, Process], race: Race) -> dict[str, list[dict[str, Any]]]:
    """The times, with what each operation sends and what comes of it."""
    rows: list[dict[str, Any]] = []
    details: list[dict[str, Any]] = []
    for operation in OPERATIONS:
        progress.show(f"counting: {operation.name}")
        found = race.summaries(operation.name)
        for name, process in started.items():
            said = {**found[name], **process.ask("count", operation=operation.name)}
            said |= race.effort(operation.name, name)
            key = {"operation": operation.name, "subject": name}
            rows.append({**key, **{column: said[column] for column in _ROW}})
            details.append({**key, **{column: said[column] for column in _DETAIL}})
    return {"rows": rows, "details": details}
