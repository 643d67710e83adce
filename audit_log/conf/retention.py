"""How long records stay where, and which archive they go to: read, and nonsense refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from itertools import pairwise
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from audit_log.exceptions import ConfigurationError

_PERIOD: Final = re.compile(r"([0-9]{1,5})d")
_LONGEST: Final = timedelta(days=99_999)
# Names are columns of ArchivePart, of 255 characters: the key of a part takes up to 135 of them.
_MAX_PREFIX: Final = 120
_MAX_PLACE: Final = 240
_BUCKET: Final = re.compile(r"[A-Za-z0-9._-]{3,240}")
NONE: Final = "none"
_FROZEN: Final = frozenset({"GLACIER", "DEEP_ARCHIVE"})  # restoring takes hours
STREAMS: Final = ("default", "audit_log")  # those there are until streams can be routed to


@dataclass(frozen=True, slots=True)
class Retention:
    """Ages, counted from when a thing happened: when it leaves the database, and so on.

    `cold` and `delete` are about the archived part; None is never.
    """

    database: timedelta = timedelta(days=90)
    cold: timedelta | None = timedelta(days=180)
    delete: timedelta | None = timedelta(days=365)


# PCI DSS 4.0, 10.5.1: twelve months, the last three at hand. HIPAA, 45 CFR 164.316(b)(2)(i): six
# years. A month more, as nothing may be gone on the last day.
PROFILES: Final[Mapping[str, Retention]] = {
    "pci": Retention(timedelta(days=92), timedelta(days=180), timedelta(days=396)),
    "hipaa": Retention(timedelta(days=180), timedelta(days=365), timedelta(days=2222)),
}


@dataclass(frozen=True, slots=True)
class Archive:
    """Where parts go: `scheme` is file or s3; `place` a folder or a bucket."""

    scheme: str
    place: str
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class ArchiveOptions:
    """How to reach S3. Credentials come from boto3's own chain, never from here.

    `endpoint` is for stores other than AWS; `kms` a key id for SSE-KMS (else SSE-S3);
    `storage_class` what parts are written as.
    """

    endpoint: str | None = None
    region: str | None = None
    kms: str | None = None
    storage_class: str | None = None
    path_style: bool = False


def retention(key: str, value: Any, base: Retention | None = None) -> Retention:
    """A profile's name, or periods such as {"database": "90d"} over the defaults.

    Raises ConfigurationError for what makes no sense: zero, or deleting before archiving.
    """
    if isinstance(value, str):
        if value not in PROFILES:
            raise ConfigurationError(
                f'AUDIT_LOG["{key}"] must be one of {", ".join(map(repr, PROFILES))} or a dict of '
                f'periods such as {{"database": "90d"}}, not {value!r}.'
            )
        return PROFILES[value]
    known = [item.name for item in fields(Retention)]
    if not isinstance(value, Mapping) or set(value) - set(known):
        raise ConfigurationError(
            f'AUDIT_LOG["{key}"] must be a dict with some of {", ".join(known)}, not {value!r}.'
        )
    base = base or Retention()
    periods: dict[str, Any] = {name: getattr(base, name) for name in known}
    periods |= {name: _period(f"{key}.{name}", period) for name, period in value.items()}
    return _sensible(key, Retention(**periods))


def _period(key: str, value: Any) -> timedelta | None:
    if value is None and not key.endswith(".database"):
        return None
    if isinstance(value, str) and (match := _PERIOD.fullmatch(value)):
        value = timedelta(days=int(match[1]))
    if not isinstance(value, timedelta):
        raise ConfigurationError(f'AUDIT_LOG["{key}"] must be days such as "90d", not {value!r}.')
    if not timedelta(days=1) <= value <= _LONGEST:
        raise ConfigurationError(
            f'AUDIT_LOG["{key}"] must be one day at least, {_LONGEST.days} at most, not {value!r}.'
        )
    return value


def _sensible(key: str, found: Retention) -> Retention:
    order = [("database", found.database), ("cold", found.cold), ("delete", found.delete)]
    given = [(name, period) for name, period in order if period is not None]
    for (earlier, before), (later, after) in pairwise(given):
        if before > after:
            raise ConfigurationError(
                f'AUDIT_LOG["{key}"]: {later} ({after.days}d) comes before {earlier} '
                f"({before.days}d). Records leave the database, then their part goes cold, then "
                "it is deleted."
            )
    return found


def streams(key: str, value: Any) -> Mapping[str, Mapping[str, Any]]:
    """{stream: {"retention": …}} for the streams there are."""
    if not isinstance(value, Mapping):
        raise ConfigurationError(f'AUDIT_LOG["{key}"] must be a dict by stream, not {value!r}.')
    for name, options in value.items():
        if name not in STREAMS:
            raise ConfigurationError(
                f'AUDIT_LOG["{key}"] names the stream {name!r}; there are {", ".join(STREAMS)}. '
                "Streams of your own cannot be routed to yet."
            )
        if not isinstance(options, Mapping) or set(options) - {"retention"}:
            raise ConfigurationError(
                f'AUDIT_LOG["{key}"]["{name}"] must be {{"retention": …}}, not {options!r}.'
            )
    return value


def archive(key: str, value: Any) -> Archive | str | None:
    """None (nothing leaves), "none" (purge without an archive), or where parts go."""
    if value is None or value == NONE:
        return value  # type: ignore[no-any-return]
    found = _place(value) if isinstance(value, str) else None
    if found is None:
        raise ConfigurationError(
            f'AUDIT_LOG["{key}"] must be None, "none", "s3://bucket/prefix" or "file:///folder", '
            f"not {value!r}. In a path, ? and # are written %3F and %23."
        )
    if len(found.place) > _MAX_PLACE or len(found.prefix) > _MAX_PREFIX:
        raise ConfigurationError(
            f'AUDIT_LOG["{key}"] is too long: {_MAX_PREFIX} characters behind a bucket, and '
            f"{_MAX_PLACE} for a folder, are the most."
        )
    return found


def _place(url: str) -> Archive | None:
    """What a URL names, or None where that is not one place whoever reads it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    path = unquote(parts.path)
    if "?" in url or "#" in url or "\0" in path:
        return None
    if parts.scheme == "s3" and _BUCKET.fullmatch(parts.netloc):
        prefix = parts.path.strip("/")
        odd = prefix and {"", ".", ".."} & set(prefix.split("/"))
        return None if odd else Archive("s3", parts.netloc, prefix)
    # A relative one would be another folder for each process, by where it was started.
    if parts.scheme == "file" and not parts.netloc and path.startswith("/") and path.strip("/."):
        return Archive("file", path)
    return None


def archive_options(key: str, value: Any) -> ArchiveOptions:
    """What ArchiveOptions has, by name."""
    known = {item.name: item for item in fields(ArchiveOptions)}
    if not isinstance(value, Mapping) or set(value) - set(known):
        raise ConfigurationError(
            f'AUDIT_LOG["{key}"] must be a dict with some of {", ".join(known)}, not {value!r}.'
        )
    for name, option in value.items():
        wanted: type = bool if name == "path_style" else str
        if not isinstance(option, wanted) or option == "":
            raise ConfigurationError(f'AUDIT_LOG["{key}"]["{name}"] cannot be {option!r}.')
    if not _is_url(value.get("endpoint", "https://s3")):
        raise ConfigurationError(
            f'AUDIT_LOG["{key}"]["endpoint"] must be such as "https://minio.example:9000", not '
            f"{value['endpoint']!r}."
        )
    if (storage := value.get("storage_class")) in _FROZEN:
        raise ConfigurationError(
            f'AUDIT_LOG["{key}"]["storage_class"] cannot be {storage!r}: a part is read back '
            "before its records leave the database. Write to a readable class such as GLACIER_IR, "
            "and let a lifecycle rule of the bucket move parts on."
        )
    return ArchiveOptions(**value)


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, brackets that do not close
        return False
