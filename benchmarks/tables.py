"""The tables of the peers, from results.json: for the terminal and for docs/performance.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from benchmarks.grids import aligned, duration, generic
from benchmarks.plan import OPERATIONS
from benchmarks.subjects import BY_NAME, NAMES, NONE

Results = dict[str, Any]
NOTHING_RECORDED: Final = "○"
_MILLION: Final = 1_000_000
_READS: Final = frozenset({"load_1000", "load_1000_json", "noop", "get", "get_user"})


def by_key(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """Rows by (operation, subject)."""
    return {(row["operation"], row["subject"]): row for row in rows}


def ratios(results: Results) -> list[list[str]]:
    """Against not audited; a circle where a write left nothing in the subject's tables."""
    found = by_key(results.get("rows", []))

    def cell(operation: str, subject: str) -> str:
        row = found[operation, subject]
        if subject == NONE:
            return duration(row["median_us"])
        empty = not row["captured"] and operation not in _READS
        return f"{row['ratio']:.2f}{' ' + NOTHING_RECORDED if empty else ''}"

    return _by_operation(found, cell)


def queries(results: Results) -> list[list[str]]:
    """Round trips of one operation, and the statements in them where these are more."""
    found, details = by_key(results.get("rows", [])), by_key(results.get("details", []))

    def cell(operation: str, subject: str) -> str:
        messages = found[operation, subject]["queries"]
        statements = details.get((operation, subject), {}).get("statements", messages)
        return str(messages) if statements == messages else f"{messages} ({statements})"

    return _by_operation(found, cell)


def captured(results: Results) -> list[list[str]]:
    """Events found in the tables after one operation."""
    found = by_key(results.get("rows", []))
    return _by_operation(found, lambda *key: str(found[key]["captured"]), skip=(NONE,))


def times(results: Results) -> list[list[str]]:
    """The median, and what 95 of 100 stay below."""
    found = by_key(results.get("rows", []))

    def cell(*key: str) -> str:
        row = found[key[0], key[1]]
        return f"{duration(row['median_us'])} ({duration(row['p95_us'])})"

    return _by_operation(found, cell)


def spread(results: Results) -> list[list[str]]:
    """The middle half of the rounds' ratios."""
    found = by_key(results.get("details", []))

    def cell(*key: str) -> str:
        row = found[key[0], key[1]]
        return f"{row['ratio_p25']:.2f}-{row['ratio_p75']:.2f}"

    return _by_operation(found, cell, skip=(NONE,))


def processor(results: Results) -> list[list[str]]:
    """Processor time of the process for one operation, its background threads included."""
    found = by_key(results.get("details", []))
    return _by_operation(found, lambda *key: duration(found[key[0], key[1]]["cpu_us"]))


def recorded(results: Results) -> list[list[str]]:
    """What each records, found by looking."""
    rows = results.get("recorded", [])
    if not rows:
        return []
    features = [key for key in rows[0] if key != "subject"]
    body = [[name, *["yes" if row[name] else "**no**" for row in rows]] for name in features]
    return [["recorded", *[row["subject"] for row in rows]], *body]


def notes(results: Results) -> list[list[str]]:
    """How each was set up, and what else it leaves out."""
    subjects = [row["subject"] for row in results.get("recorded", [])]
    body = [[name, BY_NAME[name].best, BY_NAME[name].notes] for name in subjects]
    return [["", "set up with", "does not record"], *body] if body else []


def storage(results: Results) -> list[list[str]]:
    """Bytes of one event, and memory of the process."""
    sizes = {row["subject"]: row for row in results.get("storage", [])}
    body = [
        [
            row["subject"],
            f"{sizes[row['subject']]['bytes_per_event']:,}" if row["subject"] in sizes else "",
            f"{row['start_mb']:.0f} MB",
            f"{row['after_mb']:.0f} MB",
            f"{row['events']:,}",
        ]
        for row in results.get("memory", [])
    ]
    head = ["", "bytes an event", "memory at first", "memory in the end", "events"]
    return [head, *body] if body else []


def saves(results: Results) -> list[list[str]]:
    """Ours against not audited on each database, and what ready rows would cost."""
    rows = results.get("saves", [])
    body = [
        [
            row["operation"],
            row["database"],
            duration(row["none_us"]),
            duration(row["median_us"]),
            f"{row['ratio']:.2f}",
            f"{row['ratio_p25']:.2f}-{row['ratio_p75']:.2f}",
            f"{row['floor']:.2f}" if "floor" in row else "",
        ]
        for row in rows
    ]
    head = ["", "database", "not audited", "audit_log", "ratio", "middle half", "floor"]
    return [head, *body] if body else []


def relay(results: Results) -> list[list[str]]:
    """Rates beside the bare COPY or INSERT of the same rows."""
    return generic(results.get("relay", []))


def latency(results: Results) -> list[list[str]]:
    """From COMMIT to the record."""
    return generic(results.get("latency", []))


def micro(results: Results) -> list[list[str]]:
    """Single steps."""
    return generic(results.get("micro", []))


def stages(results: Results) -> list[list[str]]:
    """Where the relay's time goes, for the databases where it was taken apart."""
    rows = [row for row in results.get("relay", []) if row.get("stages")]
    if not rows:
        return []
    names = list(dict.fromkeys(name for row in rows for name in row["stages"]))
    body = [[name, *[_stage(row["stages"].get(name)) for row in rows]] for name in names]
    return [["µs an event", *[_table_of(row) for row in rows]], *body]


def _table_of(row: dict[str, Any]) -> str:
    database, records = str(row.get("database", "")), row.get("records_in_table", 0)
    return f"{database}, {records // _MILLION} million" if records >= _MILLION else database


def _stage(found: dict[str, float] | None) -> str:
    return "" if found is None else f"{found['us']:.1f} ({found['share']:.0%})"


def printed(results: Results, sections: Sequence[str]) -> str:
    """What a run shows in the end."""
    shown: dict[str, tuple[tuple[str, Callable[[Results], list[list[str]]]], ...]] = {
        "rows": (
            (f"ratio to not audited ({NOTHING_RECORDED} nothing recorded)", ratios),
            ("middle half of the rounds", spread),
            ("round trips (statements)", queries),
            ("events recorded", captured),
        ),
        "storage": (("storage and memory", storage), ("recorded", recorded)),
        "saves": (("ours on each database", saves),),
        "relay": (("relay", relay), ("where its time goes", stages)),
        "latency": (("COMMIT to record", latency),),
        "micro": (("single steps", micro),),
    }
    return "\n\n".join(
        f"{title}\n{aligned(grid(results))}" for name in sections for title, grid in shown[name]
    )


def _by_operation(
    found: dict[tuple[str, str], dict[str, Any]],
    cell: Callable[[str, str], str],
    *,
    skip: Sequence[str] = (),
) -> list[list[str]]:
    """Operations down, subjects across: those that were measured."""
    subjects = [name for name in NAMES if name not in skip and any(key[1] == name for key in found)]
    body = [
        [operation.name, *[cell(operation.name, subject) for subject in subjects]]
        for operation in OPERATIONS
        if all((operation.name, subject) in found for subject in subjects)
    ]
    return [["", *["not audited" if s == NONE else s for s in subjects]], *body] if found else []
