"""What is run, and how often. Imports no Django: the parent process plans with it."""

from __future__ import annotations

from typing import Final, NamedTuple


class Operation(NamedTuple):
    """One row of the table: `iterations` are what one round times, `quick` those of a quick run."""

    name: str
    meaning: str
    iterations: int
    quick: int


OPERATIONS: Final = (
    Operation("create", "`create()` in autocommit", 40, 20),
    Operation("update", "`save()` of a loaded row, two fields changed, in autocommit", 40, 20),
    Operation("noop", "`save()` of a loaded row, nothing changed", 40, 20),
    Operation("delete", "`delete()` of one row", 40, 20),
    Operation("update_10_in_tx", "ten such updates in one transaction", 12, 6),
    Operation("create_100_in_tx", "a hundred `create()` in one transaction", 2, 1),
    Operation("load_1000", "a query set of 1,000 rows, no JSON", 6, 3),
    Operation("load_1000_json", "the same with a JSON field", 6, 3),
    Operation("bulk_create_1000", "`bulk_create()` of 1,000 rows", 1, 1),
    Operation("bulk_update_1000", "`bulk_update()` of one field of 1,000 rows", 1, 1),
    Operation("qs_update_1000", "`QuerySet.update()` of 1,000 rows", 2, 1),
    Operation("get", "GET, logged in; the view never touches the user", 80, 40),
    Operation("get_user", "GET, logged in; the view reads `request.user`", 60, 30),
    Operation("post", "POST, logged in; the view asks for the user and saves one object", 30, 15),
)
NAMES: Final = tuple(operation.name for operation in OPERATIONS)

ROUNDS: Final = 20
QUICK_ROUNDS: Final = 5


class Extent(NamedTuple):
    """How much is measured. `asked_rounds` overrides the number that goes with `quick`."""

    quick: bool
    asked_rounds: int | None = None

    @property
    def rounds(self) -> int:
        """How many rounds."""
        return self.asked_rounds or (QUICK_ROUNDS if self.quick else ROUNDS)

    @property
    def events(self) -> int:
        """How many events fill the tables whose size is measured."""
        return FILLED_EVENTS // 10 if self.quick else FILLED_EVENTS

    def iterations(self, operation: Operation) -> int:
        """How many of an operation one round times."""
        return operation.quick if self.quick else operation.iterations


ELSEWHERE: Final = ("create", "update", "update_10_in_tx")  # also on MariaDB and SQLite

FILLED_EVENTS: Final = 10_000
