"""The spool, in one process."""

from __future__ import annotations

import base64
import fcntl
import logging
import os
import stat
from pathlib import Path

import pytest
from django.db import connections

from audit_log import context
from audit_log.delivery.relay import relay
from audit_log.events import decode_batch
from audit_log.exceptions import ConfigurationError
from audit_log.models import Outbox
from audit_log.privacy.encryption import key_ring
from audit_log.recording import losses, outbox, spool

pytestmark = pytest.mark.usefixtures("own_files")


@pytest.fixture
def own_files(monkeypatch: pytest.MonkeyPatch, spool_dir: Path) -> None:
    monkeypatch.setattr(spool, "_own", spool._Own())
    monkeypatch.setattr(losses, "_warned", {})


def _batch(reason: str = "why") -> outbox.Row:
    (row,) = outbox.rows_of([context.new_event("probe.spooled", source="explicit", reason=reason)])
    return row


def _reasons() -> list[str | None]:
    ring = key_ring()
    return [
        event.reason
        for row in Outbox.objects.order_by("id")
        for event in decode_batch(ring.decrypt(outbox.PURPOSE, bytes(row.payload)))
    ]


@pytest.mark.django_db
def test_batches_are_replayed_in_order_and_the_file_is_gone():
    for n in range(3):
        spool.write("default", [_batch(str(n))])
    assert len(spool.waiting()) == 1
    assert spool.replay() == 3
    assert _reasons() == ["0", "1", "2"]
    assert spool.waiting() == []
    assert spool.replay() == 0


@pytest.mark.parametrize("flipped", [0, 3, 5, 8, 40])
@pytest.mark.django_db
def test_altered_byte_ends_what_is_replayed(flipped: int, spool_dir: Path, caplog):
    """spool_torn: length, checksum, head and payload of the second of three."""
    for n in range(3):
        spool.write("default", [_batch(str(n))])
    (path,) = spool.waiting()
    content = bytearray(path.read_bytes())
    first = next(end for _, end in spool._bodies(bytes(content)))
    content[first + flipped] ^= 1
    path.write_bytes(content)
    with caplog.at_level(logging.ERROR, "audit_log"):
        assert spool.replay() == 1
    assert _reasons() == ["0"]
    assert spool.waiting() == []
    (torn,) = spool_dir.glob(f"*{spool.TORN}")
    assert torn.read_bytes() == content[first:]
    assert "set aside" in caplog.text


@pytest.mark.parametrize("tail", [b"\0" * 64, b"\0\0\0\x02", spool._FRAME.pack(2, 0x0F0A_7B33)])
@pytest.mark.django_db
def test_what_a_power_cut_leaves_behind_is_no_batch(tail: bytes, spool_dir: Path):
    spool.write("default", [_batch("whole")])
    (path,) = spool.waiting()
    path.write_bytes(path.read_bytes() + tail)
    assert spool.replay() == 1
    assert _reasons() == ["whole"]
    assert [torn.read_bytes() for torn in spool_dir.glob(f"*{spool.TORN}")] == [tail]


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_folder_that_others_may_write_to_is_refused(mode: int, spool_dir: Path, caplog):
    spool_dir.mkdir()
    spool_dir.chmod(mode)
    with pytest.raises(ConfigurationError, match="SPOOL_DIR"):
        spool.folder()
    with caplog.at_level(logging.CRITICAL, "audit_log"):
        spool.write("default", [_batch()])
    assert "It follows, encrypted" in caplog.text
    assert spool.waiting() == []
    (spool_dir / f"planted{spool.SUFFIX}").touch()
    with pytest.raises(ConfigurationError):
        spool.replay()


@pytest.mark.skipif(os.getuid() != 0, reason="Only root can give a folder away.")
def test_folder_of_somebody_else_is_refused(spool_dir: Path):
    spool_dir.mkdir(mode=0o700)
    os.chown(spool_dir, 12345, -1)
    with pytest.raises(ConfigurationError, match="belongs to somebody else"):
        spool.folder()


@pytest.mark.skipif(os.getuid() != 0, reason="Only root can give a link away.")
def test_link_of_somebody_else_is_refused(spool_dir: Path, tmp_path: Path):
    ours = tmp_path / "ours"
    ours.mkdir(mode=0o700)
    spool_dir.symlink_to(ours)
    assert spool.folder() == spool_dir
    os.chown(spool_dir, 12345, -1, follow_symlinks=False)
    with pytest.raises(ConfigurationError):
        spool.folder()


@pytest.mark.django_db
def test_planted_files_stop_no_relay(spool_dir: Path, caplog):
    with context.changed():
        outbox.insert(connections["default"], [_batch("in the outbox")])
    spool_dir.mkdir()
    spool_dir.chmod(0o777)
    (spool_dir / f"planted{spool.SUFFIX}").write_bytes(b"whatever")
    with caplog.at_level(logging.ERROR, "audit_log"):
        assert relay().events == 1
    assert "cannot be written now" in caplog.text


@pytest.mark.parametrize("trouble", ["a file in its place", "a full disk"])
def test_batch_that_cannot_be_spooled_is_in_the_log_encrypted(
    trouble: str, spool_dir: Path, caplog
):
    if trouble == "a file in its place":
        spool_dir.touch()
    else:
        spool_dir.mkdir(mode=0o700)
        (spool_dir / spool._own.name("default")).symlink_to("/dev/full")
    with caplog.at_level(logging.CRITICAL, "audit_log"):
        spool.write("default", [_batch("nobody may read this")])
    (record,) = caplog.records
    assert record.levelno == logging.CRITICAL
    message = record.getMessage()
    assert "nobody may read this" not in message
    payload = base64.b64decode(message.rpartition(": ")[2])
    (event,) = decode_batch(key_ring().decrypt(outbox.PURPOSE, payload))
    assert event.reason == "nobody may read this"


@pytest.mark.django_db
def test_writer_does_not_wait_for_a_reader():
    spool.write("default", [_batch("first")])
    (path,) = spool.waiting()
    with path.open("r+b") as reader:
        fcntl.flock(reader, fcntl.LOCK_EX)
        spool.write("default", [_batch("second")])
        assert len(spool.waiting()) == 2
        assert spool.replay() == 1  # the other is being read
    assert spool.replay() == 1
    assert sorted(filter(None, _reasons())) == ["first", "second"]


@pytest.mark.django_db
def test_replayed_file_is_not_written_to_again():
    spool.write("default", [_batch("first")])
    spool.replay()
    spool.write("default", [_batch("second")])
    assert spool.replay() == 1
    assert _reasons() == ["first", "second"]


@pytest.mark.django_db
def test_full_file_is_followed_by_another(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(spool, "_MAX_FILE_BYTES", 500)
    for n in range(4):
        spool.write("default", [_batch(str(n) * 200)])
    assert len(spool.waiting()) > 1
    assert spool.replay() == 4


@pytest.mark.django_db
def test_database_that_is_gone_holds_up_no_other():
    spool.write("was_removed", [_batch("stranded")])
    spool.write("default", [_batch("fine")])
    assert spool.replay() == 1
    assert _reasons() == ["fine"]
    assert len(spool.waiting()) == 1
    assert losses.counts()["replay_failed"] >= 1


def test_modes_hold_whatever_the_umask(spool_dir: Path):
    old = os.umask(0)
    try:
        spool.write("default", [_batch()])
    finally:
        os.umask(old)
    assert stat.S_IMODE(spool_dir.stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in spool.waiting()] == [0o600]
