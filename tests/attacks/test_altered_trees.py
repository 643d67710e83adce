"""Somebody with the database in their hands edits hashes, heads and signatures."""

from __future__ import annotations

import pytest
from django.db import connection
from django.forms.models import model_to_dict

from audit_log.exceptions import ForkDetected
from audit_log.ledger import checkpoints, notes
from audit_log.ledger.entries import ENTRY_COLUMNS, entry_bytes
from audit_log.ledger.merkle import TILE_BYTES, leaf_hash
from audit_log.ledger.verification import verify
from audit_log.models import Checkpoint, Record, Stream, Tile
from tests.ledger.building import (
    a_full_event,
    a_long_stream,
    an_event,
    copy_of,
    head,
    overwrite,
    sql,
    write,
)

pytestmark = [pytest.mark.slow, pytest.mark.django_db]
sqlite_only = pytest.mark.skipif(connection.vendor != "sqlite", reason="other databases refuse")

SIZE = 600  # two full tiles, and a partial one


@pytest.fixture
def long_ledger(db):
    a_long_stream(SIZE)
    checkpoints.sign_all()


@pytest.fixture
def short_ledger(db):
    for _ in range(3):
        write([a_full_event(n) for n in range(3)])
        checkpoints.sign_all()


def kinds() -> list[tuple[str, int | None]]:
    return [(finding.kind, finding.sequence) for finding in verify().findings]


def newest(stream: str = "default") -> Checkpoint:
    row = checkpoints.last(stream, "default")
    assert row is not None
    return row


def true_leaf(sequence: int) -> bytes:
    row = Record.objects.get(stream="default", sequence=sequence)
    return leaf_hash(entry_bytes({name: getattr(row, name) for name in (*ENTRY_COLUMNS, "salt")}))


def put_leaf(sequence: int, leaf: bytes) -> None:
    index, offset = divmod(sequence, 256)
    tile = Tile.objects.filter(level=0, index=index).first()
    hashes = bytearray(head().partial if tile is None else tile.hashes)
    hashes[offset * 32 : offset * 32 + 32] = leaf
    if tile is None:
        sql("UPDATE audit_log_stream SET partial = %s WHERE name = 'default'", bytes(hashes))
    else:
        sql("UPDATE audit_log_tile SET hashes = %s WHERE id = %s", bytes(hashes), tile.pk)


def test_long_ledger_has_tiles_and_verifies(long_ledger):
    assert Tile.objects.count() == 2
    result = verify()
    assert result.ok
    assert result.signed == result.streams == {"default": SIZE}


@pytest.mark.parametrize("sequence", [0, 255, 256, 300, 511, 512, 599])
def test_altered_leaf_hash_is_told_from_an_altered_record(long_ledger, sequence):
    put_leaf(sequence, bytes(32))
    found = verify().findings
    assert ("tile", sequence) in [(finding.kind, finding.sequence) for finding in found]
    assert {finding.kind for finding in found} == {"tile"}
    assert found[-1].record or sequence < 512


@pytest.mark.parametrize("sequence", [0, 255, 256, 599])
def test_altered_record_in_a_long_ledger_is_named(long_ledger, sequence):
    overwrite("action", "login", sequence)
    assert kinds() == [("altered", sequence)]


@pytest.mark.parametrize("sequence", [0, 255, 256, 599])
def test_deleted_record_in_a_long_ledger_is_named(long_ledger, sequence):
    sql("DELETE FROM audit_log_record WHERE sequence = %s", sequence)
    assert kinds() == [("missing", sequence)]


def test_record_and_leaf_hash_altered_together_are_placed_by_the_tiles_above(long_ledger):
    overwrite("action", "login", 300)
    put_leaf(300, true_leaf(300))
    assert ("tile", 256) in kinds()
    assert ("checkpoint", 0) in kinds()
    assert "records 256 to 511" in str(verify().findings)


def test_deleted_tile_is_found_and_the_records_still_prove(long_ledger):
    sql("DELETE FROM audit_log_tile WHERE index = 1".replace("index", '"index"'))
    result = verify()
    assert [(finding.kind, finding.sequence) for finding in result.findings] == [("tile", 256)]
    assert "records 256 to 511" in result.findings[0].message
    assert result.signed == {"default": SIZE}


def test_record_altered_behind_a_deleted_tile_is_placed(long_ledger):
    sql('DELETE FROM audit_log_tile WHERE "index" = 1')
    overwrite("action", "login", 300)
    found = kinds()
    assert ("tile", 256) in found
    assert ("checkpoint", 0) in found


def test_record_deleted_with_its_tile_is_missing(long_ledger):
    sql('DELETE FROM audit_log_tile WHERE "index" = 1')
    sql("DELETE FROM audit_log_record WHERE sequence = 300")
    assert ("missing", 300) in kinds()


@pytest.mark.parametrize("hashes", [b"", bytes(32), bytes(TILE_BYTES + 32)])
def test_tile_of_another_length_is_found(long_ledger, hashes):
    sql('UPDATE audit_log_tile SET hashes = %s WHERE "index" = 0', hashes)
    assert kinds() == [("tile", 0)]


def test_swapped_tiles_are_found(long_ledger):
    sql("""UPDATE audit_log_tile SET "index" = 9 WHERE "index" = 0""")
    sql("""UPDATE audit_log_tile SET "index" = 0 WHERE "index" = 1""")
    sql("""UPDATE audit_log_tile SET "index" = 1 WHERE "index" = 9""")
    assert len(kinds()) >= 512


@sqlite_only
def test_tile_that_is_text_is_found(long_ledger):
    sql("""UPDATE audit_log_tile SET hashes = 'text' WHERE "index" = 0""")
    assert kinds() == [("tile", 0)]


def test_altered_hash_above_the_leaves_names_the_range(long_ledger):
    partial = bytearray(head().partial)
    partial[-1] ^= 1  # the second hash of level 1
    sql("UPDATE audit_log_stream SET partial = %s", bytes(partial))
    assert kinds() == [("tile", 256)]


def test_altered_leaf_hash_in_the_head_is_found(short_ledger):
    put_leaf(4, bytes(32))
    assert kinds() == [("tile", 4)]
    with pytest.raises(ForkDetected):
        checkpoints.sign_all(force=True)


@pytest.mark.parametrize("size", [0, 8, 10, -1, 9 + 256, 2**40])
def test_altered_size_in_the_head_is_found(short_ledger, size):
    sql("UPDATE audit_log_stream SET size = %s", size)
    assert not verify().ok
    with pytest.raises(ForkDetected, match="default"):
        checkpoints.sign_all(force=True)


def test_huge_size_with_hashes_to_match_ends_after_so_many_findings(short_ledger):
    partial = bytes(head().partial) + bytes(32)
    sql("UPDATE audit_log_stream SET size = %s, partial = %s", 9 + 256**5, partial)
    found = verify().findings
    assert ("missing", 9) in [(finding.kind, finding.sequence) for finding in found]
    assert found[-1].kind == "stopped"
    assert len(found) <= 1_002


@pytest.mark.parametrize("partial", [b"", bytes(31), bytes(32)])
def test_hashes_of_the_head_that_do_not_fit_are_found(short_ledger, partial):
    sql("UPDATE audit_log_stream SET partial = %s", partial)
    assert ("head", None) in kinds()
    with pytest.raises(ForkDetected):
        checkpoints.sign_all(force=True)


@sqlite_only
@pytest.mark.parametrize(("column", "value"), [("size", "many"), ("size", 1.5), ("partial", "x")])
def test_head_of_other_types_is_found(short_ledger, column, value):
    sql(f"UPDATE audit_log_stream SET {column} = %s", value)
    assert ("head", None) in kinds()
    with pytest.raises(ForkDetected):
        checkpoints.sign_all(force=True)


def test_deleted_head_names_the_records(short_ledger):
    sql("DELETE FROM audit_log_stream")
    found = kinds()
    assert [("extra", n) for n in range(9)] == found[:9]
    assert ("head", 0) in found


def test_deleted_head_with_all_its_records_is_found(short_ledger):
    sql("DELETE FROM audit_log_stream")
    sql("DELETE FROM audit_log_record")
    assert ("head", 0) in kinds()


def test_deleted_head_of_which_only_tiles_are_left_is_found(long_ledger):
    for table in ("stream", "record", "checkpoint"):
        sql(f"DELETE FROM audit_log_{table}")
    assert kinds() == [("head", 0)]


@pytest.mark.parametrize("column", ["size", "root", "note"])
def test_edited_checkpoint_is_found(short_ledger, column):
    row = Checkpoint.objects.order_by("id")[1]
    value = {"size": 5, "root": "0" * 64, "note": row.note.replace("\n6\n", "\n5\n")}[column]
    sql(f"UPDATE audit_log_checkpoint SET {column} = %s WHERE id = %s", value, row.pk)
    (finding,) = verify().findings
    assert finding.kind == "checkpoint"
    assert f"checkpoint {row.pk} " in finding.message


def test_last_checkpoint_with_an_edited_note_stops_the_signing(short_ledger):
    sql("UPDATE audit_log_checkpoint SET note = 'nothing'")
    write([a_full_event()])
    with pytest.raises(ForkDetected, match="default"):
        checkpoints.sign_all()


def test_checkpoint_of_another_stream_is_not_taken_for_this_ones(short_ledger):
    write([a_full_event(n) for n in range(9)], "security")
    (foreign,) = checkpoints.sign_all()
    own = newest()
    sql(
        "UPDATE audit_log_checkpoint SET note = %s, root = %s WHERE id = %s",
        foreign.note,
        foreign.root,
        own.pk,
    )
    (finding,) = verify().findings
    assert "security" in finding.message


def test_checkpoint_signed_by_a_stranger_is_found(short_ledger):
    stranger = notes.SigningKey.from_seed(checkpoints.key_name(), bytes(32))
    own = newest()
    note = notes.sign(
        notes.Checkpoint("tests/default", own.size, bytes.fromhex(own.root)), [stranger]
    )
    sql("UPDATE audit_log_checkpoint SET note = %s WHERE id = %s", note, own.pk)
    assert [kind for kind, _ in kinds()] == ["checkpoint"]


def test_checkpoints_out_of_their_order_are_found(short_ledger):
    first, second, _ = Checkpoint.objects.order_by("id").values_list("id", flat=True)
    sql("UPDATE audit_log_checkpoint SET id = 0 WHERE id = %s", first)
    sql("UPDATE audit_log_checkpoint SET id = %s WHERE id = %s", first, second)
    sql("UPDATE audit_log_checkpoint SET id = %s WHERE id = 0", second)
    assert "out of its order" in str(verify().findings)


@pytest.mark.parametrize("size", [-5, 0])
def test_checkpoint_of_an_impossible_size_is_found(short_ledger, size):
    row = newest()
    sql("UPDATE audit_log_checkpoint SET size = %s WHERE id = %s", size, row.pk)
    assert [kind for kind, _ in kinds()] == ["checkpoint"]


@sqlite_only
@pytest.mark.parametrize(
    ("column", "value"),
    [("size", "many"), ("size", 6.5), ("note", b"note"), ("root", 7), ("created_at", "never")],
)
def test_checkpoint_of_other_types_does_not_stop_the_verification(short_ledger, column, value):
    row = Checkpoint.objects.order_by("id")[1]
    sql(f"UPDATE audit_log_checkpoint SET {column} = %s WHERE id = %s", value, row.pk)
    expected = [] if column == "created_at" else ["checkpoint"]
    assert [kind for kind, _ in kinds()] == expected


def test_deleted_checkpoints_leave_records_unsigned(short_ledger):
    """Nothing in the database tells deleted ones from ones never made: the number says so."""
    sql("DELETE FROM audit_log_checkpoint WHERE size > 3")
    result = verify()
    assert result.ok
    assert result.signed == {"default": 3}
    assert result.streams == {"default": 9}


def _roll_back(size: int, before: Stream) -> None:
    sql("DELETE FROM audit_log_record WHERE sequence >= %s", size)
    sql('DELETE FROM audit_log_tile WHERE ("index" + 1) * 256 > %s', size)
    sql(
        "UPDATE audit_log_stream SET size = %s, partial = %s, recorded_at = NULL",
        size,
        bytes(before.partial),
    )


@pytest.mark.parametrize("size", [5, 256, 300])
def test_ledger_rolled_back_is_not_signed_and_names_what_is_gone(size):
    a_long_stream(size)
    before = head()
    a_long_stream(400)
    checkpoints.sign_all()
    _roll_back(size, before)
    assert kinds() == [("missing", size)]
    with pytest.raises(ForkDetected, match=f"has {size} records"):
        checkpoints.sign_all()


def test_ledger_rolled_back_and_written_anew_is_not_signed():
    a_long_stream(5)
    before = head()
    a_long_stream(5)
    checkpoints.sign_all()
    _roll_back(5, before)
    a_long_stream(50)
    assert ("checkpoint", 0) in kinds()
    with pytest.raises(ForkDetected, match="does not extend"):
        checkpoints.sign_all()


def test_forked_stream_does_not_keep_the_others_from_being_signed():
    a_long_stream(5, "audit_log")
    a_long_stream(5, "default")
    checkpoints.sign_all()
    sql("UPDATE audit_log_stream SET partial = %s WHERE name = 'audit_log'", bytes(160))
    write([an_event()], "default")
    write([an_event()], "audit_log")
    with pytest.raises(ForkDetected, match="'audit_log'"):
        checkpoints.sign_all()
    assert newest().size == 6


def test_what_an_attacker_appends_with_all_hashes_is_an_append():
    """The limit: who may write to the ledger may append. Streams, roles and alerts are for that."""
    write([an_event()])
    checkpoints.sign_all()
    copy_of(0, an_event().id, 1)
    sql("UPDATE audit_log_stream SET size = 2")
    sql("UPDATE audit_log_stream SET partial = %s", bytes(head().partial) + true_leaf(1))
    assert verify().ok
    assert model_to_dict(head())["size"] == 2
