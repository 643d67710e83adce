"""Somebody passes deleted records off as purged, or hides what was purged."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from audit_log.delivery.relay import relay
from audit_log.exceptions import ForkDetected
from audit_log.ledger import checkpoints
from audit_log.ledger.verification import verify
from audit_log.models import Outbox, Record
from audit_log.retention import archive, purge
from tests.ledger.building import an_event, copy_of, head, sql, write
from tests.retention.old_records import days

pytestmark = pytest.mark.django_db

OLD = 300  # a full tile of these, and a part of the next


@pytest.fixture
def archived(settings: Any, tmp_path: Path) -> None:
    """Old records that may go, and young ones."""
    policy = {"ARCHIVE": f"file://{tmp_path / 'archive'}", "RETENTION": {"database": "30d"}}
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, **policy}
    days((40, OLD), (0, 300))
    assert archive.run().failures == []
    assert verify().ok


@pytest.fixture
def purged(archived: None) -> None:
    """The old ones are gone, as they should be."""
    purge.run(override_brake=True)
    relay()
    checkpoints.sign_all()
    assert verify().ok


def kinds(stream: str | None = None) -> list[tuple[str, str, int | None]]:
    return [(f.stream, f.kind, f.sequence) for f in verify(stream=stream).findings]


def delete_old(count: int = OLD) -> None:
    sql("DELETE FROM audit_log_record WHERE stream = 'default' AND sequence < %s", count)


def say_purged(count: int) -> None:
    sql("UPDATE audit_log_stream SET purged = %s WHERE name = 'default'", count)


@pytest.mark.usefixtures("archived")
@pytest.mark.parametrize("tiles_too", [False, True])
@pytest.mark.parametrize("count", [1, 255, 256, OLD])
def test_deleted_records_passed_off_as_purged_are_found(count, tiles_too):
    delete_old(count)
    say_purged(count)
    if tiles_too:
        sql('DELETE FROM audit_log_tile WHERE ("index" + 1) * 256 <= %s', count)
    assert kinds() == [("default", "missing", 0)]
    assert kinds("default") == [("default", "missing", 0)]
    assert "no purge is on record" in verify().findings[0].message


@pytest.mark.usefixtures("archived")
def test_deleted_records_are_named_while_the_head_says_nothing():
    delete_old(2)
    assert kinds() == [("default", "missing", 0), ("default", "missing", 1)]


@pytest.mark.usefixtures("archived")
def test_part_marked_as_purged_by_hand_accounts_for_nothing():
    delete_old()
    say_purged(OLD)
    sql("UPDATE audit_log_archivepart SET state = 'purged', purged_through = %s", OLD)
    assert kinds() == [("default", "missing", 0)]


@pytest.mark.usefixtures("archived")
def test_boundary_raised_over_records_that_are_there_is_found():
    say_purged(2)
    assert ("default", "missing", 0) in kinds()
    assert ("default", "extra", 1) in kinds()


@pytest.mark.usefixtures("purged")
def test_more_records_deleted_behind_a_purge_are_found():
    delete_old(OLD + 2)
    assert kinds() == [("default", "missing", OLD), ("default", "missing", OLD + 1)]
    say_purged(OLD + 2)
    assert kinds() == [("default", "missing", OLD)]


@pytest.mark.usefixtures("purged")
@pytest.mark.parametrize("said", [0, 100, OLD - 1])
def test_boundary_lowered_below_a_purge_is_found(said):
    say_purged(said)
    assert kinds() == [("default", "head", None)]


@pytest.mark.usefixtures("purged")
@pytest.mark.parametrize("said", [-1, 10_000])
def test_boundary_that_cannot_be_is_found(said):
    say_purged(said)
    assert ("default", "head", None) in kinds()
    assert len(kinds()) <= 2


@pytest.mark.usefixtures("purged")
def test_record_slipped_in_among_the_purged_is_found():
    copy_of(OLD, an_event().id, 7)
    assert kinds() == [("default", "extra", 7)]


@pytest.mark.usefixtures("purged")
@pytest.mark.parametrize("sequence", [OLD, 511, 599])
def test_altered_record_behind_a_purge_is_named(sequence):
    sql(
        "UPDATE audit_log_record SET action = 'login' WHERE stream = 'default' AND sequence = %s",
        sequence,
    )
    assert kinds() == [("default", "altered", sequence)]


@pytest.mark.usefixtures("purged")
def test_record_of_the_purge_cannot_be_deleted_unseen():
    sql("DELETE FROM audit_log_record WHERE action = 'audit_log.purged'")
    found = kinds()
    assert ("default", "missing", 0) in found
    assert any(stream == "audit_log" and kind == "missing" for stream, kind, _ in found)


@pytest.mark.usefixtures("purged")
def test_record_of_the_purge_cannot_be_altered_to_cover_more():
    """Also where only the stream it speaks of is verified."""
    _overwrite_boundary(OLD + 5)
    delete_old(OLD + 5)
    say_purged(OLD + 5)
    assert ("default", "missing", 0) in kinds("default")
    assert any(stream == "audit_log" and kind == "altered" for stream, kind, _ in kinds())


def _overwrite_boundary(boundary: int) -> None:
    row = Record.objects.get(action="audit_log.purged")
    assert row.data is not None
    data = {**row.data, "boundaries": {"audit_log": 0, "default": boundary}}
    sql("UPDATE audit_log_record SET data = %s WHERE action = 'audit_log.purged'", json.dumps(data))


@pytest.mark.usefixtures("archived")
def test_record_of_a_purge_that_was_never_appended_accounts_for_nothing():
    """A row put into the table beside the tree."""
    write([an_event(action="audit_log.purged", data={"boundaries": {"default": 0}})], "audit_log")
    _overwrite_boundary(OLD)
    sql("UPDATE audit_log_record SET sequence = 999 WHERE action = 'audit_log.purged'")
    delete_old()
    say_purged(OLD)
    assert ("default", "missing", 0) in kinds("default")
    assert ("audit_log", "extra", 999) in kinds()


@pytest.mark.usefixtures("archived")
def test_batch_of_a_purge_that_our_key_did_not_seal_accounts_for_nothing():
    said = b'{"version":1,"events":[]}'
    Outbox.objects.create(created_at=datetime.now(UTC), event_count=1, payload=said)
    delete_old()
    say_purged(OLD)
    assert ("default", "missing", 0) in kinds()


@pytest.mark.usefixtures("purged")
def test_tree_above_what_was_purged_cannot_be_altered():
    """What is left of the purged records is in the root, and the root is signed."""
    partial = bytearray(head().partial)
    assert len(partial) == (600 - 512 + 2) * 32
    partial[-64] ^= 1  # the hash over the first 256 records
    sql("UPDATE audit_log_stream SET partial = %s WHERE name = 'default'", bytes(partial))
    assert any(kind == "checkpoint" for _, kind, _ in kinds())
    write([an_event()])
    with pytest.raises(ForkDetected):
        checkpoints.sign_all()


@pytest.mark.usefixtures("purged")
def test_lost_tile_at_the_boundary_is_found():
    sql("DELETE FROM audit_log_tile WHERE stream = 'default' AND level = 0")
    assert ("default", "tile", None) in kinds()


@pytest.mark.usefixtures("purged")
def test_checkpoint_of_the_purged_with_another_root_is_found():
    """Signed with the key: a second history."""
    from audit_log.ledger import notes
    from audit_log.models import Checkpoint

    root = bytes(32)
    said = notes.Checkpoint(checkpoints.origin_of("default"), 256, root)
    Checkpoint.objects.create(
        stream="default",
        size=256,
        root=root.hex(),
        note=notes.sign(said, [checkpoints.signing_key()]),
        created_at=datetime.now(UTC),
    )
    assert kinds() == [("default", "checkpoint", 256)]
