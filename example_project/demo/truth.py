"""What really happened, noted by SQLite itself, so that the log can be held against it.

Triggers count every committed change of a row of the bank, and keep a copy of every batch that
entered the outbox. The log knows nothing of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.db import connection

from audit_log.capture.plans import plan_of
from audit_log.registry import audited_models


@dataclass(frozen=True, slots=True)
class Truth:
    """Counts of committed changes, and what went through the outbox."""

    changes: int
    members: int  # rows of many-to-many tables that came or went
    batches: int
    events: int


def install() -> None:
    """Create the tables and triggers."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE demo_changes (kind TEXT, source TEXT, key INTEGER)")
        cursor.execute("CREATE TABLE demo_batches (events INTEGER, payload BLOB)")
        cursor.execute(
            "CREATE TRIGGER demo_outbox AFTER INSERT ON audit_log_outbox BEGIN "
            "INSERT INTO demo_batches VALUES (NEW.event_count, NEW.payload); END"
        )
        for watched in _watched():
            _watch(cursor, watched, "row")
        for table in _member_tables():
            _watch(cursor, _Watched(table), "member")


@dataclass(frozen=True, slots=True)
class _Watched:
    """A table, the columns whose change is worth an event, and its references that may be empty."""

    table: str
    columns: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    key: str = "id"


def _watched() -> Iterator[_Watched]:
    for model in audited_models():
        plan = plan_of(model)
        if plan is None:
            continue
        fields = [item.field for item in plan.fields if not item.incidental]
        yield _Watched(
            model._meta.db_table,
            tuple(str(field.column) for field in fields),
            tuple(str(field.column) for field in fields if field.is_relation and field.null),
            str(model._meta.pk.column),
        )


def _member_tables() -> list[str]:
    return [
        field.remote_field.through._meta.db_table
        for model in audited_models()
        for field in model._meta.local_many_to_many
        if field.remote_field.through in apps.get_models(include_auto_created=True)
    ]


def _watch(cursor: Any, watched: _Watched, kind: str) -> None:
    table, key = watched.table, watched.key
    note = f"INSERT INTO demo_changes VALUES ('{kind}', '{table}', "  # noqa: S608 - our own names
    # To delete a row, Django may empty its references first: that is one change, not two.
    undo = f"DELETE FROM demo_changes WHERE kind = 'emptied' AND source = '{table}' AND key = "  # noqa: S608
    for name, event, body in (
        ("i", "INSERT", f'{note}NEW."{key}");'),
        ("d", "DELETE", f'{undo}OLD."{key}"; {note}OLD."{key}");'),
    ):
        cursor.execute(
            f'CREATE TRIGGER "demo_{name}_{table}" AFTER {event} ON "{table}" BEGIN {body} END'
        )
    if watched.columns:
        noted = f"INSERT INTO demo_changes SELECT {_kind(watched)}, '{table}', NEW.\"{key}\";"
        cursor.execute(
            f'CREATE TRIGGER "demo_u_{table}" AFTER UPDATE ON "{table}" '
            f"WHEN {_differ(watched.columns)} BEGIN {noted} END"
        )


def _kind(watched: _Watched) -> str:
    """Whether an update did nothing but empty references."""
    if not watched.references:
        return "'row'"
    others = [name for name in watched.columns if name not in watched.references]
    filled = " OR ".join(
        f'(OLD."{name}" IS NOT NEW."{name}" AND NEW."{name}" IS NOT NULL)'
        for name in watched.references
    )
    return f"CASE WHEN {_differ(others)} OR {filled} THEN 'row' ELSE 'emptied' END"


def _differ(columns: Iterable[str]) -> str:
    return " OR ".join(f'OLD."{name}" IS NOT NEW."{name}"' for name in columns) or "FALSE"


def read() -> Truth:
    """The counts so far."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT kind, COUNT(*) FROM demo_changes GROUP BY kind")
        counts = dict(cursor.fetchall())
        cursor.execute("SELECT COUNT(*), COALESCE(SUM(events), 0) FROM demo_batches")
        batches, events = cursor.fetchone()
    rows = counts.get("row", 0) + counts.get("emptied", 0)
    return Truth(rows, counts.get("member", 0), batches, events)


def payloads() -> list[bytes]:
    """Every batch that was ever in the outbox, as it was stored."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT payload FROM demo_batches")
        return [bytes(row[0]) for row in cursor.fetchall()]
