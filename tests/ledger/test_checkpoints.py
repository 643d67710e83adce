"""When a head is signed, and what the signature says."""

from __future__ import annotations

import base64
import datetime

import pytest
from django.conf import settings
from django.db import connection
from django.test import override_settings

from audit_log.exceptions import ForkDetected, ImmutableRecord, InvalidProof
from audit_log.ledger import checkpoints, heads, notes
from audit_log.ledger.verification import verify
from audit_log.models import Checkpoint, Stream
from tests.ledger.building import a_long_stream, an_event, head, naive_root, sql, write

pytestmark = pytest.mark.django_db


def sizes() -> list[tuple[str, int]]:
    return list(Checkpoint.objects.order_by("id").values_list("stream", "size"))


def test_signed_note_says_the_size_and_the_root():
    a_long_stream(300)
    (row,) = checkpoints.sign_all()
    said = notes.open_note(row.note, [checkpoints.signing_key().verifier])
    assert said == notes.Checkpoint("tests/default", 300, naive_root())
    assert (row.size, row.root) == (300, naive_root().hex())
    assert checkpoints.last("default", "default") == row


def test_nothing_is_signed_twice():
    a_long_stream(3)
    assert len(checkpoints.sign_all()) == 1
    assert checkpoints.sign_all() == []
    assert sizes() == [("default", 3)]


def test_grown_stream_is_signed_again():
    for _ in range(3):
        a_long_stream(200)
        checkpoints.sign_all()
    assert sizes() == [("default", 200), ("default", 400), ("default", 600)]
    assert verify().signed == {"default": 600}


def test_idle_stream_is_signed_every_ten_minutes():
    a_long_stream(3)
    checkpoints.sign_all()
    field = Checkpoint._meta.get_field("created_at")
    ago = datetime.datetime.now(datetime.UTC) - checkpoints.IDLE
    raw = field.get_db_prep_save(ago, connection)
    sql("UPDATE audit_log_checkpoint SET created_at = %s", raw)
    assert [row.size for row in checkpoints.sign_all()] == [3]
    assert sizes() == [("default", 3), ("default", 3)]


def test_force_signs_what_has_not_grown():
    a_long_stream(3)
    checkpoints.sign_all()
    assert [row.size for row in checkpoints.sign_all(force=True)] == [3]
    assert verify().checkpoints == 2


@pytest.mark.parametrize("force", [True, False])
def test_empty_stream_is_not_signed(force):
    heads.ensure(["default"], "default")
    assert checkpoints.sign_all(force=force) == []


def test_every_stream_is_signed_under_its_own_origin():
    write([an_event()], "default")
    write([an_event()], "security")
    rows = checkpoints.sign_all()
    assert [row.note.split("\n")[0] for row in rows] == ["tests/default", "tests/security"]


@override_settings(AUDIT_LOG={"SERVICE": "my shop+more"})
def test_service_with_spaces_makes_a_key_name_the_format_holds():
    write([an_event()])
    (row,) = checkpoints.sign_all()
    assert row.note.startswith("my_shop_more/default\n")


def test_checkpoint_of_another_key_is_neither_extended_nor_trusted():
    write([an_event()])
    checkpoints.sign_all()
    write([an_event()])
    with override_settings(SECRET_KEY="another"), pytest.raises(ForkDetected, match="SIGNING_KEY"):
        checkpoints.sign_all()
    assert len(checkpoints.sign_all()) == 1


def test_note_is_not_opened_for_another_stream():
    write([an_event()])
    (row,) = checkpoints.sign_all()
    assert checkpoints.opened(row.note, "default").size == 1
    with pytest.raises(InvalidProof, match="tests/default"):
        checkpoints.opened(row.note, "security")


def test_ledger_that_does_not_extend_its_checkpoint_names_the_stream_and_what_to_do():
    a_long_stream(5)
    checkpoints.sign_all()
    before = Checkpoint.objects.count()
    Stream.objects.update(partial=bytes(6 * 32), size=6)
    with pytest.raises(ForkDetected, match="verify --stream default"):
        checkpoints.sign_all()
    assert Checkpoint.objects.count() == before


def test_ledger_can_be_signed_at_any_size():
    """Consistency with the last checkpoint is proved across full and partial tiles."""
    for size in (1, 1, 253, 1, 1, 254, 3):
        a_long_stream(size)
        checkpoints.sign_all()
    assert [size for _, size in sizes()] == [1, 2, 255, 256, 257, 511, 514]
    assert head().size == 514
    assert verify().signed == {"default": 514}


def test_checkpoints_are_append_only():
    """J6."""
    write([an_event()])
    (row,) = checkpoints.sign_all()
    row.size = 9
    with pytest.raises(ImmutableRecord):
        row.save()
    with pytest.raises(ImmutableRecord):
        row.delete()
    with pytest.raises(ImmutableRecord):
        Checkpoint.objects.update(size=9)
    with pytest.raises(ImmutableRecord):
        Checkpoint.objects.all().delete()


def test_checkpoints_of_the_secret_key_stay_valid_when_a_signing_key_or_a_new_secret_comes():
    a_long_stream(3)
    checkpoints.sign_all()
    key = base64.b64encode(b"s" * 32).decode()
    rotated = {"AUDIT_LOG": {**settings.AUDIT_LOG, "SIGNING_KEY": key}}
    with override_settings(**rotated):
        a_long_stream(3)
        assert len(checkpoints.sign_all()) == 1
        assert verify().ok
        moved = override_settings(SECRET_KEY="another", SECRET_KEY_FALLBACKS=[settings.SECRET_KEY])
        with moved:
            assert verify().ok
