"""Ledgers for tests: events made by hand, written by the writer itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections, transaction

from audit_log.events import VERSION, Actor, Event, Redaction, Request, Target, emitter
from audit_log.ledger import heads, writer
from audit_log.ledger.entries import ENTRY_COLUMNS
from audit_log.ledger.merkle import CompactRange, leaf_hash
from audit_log.ledger.records import Place, prepare
from audit_log.models import Record, Stream


def an_event(**values: Any) -> Event:
    """The least there is: nothing sealed, so nothing is encrypted and thousands are cheap."""
    id_, moment = emitter().stamp()
    least = {"id": id_, "occurred_at": moment, "action": "update", "source": "orm"}
    return Event(version=VERSION, **{**least, **values})


def a_full_event(n: int = 0, **values: Any) -> Event:
    """Something in every column."""
    full: dict[str, Any] = {
        "outcome": "success",
        "actor": Actor("user", "7", "alice", "alice@example.com", "key-3"),
        "target": Target("shop.product", str(n), f"Product {n}"),
        "tenant": "acme",
        "changes": {"price": ["1.10", "2.20"], "stock": [n, n + 1], "name": ["old", "new"]},
        "labels": {"price": ["1.10 EUR", "2.20 EUR"]},
        "affected": 1,
        "request": Request(
            id=f"request-{n}",
            method="POST",
            route="products/<int:pk>/",
            path=f"/products/{n}/",
            query="page=2",
            status=200,
            duration_ms=12,
            ip="203.0.113.9",
            user_agent="Mozilla/5.0",
            session="0123456789abcdef0123456789abcdef",
            body={"price": "2.20"},
        ),
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "parent_id": "00f067aa0ba902b7",
        "reason": "repricing",
        "data": {"batch": 4, "gateway": "x"},
        "redactions": (Redaction("changes.card", "name"),),
        "sealed": ("changes.name", "data.gateway"),
        "service": "shop",
        "emitter": "0123456789abcdef",
        "emitter_seq": n,
    }
    return an_event(**{**full, **values})


def write(
    events: Iterable[Event], stream: str = heads.DEFAULT, using: str = DEFAULT_DB_ALIAS
) -> writer.Written:
    """What the relay does between claiming and deleting."""
    size = heads.ensure([stream], using)[stream]
    prepared = [prepare(event, Place(stream, size, using)) for event in events]
    with transaction.atomic(using=using):
        return writer.write(prepared, using)


def a_long_stream(size: int, stream: str = heads.DEFAULT) -> None:
    """`size` small records, in batches that straddle the tiles."""
    for first in range(0, size, 200):
        numbers = range(first, min(first + 200, size))
        write([an_event(changes={"n": [None, n]}) for n in numbers], stream)


def naive_root(stream: str = heads.DEFAULT) -> bytes:
    """The root over the stored columns, by another way than the writer's."""
    from audit_log.ledger.entries import entry_bytes

    tree = CompactRange()
    for row in Record.objects.filter(stream=stream).order_by("sequence"):
        columns = {name: getattr(row, name) for name in ENTRY_COLUMNS}
        tree.add(leaf_hash(entry_bytes(columns | {"salt": row.salt})))
    return tree.root()


def head(stream: str = heads.DEFAULT) -> Stream:
    return Stream.objects.get(pk=stream)


def sql(statement: str, *params: Any, using: str = DEFAULT_DB_ALIAS) -> int:
    """Behind the ORM, names quoted as the standard has it. Returns how many rows."""
    if connections[using].vendor == "mysql":
        statement = statement.replace('"', "`")
    with connections[using].cursor() as cursor:
        cursor.execute(statement, params)
        return int(cursor.rowcount)


def overwrite(column: str, value: Any, sequence: int, stream: str = heads.DEFAULT) -> None:
    """Put a value of the column's own type into one record, behind the ORM."""
    field = Record._meta.get_field(column)
    raw = field.get_db_prep_save(value, connections[DEFAULT_DB_ALIAS])  # type: ignore[union-attr]
    changed = sql(
        f'UPDATE audit_log_record SET "{column}" = %s WHERE stream = %s AND sequence = %s',
        raw,
        stream,
        sequence,
    )
    assert changed == 1


def copy_of(sequence: int, new_id: Any, new_sequence: int, stream: str = heads.DEFAULT) -> None:
    """Insert a copy of a record under another id and number, behind the ORM."""
    names = [field.column for field in Record._meta.concrete_fields]
    kept = ", ".join(f'"{name}"' for name in names if name not in {"id", "sequence"})
    id_ = Record._meta.pk.get_db_prep_save(new_id, connections[DEFAULT_DB_ALIAS])
    sql(
        f"INSERT INTO audit_log_record (id, sequence, {kept}) SELECT %s, %s, {kept} "
        "FROM audit_log_record WHERE stream = %s AND sequence = %s",
        id_,
        new_sequence,
        stream,
        sequence,
    )
