"""Somebody with the database in their hands edits, deletes, inserts or swaps rows."""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from audit_log.events import emitter
from audit_log.ledger import checkpoints
from audit_log.ledger.entries import ENTRY_COLUMNS
from audit_log.ledger.verification import verify
from audit_log.models import Record
from tests.ledger.building import a_full_event, copy_of, head, overwrite, sql, write

pytestmark = pytest.mark.django_db

SIZE = 5
VICTIM = 2
LAST = SIZE - 1
TOKENS = ("actor_token", "ip_token", "net_token", "agent_token")
NULLABLE = [
    field.name
    for field in Record._meta.concrete_fields
    if field.null and field.name in {*ENTRY_COLUMNS, "salt"}
]
sqlite_only = pytest.mark.skipif(connection.vendor != "sqlite", reason="other databases refuse")
mysql_only = pytest.mark.skipif(connection.vendor != "mysql", reason="MariaDB's and MySQL's own")
not_postgres = pytest.mark.skipif(connection.vendor == "postgresql", reason="PostgreSQL refuses")
postgres_only = pytest.mark.skipif(connection.vendor != "postgresql", reason="PostgreSQL's own")


@pytest.fixture(autouse=True)
def ledger(db):
    """Five full records under a checkpoint."""
    write([a_full_event(n) for n in range(SIZE)])
    checkpoints.sign_all()
    assert verify().ok


def named(sequence: int, id_: uuid.UUID | None = None) -> bool:
    """Whether some finding says which row it is about."""
    found = verify().findings
    by_number = any(f.stream == "default" and f.sequence == sequence for f in found)
    return by_number and (id_ is None or any(f.record == str(id_) for f in found))


def only_finding(kind: str):
    findings = verify().findings
    assert [finding.kind for finding in findings] == [kind], findings
    return findings[0]


def stored(sequence: int = VICTIM) -> Record:
    return Record.objects.get(stream="default", sequence=sequence)


def _flipped(raw: Any) -> bytes:
    return bytes(raw[:-1]) + bytes([raw[-1] ^ 1])


_NEIGHBOURS: dict[type, Callable[[Any], Any]] = {
    int: lambda value: value + 100,
    str: lambda value: value[:-1] + ("x" if value[-1] != "x" else "y"),
    bytes: _flipped,
    memoryview: _flipped,
    datetime.datetime: lambda value: value + datetime.timedelta(microseconds=1),
    uuid.UUID: lambda value: uuid.UUID(int=value.int ^ 1),
    list: lambda value: [*value[:-1], other_than(value[-1])],
    dict: lambda value: {**value, max(value): other_than(value[max(value)])},
}


def other_than(value: Any) -> Any:
    """Nearly the same value: one character, bit or microsecond away."""
    return _NEIGHBOURS[type(value)](value)


def test_the_victim_has_something_in_every_column():
    assert [name for name in (*ENTRY_COLUMNS, "salt") if not getattr(stored(), name)] == []


@pytest.mark.parametrize("column", [*ENTRY_COLUMNS, "salt"])
def test_edited_column_names_the_record(column):
    victim = stored()
    overwrite(column, other_than(getattr(victim, column)), VICTIM)
    assert not verify().ok
    assert named(VICTIM)


@pytest.mark.parametrize("column", NULLABLE)
def test_emptied_column_names_the_record(column):
    victim = stored()
    overwrite(column, None, VICTIM)
    finding = only_finding("altered")
    assert (finding.sequence, finding.record) == (VICTIM, str(victim.pk))


@pytest.mark.parametrize("column", ["changes", "data", "redactions", "changed_fields"])
@pytest.mark.parametrize("value", ["text", 7, [1], {"price": ["1.10", "9.99"]}, [{"path": "x"}]])
def test_json_of_another_shape_names_the_record(column, value):
    overwrite(column, value, VICTIM)
    finding = only_finding("altered")
    assert (finding.sequence, finding.record) == (VICTIM, str(stored().pk))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"price": ["1.1", "2.20"], "stock": [2, 3]}, id="old value"),
        pytest.param({"price": ["1.10", "2.2"], "stock": [2, 3]}, id="new value"),
        pytest.param({"price": ["1.10", "2.20"], "stock": ["2", 3]}, id="type"),
        pytest.param({"price": ["2.20", "1.10"], "stock": [2, 3]}, id="order"),
        pytest.param({"price": ["1.10", "2.20"]}, id="field gone"),
        pytest.param({"price": ["1.10", "2.20"], "stock": [2, 3], "x": [None, 1]}, id="field more"),
        pytest.param({"price": ["1.10", "2.20"], "stock": [2, 3.0]}, id="float"),
        pytest.param({"price": ["1.10", "2.20"], "stock": [2, 2**60]}, id="large"),
    ],
)
def test_edited_open_value_names_the_record(changes):
    assert stored().changes == {"price": ["1.10", "2.20"], "stock": [2, 3]}
    overwrite("changes", changes, VICTIM)
    assert only_finding("altered").sequence == VICTIM


def test_edited_sealed_label_names_the_record():
    """Bytes that were opened, edited and sealed again are other bytes."""
    victim, other = stored(), stored(3)
    overwrite("sealed_actor", bytes(other.sealed_actor or b""), VICTIM)
    assert only_finding("altered").record == str(victim.pk)


@pytest.mark.parametrize("token", TOKENS)
def test_altered_blind_index_is_no_finding(token):
    """They are not part of the leaf: erasure nulls them."""
    overwrite(token, None, VICTIM)
    assert verify().ok


@pytest.mark.parametrize("sequence", [0, VICTIM, LAST])
def test_deleted_record_is_missing_by_its_number(sequence):
    sql("DELETE FROM audit_log_record WHERE stream = 'default' AND sequence = %s", sequence)
    finding = only_finding("missing")
    assert finding.sequence == sequence


def test_every_deleted_record_is_named():
    sql("DELETE FROM audit_log_record WHERE sequence IN (0, 1, 4)")
    assert [(f.kind, f.sequence) for f in verify().findings] == [
        ("missing", 0),
        ("missing", 1),
        ("missing", 4),
    ]


def test_truncated_table_names_every_record():
    sql("DELETE FROM audit_log_record")
    assert [f.sequence for f in verify().findings] == list(range(SIZE))


def test_two_altered_records_do_not_hide_each_other():
    overwrite("action", "login", 1)
    overwrite("status", 500, 3)
    assert [(f.kind, f.sequence) for f in verify().findings] == [("altered", 1), ("altered", 3)]


@pytest.mark.parametrize("number", [SIZE, SIZE + 1000, -1, -(2**40)])
def test_inserted_record_is_extra(number):
    forged = emitter().stamp()[0]
    copy_of(VICTIM, forged, number)
    finding = only_finding("extra")
    assert (finding.sequence, finding.record) == (number, str(forged))


def test_inserted_record_is_named_although_the_head_was_made_to_count_it():
    forged = emitter().stamp()[0]
    copy_of(VICTIM, forged, SIZE)
    sql("UPDATE audit_log_stream SET size = size + 1 WHERE name = 'default'")
    assert named(SIZE, forged)
    assert "head" in {finding.kind for finding in verify().findings}


def test_record_inserted_into_an_empty_stream_is_named():
    write([], "empty")
    forged = emitter().stamp()[0]
    copy_of(VICTIM, forged, SIZE)
    sql("UPDATE audit_log_record SET stream = 'empty', sequence = 0 WHERE sequence = %s", SIZE)
    sql("UPDATE audit_log_stream SET size = 1 WHERE name = 'empty'")
    assert str(forged) in {f.record for f in verify().findings if f.stream == "empty"}


def test_inserted_record_is_named_although_the_head_has_a_hash_for_it():
    forged = emitter().stamp()[0]
    copy_of(VICTIM, forged, SIZE)
    partial = bytes(head().partial) + bytes(32)
    sql("UPDATE audit_log_stream SET size = size + 1, partial = %s", partial)
    assert named(SIZE, forged)


def test_record_of_a_stream_that_does_not_exist_is_extra():
    victim = stored()
    overwrite("stream", "elsewhere", VICTIM)
    found = {(f.stream, f.kind): f for f in verify().findings}
    assert found["default", "missing"].sequence == VICTIM
    assert found["elsewhere", "extra"].record == str(victim.pk)


def test_record_moved_to_another_stream_is_named_in_both():
    write([a_full_event(9)], "security")
    victim = stored()
    sql("UPDATE audit_log_record SET stream = 'security' WHERE sequence = %s", VICTIM)
    found = {(f.stream, f.kind): f for f in verify().findings}
    assert found["default", "missing"].sequence == VICTIM
    assert found["security", "extra"].record == str(victim.pk)


def test_swapped_records_are_both_named():
    first, second = stored(1), stored(3)
    sql("UPDATE audit_log_record SET sequence = -9 WHERE sequence = 1")
    sql("UPDATE audit_log_record SET sequence = 1 WHERE sequence = 3")
    sql("UPDATE audit_log_record SET sequence = 3 WHERE sequence = -9")
    found = verify().findings
    assert [(f.kind, f.sequence, f.record) for f in found] == [
        ("altered", 1, str(second.pk)),
        ("altered", 3, str(first.pk)),
    ]


@pytest.mark.parametrize("column", ["sealed_actor", "sealed_data", "salt", "changes"])
def test_swapped_contents_name_both_records(column):
    first, second = getattr(stored(1), column), getattr(stored(3), column)
    overwrite(column, second, 1)
    overwrite(column, first, 3)
    assert [(f.kind, f.sequence) for f in verify().findings] == [("altered", 1), ("altered", 3)]


def test_altered_record_is_named_after_the_head_was_given_its_hash(ledger):
    """The tree agrees with the row then, the signature does not."""
    from audit_log.ledger.entries import entry_bytes
    from audit_log.ledger.merkle import leaf_hash

    overwrite("action", "login", VICTIM)
    row = stored()
    leaf = leaf_hash(entry_bytes({name: getattr(row, name) for name in (*ENTRY_COLUMNS, "salt")}))
    partial = bytearray(head().partial)
    partial[VICTIM * 32 : VICTIM * 32 + 32] = leaf
    sql("UPDATE audit_log_stream SET partial = %s", bytes(partial))
    finding = only_finding("checkpoint")
    assert finding.sequence == 0
    assert f"records 0 to {LAST}" in finding.message


def test_a_forgery_is_placed_between_two_checkpoints():
    from audit_log.ledger.entries import entry_bytes
    from audit_log.ledger.merkle import leaf_hash

    write([a_full_event(n) for n in range(5)])
    checkpoints.sign_all()
    write([a_full_event(n) for n in range(5)])
    checkpoints.sign_all()
    overwrite("action", "login", 7)
    row = stored(7)
    leaf = leaf_hash(entry_bytes({name: getattr(row, name) for name in (*ENTRY_COLUMNS, "salt")}))
    partial = bytearray(head().partial)
    partial[7 * 32 : 7 * 32 + 32] = leaf
    sql("UPDATE audit_log_stream SET partial = %s", bytes(partial))
    finding = only_finding("checkpoint")
    assert finding.sequence == 5
    assert "records 5 to 9" in finding.message
    assert verify().signed == {"default": 5}


@sqlite_only
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("occurred_at", "not a time"),
        ("recorded_at", "2026-13-45 00:00:00"),
        ("recorded_at", 5),
        ("version", "one"),
        ("status", "many"),
        ("emitter_seq", 1.5),
        ("sealed_data", "text"),
        ("salt", "0123456789abcdef"),
        ("salt", b"short"),
        ("action", b"update"),
        ("actor_id", "a\0b"),
        ("target_id", 3),
    ],
)
def test_value_of_another_type_names_the_record(unchecked, column, value):
    """SQLite keeps whatever it is given; the row must be named, not end the verification."""
    victim = stored()
    sql(f'UPDATE audit_log_record SET "{column}" = %s WHERE sequence = %s', value, VICTIM)
    finding = only_finding("altered")
    assert (finding.sequence, finding.record) == (VICTIM, str(victim.pk))


@pytest.fixture
def unchecked():
    """CHECK constraints are off, as they are for whoever owns the table."""
    on = {
        "sqlite": "PRAGMA ignore_check_constraints = ON",
        "mysql": "SET SESSION check_constraint_checks = OFF",
    }
    off = {
        "sqlite": "PRAGMA ignore_check_constraints = OFF",
        "mysql": "SET SESSION check_constraint_checks = ON",
    }
    sql(on[connection.vendor])
    yield
    sql(off[connection.vendor])


@not_postgres
@pytest.mark.parametrize("column", ["changes", "data", "redactions", "changed_fields"])
@pytest.mark.parametrize("text", ["{", "[1,", '{"a": ' * 3000, "1" * 5000, "NaN"])
def test_json_that_does_not_parse_names_the_record(unchecked, column, text):
    victim = stored()
    sql(f'UPDATE audit_log_record SET "{column}" = %s WHERE sequence = %s', text, VICTIM)
    finding = only_finding("altered")
    assert (finding.sequence, finding.record) == (VICTIM, str(victim.pk))


@sqlite_only
def test_text_that_is_not_utf8_names_the_record():
    victim = stored()
    sql("UPDATE audit_log_record SET action = CAST(x'ff' AS TEXT) WHERE sequence = %s", VICTIM)
    finding = only_finding("altered")
    assert (finding.sequence, finding.record) == (VICTIM, str(victim.pk))


@sqlite_only
def test_id_that_is_no_uuid_names_the_record():
    sql("UPDATE audit_log_record SET id = 'nonsense' WHERE sequence = %s", VICTIM)
    finding = only_finding("altered")
    assert (finding.sequence, finding.record) == (VICTIM, "nonsense")


@sqlite_only
@pytest.mark.parametrize("number", ["one", 1.5, b"1"])
def test_number_that_is_no_integer_is_extra(number):
    victim = stored()
    sql("UPDATE audit_log_record SET sequence = %s WHERE sequence = %s", number, VICTIM)
    found = {f.kind: f for f in verify().findings}
    assert found["missing"].sequence == VICTIM
    assert found["extra"].record == str(victim.pk)


@mysql_only
@pytest.mark.parametrize("column", ["occurred_at", "recorded_at"])
@pytest.mark.parametrize("moment", ["0000-00-00 00:00:00", "2026-02-00 10:00:00", "2026-00-01"])
def test_time_of_no_day_names_the_record(column, moment):
    victim = stored()
    sql("SET SESSION sql_mode = ''")
    try:
        sql(f'UPDATE audit_log_record SET "{column}" = %s WHERE sequence = %s', moment, VICTIM)
    finally:
        sql("SET SESSION sql_mode = DEFAULT")
    finding = only_finding("altered")
    assert (finding.sequence, finding.record) == (VICTIM, str(victim.pk))


@mysql_only
@pytest.mark.parametrize("value", ["shop.product ", "Shop.Product", "shop.próduct"])
def test_text_that_most_collations_take_for_the_same_names_the_record(value):
    sql("UPDATE audit_log_record SET target_type = %s WHERE sequence = %s", value, VICTIM)
    assert only_finding("altered").sequence == VICTIM
    assert Record.objects.filter(target_type="shop.product").count() == SIZE - 1


@postgres_only
@pytest.mark.parametrize("column", ["occurred_at", "recorded_at"])
@pytest.mark.parametrize("moment", ["infinity", "-infinity", "0044-03-15 BC"])
def test_time_python_cannot_hold_names_the_record(column, moment):
    victim = stored()
    sql(f'UPDATE audit_log_record SET "{column}" = %s WHERE sequence = %s', moment, VICTIM)
    finding = only_finding("altered")
    assert (finding.sequence, finding.record) == (VICTIM, str(victim.pk))


@postgres_only
@pytest.mark.parametrize("text", ["1" * 5000, "[" * 3000 + "]" * 3000, "1e400"])
def test_json_python_cannot_hold_names_the_record(text):
    victim = stored()
    sql("UPDATE audit_log_record SET changes = %s::jsonb WHERE sequence = %s", text, VICTIM)
    finding = only_finding("altered")
    assert (finding.sequence, finding.record) == (VICTIM, str(victim.pk))


@postgres_only
def test_second_record_of_a_number_is_extra():
    """The constraint that forbids it can be dropped."""
    sql("ALTER TABLE audit_log_record DROP CONSTRAINT audit_record_sequence")
    forged = uuid.UUID(int=2**128 - 1)
    copy_of(VICTIM, forged, VICTIM)
    found = verify().findings
    assert {f.sequence for f in found} == {VICTIM}
    assert str(forged) in {f.record for f in found}


def test_what_is_not_text_in_json_survives_the_round_trip():
    """So that no honest record is ever called altered."""
    hostile = {"n": [None, 2**53 - 1], "t": ["\x7f\u2028", "é\U0001f600"], "e": [{}, []]}
    write([a_full_event(changes=hostile, data=json.loads('{"b": true, "z": {"": null}}'))])
    assert verify().ok
    assert connection.is_usable()
