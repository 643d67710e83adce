"""What was archived, wherever the setting ARCHIVE says."""

from __future__ import annotations

from collections.abc import Iterator

from audit_log.conf import get_settings
from audit_log.conf.retention import Archive
from audit_log.models import ArchivePart
from audit_log.retention.parts import manifest_key
from audit_log.retention.stores import store_for
from audit_log.router import ledger_alias
from audit_log.testing.leaks.places import Piece, Place, files


def archive() -> Place:
    """Every part and manifest that the ledger knows; of a folder, every file.

    Of a bucket, what the ledger does not know (checkpoints, strangers) is not looked at.
    """

    def read() -> Iterator[Piece]:
        settings = get_settings()
        if not isinstance(settings.archive, Archive):
            return  # nowhere
        if settings.archive.scheme == "file":
            yield from files(settings.archive.place).read()
            return
        store = store_for(settings.archive, settings.archive_options)
        for part in ArchivePart.objects.using(ledger_alias()).exclude(key=""):
            for key, version in ((part.key, part.version_id), (manifest_key(part.key), "")):
                if store.exists(key, version or ""):
                    with store.open(key, version or "") as source:
                        yield key, source.read()

    return Place("the archive", read)
