"""What a subject has stored: how many events, how many bytes, and what is in them."""

from __future__ import annotations

import json

from django.db import connection

from benchmarks.subjects import FLOOR, Subject


def settle(subject: Subject) -> None:
    """Let what is still on its way arrive: our relay, which a worker does in real life."""
    if subject.name == FLOOR:
        from benchmarks.catalog import floor  # noqa: PLC0415 - only where it is installed

        floor.settle()
    elif subject.is_ours:
        from audit_log.delivery.relay import relay  # noqa: PLC0415 - only where it is installed

        relay()


def refuse_losses(subject: Subject) -> None:
    """Raise RuntimeError when our app had to give anything up: such times are of something else."""
    if subject.is_ours:
        from audit_log.recording import losses  # noqa: PLC0415 - only where it is installed

        if counted := losses.counts():
            raise RuntimeError(f"Events were lost or refused while measuring: {counted}")


def tables(subject: Subject) -> list[str]:
    """Those of its tables that are there."""
    there = set(connection.introspection.table_names())
    return [name for name in (*subject.events, *subject.companions) if name in there]


def events(subject: Subject) -> int:
    """How many events it has stored so far."""
    settle(subject)
    there = set(connection.introspection.table_names())
    total = 0
    with connection.cursor() as cursor:
        for table, condition in subject.events.items():
            if table in there:
                cursor.execute(f"SELECT count(*) FROM {table} WHERE {condition}")  # noqa: S608 - names of our own
                total += int(cursor.fetchone()[0])
    return total


def size(subject: Subject) -> int:
    """Bytes of its tables, with their indexes and what is stored out of line."""
    total = 0
    with connection.cursor() as cursor:
        for table in tables(subject):
            cursor.execute("SELECT pg_total_relation_size(%s::regclass)", [table])
            total += int(cursor.fetchone()[0])
    return total


def vacuum(subject: Subject) -> None:
    """Remove dead rows, so that they pile up for none."""
    names = [*tables(subject), "catalog_item", "catalog_part"]
    if subject.is_ours:
        names.append("audit_log_outbox")
    with connection.cursor() as cursor:
        for name in names:
            cursor.execute(f"VACUUM (ANALYZE) {name}")


def rows(subject: Subject) -> set[str]:
    """Every row of its tables as JSON text, to look for something in. Nothing is opened."""
    settle(subject)
    found: set[str] = set()
    with connection.cursor() as cursor:
        for table in tables(subject):
            cursor.execute(f"SELECT row_to_json(t)::text FROM {table} t")  # noqa: S608 - names of our own
            found.update(row[0] for row in cursor.fetchall())
    return found


def opened(subject: Subject) -> set[str]:
    """What those who may look can open of what we stored encrypted; nobody else encrypts."""
    if not subject.is_ours:
        return set()
    import audit_log  # noqa: PLC0415 - only where it is installed
    from audit_log.models import Record  # noqa: PLC0415

    return {
        json.dumps({"id": str(record.pk), **audit_log.contents(record)}, default=str)
        for record in Record.objects.all()
    }
