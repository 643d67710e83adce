"""A folder as a store: for one machine, or a share that is mounted."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from audit_log.conf.retention import Archive, ArchiveOptions
from audit_log.exceptions import AlreadyThere, StoreError

_CHUNK: Final = 1 << 20
_FOLDER_MODE: Final = 0o700
_FILE_MODE: Final = 0o600


class Directory:
    """Files under one folder, readable by their owner alone, each published whole or not at all."""

    def __init__(self, archive: Archive, options: ArchiveOptions | None = None) -> None:
        self._root = Path(archive.place)
        self.name = f"file://{self._root}"

    def put(self, key: str, source: BinaryIO, *, size: int, sha256: str) -> str:
        """Copy to a name of its own in the same folder, then link: no reader sees half a file."""
        path = self._path(key)
        with _explained(path):
            self._make(path.parent)
            if path.exists():
                raise AlreadyThere(f"{path} is there already; an archive is never overwritten.")
            temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
            try:
                _copy(source, temporary, size, sha256)
                os.link(temporary, path)  # a rename would replace what another run just put there
            except FileExistsError as error:
                raise AlreadyThere(
                    f"{path} is there already; an archive is never overwritten."
                ) from error
            finally:
                temporary.unlink(missing_ok=True)
            _sync(path.parent)
        return ""

    @contextmanager
    def open(self, key: str, version_id: str = "") -> Iterator[BinaryIO]:
        """The file itself."""
        path = self._path(key)
        with _explained(path):
            file = path.open("rb")
        with file:
            yield file

    def names(self, folder: str) -> Iterator[str]:
        """The files of the folder that are published."""
        path = self._path(folder)
        with _explained(path):
            found = sorted(path.iterdir()) if path.is_dir() else []
        yield from (each.name for each in found if not each.name.startswith("."))

    def exists(self, key: str, version_id: str = "") -> bool:
        """Whether the file is there."""
        path = self._path(key)
        with _explained(path):
            return path.is_file()

    def _path(self, key: str) -> Path:
        segments = key.split("/")
        if any(s in {"", ".", ".."} or "\0" in s or "\\" in s for s in segments):
            raise StoreError(f"{key!r} is no key of {self.name}: it would lead somewhere else.")
        path = self._root.joinpath(*segments)
        if not path.resolve().is_relative_to(self._root.resolve()):
            raise StoreError(f"{key!r} leads out of {self.name} by a symbolic link: remove it.")
        return path

    def _make(self, folder: Path) -> None:
        """The folder and those above it. A folder is there for good once its parent is synced."""
        if folder.is_dir():
            return
        self._make(folder.parent)
        folder.mkdir(mode=_FOLDER_MODE, exist_ok=True)
        _sync(folder.parent)


def _copy(source: BinaryIO, target: Path, size: int, sha256: str) -> None:
    """Write a new file and wait for the disk. Raises StoreError for other bytes than promised."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    digest, written = hashlib.sha256(), 0
    with os.fdopen(os.open(target, flags, _FILE_MODE), "wb") as file:
        while chunk := source.read(_CHUNK):
            file.write(chunk)
            digest.update(chunk)
            written += len(chunk)
        file.flush()
        os.fsync(file.fileno())
    if (written, digest.hexdigest()) != (size, sha256):
        raise StoreError(
            f"{target.parent} was given {written} bytes (SHA-256 {digest.hexdigest()}) instead of "
            f"{size} ({sha256}): the source changed meanwhile. Nothing was stored."
        )


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise StoreError(f"{path} is not there: it was moved or deleted.") from error
    except OSError as error:
        raise StoreError(
            f"{path}: {error.strerror or error}. Nothing is half written; free space or correct "
            "the folder's owner, and the next run goes on from here."
        ) from error
