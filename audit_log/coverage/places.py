"""Places where data could change without the log seeing it, and the kinds that are looked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

KINDS: Final = {
    "sql": "SQL that code hands to a cursor, a connection or a schema editor, unless it is a "
    "literal that only reads",
    "driver": "connections that code opens past Django",
    "run-sql": "RunSQL in migrations, unless it is a literal that only reads",
    "run-python": "RunPython in migrations: rows saved through historical models",
    "internals": "private methods of query sets and models, and query classes, past the hooks",
    "override": "methods of managers, query sets and models that replace a writing method of "
    "Django's and call none",
    "suspended": "audit_log.suspended(): that it was is on record, the changes inside are not",
    "unmanaged": "unmanaged models that are neither registered nor excluded by EXCLUDE_MODELS",
    "cascade": "references that the database itself deletes or changes (DB_CASCADE and the like)",
    "trigger": "triggers in the database, on tables of installed models; and those that should "
    "capture changes, where they are missing, outdated or disabled",
    "outbox": "databases with audited models and without an outbox: changes there go to the spool",
}
NOT_SEEN: Final = (
    "writes of other programs and of other services, and by hand in the database",
    "SQL made at run time by a name that does not look like a cursor or a connection",
    "functions and rules in the database that a SELECT calls, and constraints made by hand",
    "code of installed packages, but for the methods of managers and models in use",
    "tests: files and folders named so",
)
CAPTURED: Final = (
    "of audited models: save(), delete(), cascades by Django, many-to-many changes, and update(), "
    "delete(), bulk_create(), bulk_update() of query sets, row by row up to BULK_ROWS; of those "
    "captured by triggers, whatever is written to their tables"
)


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """One place. `path` and `line` say where it is in code, `model` what it belongs to.

    `own`: the file is the project's. `accepted`: a comment there says that people know.
    """

    kind: str
    path: str | None
    line: int | None
    what: str
    model: str | None = None
    own: bool = False
    accepted: bool = False

    @property
    def unseen(self) -> bool:
        """Whether it is for the project to look at: in its own code, and not accepted."""
        return self.own and not self.accepted
