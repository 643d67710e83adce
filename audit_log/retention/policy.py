"""What is to become of the records of a stream, and when."""

from __future__ import annotations

from datetime import datetime, timedelta

from audit_log.conf import get_settings
from audit_log.conf.retention import NONE, Archive, Retention
from audit_log.models import ArchivePart
from audit_log.retention.cutting import midnight
from audit_log.retention.stores import Store, store_for

NOT_SET = (
    'AUDIT_LOG["ARCHIVE"] is not set, so nothing is archived and nothing is purged. Set it to '
    '"s3://bucket/prefix" or "file:///folder", or to "none" to purge without an archive.'
)


def archive() -> Archive | None:
    """Where parts go, or None where there is no archive."""
    found = get_settings().archive
    return found if isinstance(found, Archive) else None


def address(place: Archive) -> str:
    """An archive as the settings name it."""
    return "/".join(filter(None, (f"{place.scheme}://{place.place}", place.prefix)))


def is_off() -> bool:
    """Whether nothing leaves the database."""
    return get_settings().archive is None


def without_archive() -> bool:
    """Whether records are purged without being archived, on record."""
    return get_settings().archive == NONE


def open_store() -> Store | None:
    """The archive's store, None without one. Raises ConfigurationError without its client."""
    place = archive()
    return None if place is None else store_for(place, get_settings().archive_options)


def ends_at(part: ArchivePart) -> datetime:
    """When the youngest record of a part happened; clocks that were ahead do not count."""
    return min(part.max_time, midnight(part.day) + timedelta(days=1))


def purge_before(stream: str, now: datetime) -> datetime:
    """What happened before this moment is to leave the database."""
    return now - get_settings().retention_of(stream).database


def in_words(found: Retention) -> str:
    """A retention, for people."""
    words = [f"{found.database.days} days in the database"]
    if archive() is not None:
        for period, what in ((found.cold, "cold after"), (found.delete, "deleted after")):
            words.append(f"{what} {period.days} days" if period else f"never {what.split()[0]}")
    return ", ".join(words)
