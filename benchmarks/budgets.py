"""What the project promises of its speed, and whether results.json keeps it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.subjects import NONE, OURS, SUBJECTS, TRIGGERS
from benchmarks.tables import by_key

Results = dict[str, Any]
SIGNAL_BASED: Final = (
    "django-auditlog",
    "django-easy-audit",
    "django-simple-history",
    "django-reversion",
)
_PEERS: Final = {s.name for s in SUBJECTS if s.name != NONE and not s.is_ours}
_BULK: Final = frozenset({"bulk_create_1000", "bulk_update_1000", "qs_update_1000"})
_MANY: Final = 4_000_000


@dataclass(frozen=True, slots=True)
class Budget:
    """`limit` and `measured` give a number, or None where nothing was measured.

    `operation` names the row whose spread goes with it.
    """

    text: str
    limit: Callable[[Results], float | None]
    measured: Callable[[Results], float | None]
    operation: str = ""
    at_least: bool = False
    floor: Callable[[Results], float | None] = lambda _: None

    def row(self, results: Results) -> list[str]:
        """`[text, limit, measured, the middle half of its rounds, floor, verdict]`."""
        limit, measured, floor = self.limit(results), self.measured(results), self.floor(results)
        sign = "≥" if self.at_least else "≤"
        return [
            self.text,
            "-" if limit is None else f"{sign} {limit:.2f}",
            "not measured" if measured is None else f"{measured:.2f}",
            self._spread(results, measured),
            "" if floor is None else f"{floor:.2f}",
            self._verdict(limit, measured),
        ]

    def _spread(self, results: Results, measured: float | None) -> str:
        row = by_key(results.get("details", [])).get((self.operation, OURS))
        return (
            ""
            if row is None or measured is None
            else f"{row['ratio_p25']:.2f}-{row['ratio_p75']:.2f}"
        )

    def _verdict(self, limit: float | None, measured: float | None) -> str:
        if limit is None or measured is None:
            return ""
        kept = measured >= limit if self.at_least else measured <= limit
        return "kept" if kept else "**missed**"


def table(results: Results) -> list[list[str]]:
    """All budgets."""
    rows = [budget.row(results) for budget in BUDGETS]
    return [["budget", "limit", "measured", "middle half", "floor", ""], *rows]


def ratio(operation: str) -> Callable[[Results], float | None]:
    """Ours; None for a write of many rows as long as it is not recorded."""

    def read(results: Results) -> float | None:
        row = by_key(results.get("rows", [])).get((operation, OURS))
        if row is None or (operation in _BULK and not row["captured"]):
            return None
        return float(row["ratio"])

    return read


def of(operation: str, subject: str) -> Callable[[Results], float | None]:
    """That of one subject."""

    def read(results: Results) -> float | None:
        row = by_key(results.get("rows", [])).get((operation, subject))
        return None if row is None else float(row["ratio"])

    return read


def best_peer(operation: str, *only: str) -> Callable[[Results], float | None]:
    """The smallest ratio of a peer that records at least as many events as we do."""

    def read(results: Results) -> float | None:
        rows = by_key(results.get("rows", []))
        ours = rows.get((operation, OURS))
        if ours is None:
            return None
        found = [
            float(row["ratio"])
            for (name, subject), row in rows.items()
            if name == operation
            and subject in _PEERS
            and (not only or subject in only)
            and row["captured"] >= ours["captured"]
        ]
        return min(found, default=None)

    return read


def relay(
    workers: int, column: str = "ratio", *, records: int = 0
) -> Callable[[Results], float | None]:
    """The relay's rate on PostgreSQL against the bare COPY, into a table of so many records.

    With `column` "floor" that of ready rows.
    """

    def read(results: Results) -> float | None:
        found = [
            float(row[column])
            for row in results.get("relay", [])
            if row.get("database") == "postgres"
            and column in row
            and row.get("workers") == workers
            and (row.get("records_in_table", 0) >= records)
            and (records > 0 or row.get("records_in_table", 0) < _MANY)
        ]
        return found[0] if found else None

    return read


def elsewhere(
    operation: str, database: str, column: str = "ratio"
) -> Callable[[Results], float | None]:
    """Of a save on one database: ours, or with `column` "floor" that of ready rows."""

    def read(results: Results) -> float | None:
        for row in results.get("saves", []):
            if (row["operation"], row["database"]) == (operation, database):
                return None if row.get(column) is None else float(row[column])
        return None

    return read


def fixed(value: float) -> Callable[[Results], float | None]:
    """A limit that is a number."""
    return lambda _: value


def _ours(text: str, operation: str, limit: float | Callable[[Results], float | None]) -> Budget:
    """Of a row of the table of peers."""
    bound = limit if callable(limit) else fixed(limit)
    least = elsewhere(operation, "postgres", "floor")
    return Budget(text, bound, ratio(operation), operation, floor=least)


def _elsewhere(text: str, database: str, limit: float) -> Budget:
    """Of a changed row on another database than PostgreSQL."""
    least = elsewhere("update", database, "floor")
    return Budget(text, fixed(limit), elsewhere("update", database), floor=least)


def _relay(text: str, workers: int, limit: float, *, records: int = 0) -> Budget:
    """Of the relay's rate."""
    measured = relay(workers, records=records)
    least = relay(workers, "floor", records=records)
    return Budget(text, fixed(limit), measured, at_least=True, floor=least)


BUDGETS: Final = (
    _ours("10 saves in a transaction", "update_10_in_tx", 1.10),
    _ours(
        "... beside the fastest peer that records as many events",
        "update_10_in_tx",
        best_peer("update_10_in_tx"),
    ),
    _ours("one autocommit save: a row changed", "update", 1.6),
    _ours("... beside the fastest signal-based peer", "update", best_peer("update", *SIGNAL_BASED)),
    _ours("one autocommit save: a row created", "create", 1.6),
    _ours("... beside the fastest signal-based peer", "create", best_peer("create", *SIGNAL_BASED)),
    Budget(
        "a row changed, with triggers, beside django-pghistory",
        of("update", "django-pghistory"),
        of("update", TRIGGERS),
    ),
    _elsewhere("a row changed, on MariaDB", "mysql", 2.0),
    _elsewhere("a row changed, on SQLite", "sqlite", 1.3),
    _ours("loading 1,000 rows", "load_1000", 1.05),
    _ours("loading 1,000 rows with a JSON field", "load_1000_json", 1.15),
    _ours("GET whose view reads `request.user`", "get_user", 1.10),
    _ours("GET whose view never touches the user", "get", 1.35),
    _ours("`QuerySet.update()` of 1,000 rows", "qs_update_1000", 5),
    _relay("relay against COPY on PostgreSQL, one process", 1, 0.20),
    _relay("relay, two processes", 2, 0.35),
    _relay("relay, into 4 million records", 2, 0.4, records=_MANY),
)
