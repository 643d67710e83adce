"""Where a batch goes when its outbox refused it: an encrypted, fsynced file, replayed later.

A file is a sequence of frames `length(4) || crc32(4) || body`; the body is a JSON line that names
the database, a newline, and the encrypted batch. A torn tail is set aside, never guessed at.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import secrets
import struct
import threading
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from django.db import connections, transaction

from audit_log.conf import get_settings
from audit_log.exceptions import ConfigurationError
from audit_log.recording import losses, nudge, outbox

try:
    import fcntl
except ImportError:  # Windows has no fcntl; there a file is taken by renaming it
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger("audit_log")

_FRAME: Final = struct.Struct(">II")
SUFFIX: Final = ".spool"
TORN: Final = ".torn"
_lock = threading.Lock()
_run = secrets.token_hex(4)


def _after_fork() -> None:
    global _lock, _run  # noqa: PLW0603 - a child writes its own file under its own lock
    _lock = threading.Lock()
    _run = secrets.token_hex(4)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def folder() -> Path:
    """The spool folder, made 0700. Raises ConfigurationError when others could read or plant."""
    path = get_settings().spool_dir
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if hasattr(os, "getuid"):
        status = path.stat()
        if status.st_uid != os.getuid() or status.st_mode & 0o022:
            raise ConfigurationError(
                f"The spool folder {path} belongs to somebody else or others may write to it. "
                'Set AUDIT_LOG["SPOOL_DIR"] to a folder of this user, mode 0700.'
            )
    return path


def write(alias: str, rows: Sequence[outbox.Row]) -> None:
    """Append and fsync. If even that fails, the encrypted batch goes to the log as CRITICAL."""
    frames = b"".join(_frame(alias, row) for row in rows)
    try:
        _append(frames)
    except (OSError, ConfigurationError):
        losses.count("spool_failed", len(rows))
        for row in rows:
            logger.critical(
                "Neither the outbox of %r nor the spool took a batch of %d events. "
                "It follows, encrypted: %s",
                alias,
                row.event_count,
                base64.b64encode(row.payload).decode(),
                exc_info=True,
            )
        return
    losses.count("spooled", sum(row.event_count for row in rows))


def _frame(alias: str, row: outbox.Row) -> bytes:
    head = json.dumps({"alias": alias, "event_count": row.event_count}).encode()
    body = head + b"\n" + row.payload
    return _FRAME.pack(len(body), zlib.crc32(body)) + body


def _append(frames: bytes) -> None:
    with _lock:
        path = folder() / f"{os.getpid()}-{_run}{SUFFIX}"
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            if fcntl is not None:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not path.exists():  # replayed and removed while we waited for the lock
                os.close(descriptor)
                descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            view = memoryview(frames)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def waiting() -> list[Path]:
    """The spool files that wait to be replayed."""
    path = get_settings().spool_dir
    return sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else []


def replay() -> int:
    """Put every spooled batch into the outbox it was meant for. Returns how many batches.

    A file is removed only once its batches are committed; a crash in between repeats them, and the
    relay drops what it has already stored.
    """
    return sum(_replay_file(path) for path in waiting())


def _replay_file(path: Path) -> int:
    try:
        with path.open("r+b") as file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.fstat(file.fileno()).st_nlink:
                return 0  # replayed and removed while we opened it
            content = file.read()
            frames, whole = _parse(content)
            for alias, row in frames:
                with transaction.atomic(using=alias):
                    outbox.insert(connections[alias], [row])
            if whole < len(content):
                path.with_suffix(TORN).write_bytes(content[whole:])
                losses.count("spool_torn")
                logger.error("%s ends in %d torn bytes, set aside.", path, len(content) - whole)
            path.unlink()
    except BlockingIOError:
        return 0  # another process replays it
    except FileNotFoundError:
        return 0
    return len(frames)


def _parse(content: bytes) -> tuple[list[tuple[str, outbox.Row]], int]:
    """The whole frames, and how many bytes they take."""
    frames: list[tuple[str, outbox.Row]] = []
    whole = 0
    for body, end in _bodies(content):
        head, _, payload = body.partition(b"\n")
        meta = json.loads(head)
        frames.append((meta["alias"], outbox.Row(meta["event_count"], payload)))
        whole = end
    return frames, whole


def _bodies(content: bytes) -> Iterator[tuple[bytes, int]]:
    position = 0
    while position + _FRAME.size <= len(content):
        length, checksum = _FRAME.unpack_from(content, position)
        start = position + _FRAME.size
        body = content[start : start + length]
        if len(body) != length or zlib.crc32(body) != checksum:
            return
        position = start + length
        yield body, position


def _replay_apart() -> None:
    if waiting():
        try:
            replay()
        finally:
            connections.close_all()


nudge.on_tick(_replay_apart, every=60.0)
