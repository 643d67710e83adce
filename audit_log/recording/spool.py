"""Where a batch goes when its outbox refused it: an encrypted, fsynced file, replayed later.

A file is a sequence of frames `length(4) || crc32(4) || body`; the body is a JSON line that names
the database, a newline, and the encrypted batch. A torn tail is set aside, never guessed at. Each
process writes files of its own, one for each database, and nobody waits for a file: one that is
being replayed is left to its reader, and the next batch begins another.
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

from audit_log import forks
from audit_log.conf import get_settings
from audit_log.exceptions import ConfigurationError
from audit_log.recording import losses, nudge, outbox

try:
    import fcntl
except ImportError:  # Windows: there, only one process may use a folder
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger("audit_log")

_FRAME: Final = struct.Struct(">II")
SUFFIX: Final = ".spool"
TORN: Final = ".torn"
_MAX_FILE_BYTES: Final = 16 * 1024 * 1024  # a file is replayed in one piece
_TRIES: Final = 10
_REPLAY_SECONDS: Final = 60.0


class _Own:
    """The files this process writes. Made anew after a fork: the parent goes on with its own."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._prefix = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._count = 0
        self._names: dict[str, str] = {}

    def name(self, alias: str) -> str:
        """The file for batches of a database."""
        if alias not in self._names:
            self._names[alias] = f"{self._prefix}-{self._count}{SUFFIX}"
            self._count += 1
        return self._names[alias]

    def leave(self, alias: str) -> None:
        """Begin another file with the next batch."""
        self._names.pop(alias, None)


_own = _Own()


def _after_fork() -> None:
    global _own  # noqa: PLW0603 - a child writes its own files under its own lock
    _own = _Own()


forks.on_fork(_after_fork)


def folder() -> Path:
    """The spool folder, made 0700. Raises ConfigurationError where others could plant files."""
    path = get_settings().spool_dir
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if hasattr(os, "getuid"):
        status = path.stat()
        # A link that somebody else made could lead anywhere.
        strangers = {status.st_uid} - {os.getuid()} | {path.lstat().st_uid} - {os.getuid(), 0}
        if strangers or status.st_mode & 0o022:
            raise ConfigurationError(
                f"The spool folder {path} belongs to somebody else or others may write to it. "
                'Set AUDIT_LOG["SPOOL_DIR"] to a folder of this user, mode 0700.'
            )
    return path


def write(alias: str, rows: Sequence[outbox.Row]) -> None:
    """Append and fsync. If even that fails, the encrypted batch goes to the log as CRITICAL.

    Never raises: the change is committed, and its caller must not be told otherwise.
    """
    try:
        _append(alias, b"".join(_frame(alias, row) for row in rows))
    except Exception:
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


def _append(alias: str, frames: bytes) -> None:
    with _own.lock:
        descriptor = _open(alias)
        try:
            _write_whole(descriptor, frames)
        except OSError:
            _own.leave(alias)  # whatever is in it now, nothing good shall follow it
            raise
        finally:
            os.close(descriptor)


def _open(alias: str) -> int:
    """A file of ours that nobody replays, locked."""
    place = folder()
    for _ in range(_TRIES):
        path = place / _own.name(alias)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            if _take(descriptor):
                return descriptor
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)
        _own.leave(alias)
    raise BlockingIOError(f"No file in {place} could be locked.")


def _take(descriptor: int) -> bool:
    """Lock a file to append to. False where it is full, or somebody else's by now."""
    if not _lock(descriptor):
        return False
    status = os.fstat(descriptor)
    # Without a name it was replayed and removed since we opened it.
    return bool(status.st_nlink) and status.st_size < _MAX_FILE_BYTES


def _lock(descriptor: int) -> bool:
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write_whole(descriptor: int, frames: bytes) -> None:
    """All of it, on the disk, or nothing."""
    size = os.fstat(descriptor).st_size
    try:
        view = memoryview(frames)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, size)
        raise
    if not size:
        _sync_folder()


def _sync_folder() -> None:
    """A new file outlives a power cut only once its folder is on the disk as well."""
    descriptor = os.open(get_settings().spool_dir, os.O_RDONLY)
    try:
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
    relay drops what it has already stored. A file whose database does not take it stays, and holds
    up no other. Raises ConfigurationError where others could have planted files.
    """
    paths = waiting()
    if not paths:
        return 0
    folder()
    replayed = 0
    refusing: set[str] = set()
    for path in paths:
        try:
            with path.open("r+b") as file:
                # Not locked: another process replays it, or its owner appends to it right now.
                if _lock(file.fileno()) and os.fstat(file.fileno()).st_nlink:
                    replayed += _replay_file(path, file.read(), refusing)
        except FileNotFoundError:
            continue
    return replayed


def _replay_file(path: Path, content: bytes, refusing: set[str]) -> int:
    alias, rows, whole = _parse(content)
    if alias in refusing:
        return 0
    if rows:
        try:
            with transaction.atomic(using=alias):
                for row in rows:
                    outbox.insert(connections[alias], [row])
        except Exception:  # noqa: BLE001 - it stays where it is; the next may go elsewhere
            refusing.add(alias)
            losses.warn("replay_failed", "%r does not take what was spooled for it.", alias)
            return 0
    if whole < len(content):
        _set_aside(path.with_suffix(TORN), content[whole:])
        losses.count("spool_torn")
        logger.error("%s ends in %d torn bytes, set aside.", path, len(content) - whole)
    path.unlink()
    return len(rows)


def _set_aside(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def _parse(content: bytes) -> tuple[str, list[outbox.Row], int]:
    """The database, the batches of the whole frames, and how many bytes these take."""
    rows: list[outbox.Row] = []
    alias, whole = "", 0
    for body, end in _bodies(content):
        head, _, payload = body.partition(b"\n")
        try:
            meta = json.loads(head)
            row = outbox.Row(int(meta["event_count"]), payload)
        except (ValueError, KeyError, TypeError):
            break  # no frame of ours, although its checksum holds
        if alias not in {"", meta["alias"]}:
            break
        alias = meta["alias"]
        rows.append(row)
        whole = end
    return alias, rows, whole


def _bodies(content: bytes) -> Iterator[tuple[bytes, int]]:
    position = 0
    while position + _FRAME.size <= len(content):
        length, checksum = _FRAME.unpack_from(content, position)
        start = position + _FRAME.size
        body = content[start : start + length]
        # A power cut can leave zeros, and those would be an empty frame with the right checksum.
        if not length or len(body) != length or zlib.crc32(body) != checksum:
            return
        position = start + length
        yield body, position


def _replay_apart() -> None:
    if not waiting():
        return
    try:
        if replay():
            nudge.wake()
    finally:
        connections.close_all()  # the thread keeps no database session between rounds


nudge.on_tick(_replay_apart, every=_REPLAY_SECONDS)
