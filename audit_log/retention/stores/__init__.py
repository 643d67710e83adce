"""Where parts are kept: a folder or a bucket. A store never overwrites what it has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from importlib import import_module
from typing import BinaryIO, Final, Protocol

from audit_log.conf.retention import Archive, ArchiveOptions
from audit_log.exceptions import ConfigurationError

# By dotted path: a client library is imported only where its store is used.
_STORES: Final = {
    "file": "audit_log.retention.stores.directory.Directory",
    "s3": "audit_log.retention.stores.s3.Bucket",
}
_CLIENTS: Final = {"s3": ("boto3", "botocore")}


class Store(Protocol):
    """What the archive needs of a place. Keys are slash-separated; every method raises StoreError.

    `name` is the place as it is configured, without keys: `file:///folder` or `s3://bucket`.
    """

    @property
    def name(self) -> str: ...

    def put(self, key: str, source: BinaryIO, *, size: int, sha256: str) -> str:
        """Store `size` bytes whose SHA-256 (hex) is known; returns the version id, or "".

        `source` can be sought. Raises AlreadyThere where the key is taken, which after a lost
        answer may be by this very call: read back and compare.
        """

    def open(self, key: str, version_id: str = "") -> AbstractContextManager[BinaryIO]:
        """Give a readable stream over what is stored, in constant memory."""

    def names(self, folder: str) -> Iterator[str]:
        """What stands directly under a folder, by name; nothing where there is none."""

    def exists(self, key: str, version_id: str = "") -> bool:
        """Whether it can still be read: that version where one is named, else the newest."""


def store_for(archive: Archive, options: ArchiveOptions) -> Store:
    """The store that the settings name. Raises ConfigurationError without its client library."""
    module, _, name = _STORES[archive.scheme].rpartition(".")
    try:
        made: Store = getattr(import_module(module), name)(archive, options)
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in _CLIENTS.get(archive.scheme, ()):
            raise
        raise ConfigurationError(
            f'AUDIT_LOG["ARCHIVE"] is {archive.scheme}://…, which needs a package that is not '
            f"installed: pip install 'django-audit-ledger[{archive.scheme}]'"
        ) from error
    return made
