"""What really happened, noted by SQLite itself, so that the log can be held against it.

Triggers count every committed change of a row of the bank, and keep a copy of every batch that
entered the outbox. The log knows nothing of them.
"""

from __future__ import annotations

from dataclasses import dataclass

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
        cursor.execute("CREATE TABLE demo_changes (kind TEXT, source TEXT)")
        cursor.execute("CREATE TABLE demo_batches (events INTEGER, payload BLOB)")
        cursor.execute(
            "CREATE TRIGGER demo_outbox AFTER INSERT ON audit_log_outbox BEGIN "
            "INSERT INTO demo_batches VALUES (NEW.event_count, NEW.payload); END"
        )
        for table, columns in _watched().items():
            _watch(cursor, table, columns, "row")
        for table in _member_tables():
            _watch(cursor, table, [], "member")


def _watched() -> dict[str, list[str]]:
    """Each audited table, and the columns whose change is worth an event."""
    tables = {}
    for model in audited_models():
        plan = plan_of(model)
        if plan is not None:
            columns = [str(f.field.column) for f in plan.fields if not f.incidental]
            tables[model._meta.db_table] = columns
    return tables


def _member_tables() -> list[str]:
    return [
        field.remote_field.through._meta.db_table
        for model in audited_models()
        for field in model._meta.local_many_to_many
        if field.remote_field.through in apps.get_models(include_auto_created=True)
    ]


def _watch(cursor: object, table: str, columns: list[str], kind: str) -> None:
    execute = cursor.execute  # type: ignore[attr-defined]
    note = f"INSERT INTO demo_changes VALUES ('{kind}', '{table}');"  # noqa: S608 - our own names
    execute(f'CREATE TRIGGER "demo_i_{table}" AFTER INSERT ON "{table}" BEGIN {note} END')
    execute(f'CREATE TRIGGER "demo_d_{table}" AFTER DELETE ON "{table}" BEGIN {note} END')
    if columns:
        differs = " OR ".join(f'OLD."{name}" IS NOT NEW."{name}"' for name in columns)
        execute(
            f'CREATE TRIGGER "demo_u_{table}" AFTER UPDATE ON "{table}" '
            f"WHEN {differs} BEGIN {note} END"
        )


def read() -> Truth:
    """The counts so far."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT kind, COUNT(*) FROM demo_changes GROUP BY kind")
        counts = dict(cursor.fetchall())
        cursor.execute("SELECT COUNT(*), COALESCE(SUM(events), 0) FROM demo_batches")
        batches, events = cursor.fetchone()
    return Truth(counts.get("row", 0), counts.get("member", 0), batches, events)


def payloads() -> list[bytes]:
    """Every batch that was ever in the outbox, as it was stored."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT payload FROM demo_batches")
        return [bytes(row[0]) for row in cursor.fetchall()]
