"""System checks of the keys: made of SECRET_KEY, typed, used twice, or out of reach."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Final

from django.core.checks import CheckMessage, Error, Warning  # noqa: A004 - Django's names
from django.db import DatabaseError
from django.db.models import BinaryField, Count
from django.db.models.functions import Substr

from audit_log import conf
from audit_log.exceptions import ConfigurationError
from audit_log.models import DataKey
from audit_log.privacy.encryption import KEY_ID_AT, KEY_ID_BYTES, key_ring


def readable() -> bool:
    """Whether there are settings to check by; where not, E001 says so."""
    try:
        conf.get_settings()
    except ConfigurationError:
        return False
    return True


def check_wrapped_keys(**_: Any) -> list[CheckMessage]:
    """audit_log.E009: one of ENCRYPTION_KEYS is wrapped by AWS KMS, and boto3 is not installed."""
    keys = conf.get_settings().encryption_keys.values() if readable() else ()
    if find_spec("boto3") or not any(isinstance(key, conf.WrappedKey) for key in keys):
        return []
    return [
        Error(
            'AUDIT_LOG["ENCRYPTION_KEYS"] has a key that AWS KMS wrapped, but boto3 is not '
            "installed: nothing can be sealed or opened, so nothing is stored.",
            hint="pip install 'django-audit-ledger[kms]'",
            id="audit_log.E009",
        )
    ]


_PRINTABLE: Final = range(0x20, 0x7F)
_FEW_BYTES: Final = 16  # of 32 random ones, fewer than this differ once in 10**16 times


def check_made_up_keys(**_: Any) -> list[CheckMessage]:
    """audit_log.E010: one key serves two purposes. W009: a key looks typed, not random."""
    if not readable():
        return []
    settings = conf.get_settings()
    named: list[tuple[str, bytes]] = [
        (f"ENCRYPTION_KEYS.{name}", key)
        for name, key in settings.encryption_keys.items()
        if not isinstance(key, conf.WrappedKey)
    ]
    named += [("INDEX_KEY", key) for key in settings.index_key]
    named += [("SIGNING_KEY", key) for key in settings.signing_key]
    found: list[CheckMessage] = [
        Error(
            f'AUDIT_LOG["{first}"] and AUDIT_LOG["{second}"] are the same key: who learns one '
            "learns both.",
            hint="Make 32 random bytes for each: `manage.py audit_log rekey --new-key random`.",
            id="audit_log.E010",
        )
        for n, (first, key) in enumerate(named)
        for second, other in named[n + 1 :]
        if key == other
    ]
    found += [
        Warning(
            f'AUDIT_LOG["{name}"] looks as if somebody had typed it: it can be guessed.',
            hint="`manage.py audit_log rekey --new-key random` makes a random one.",
            id="audit_log.W009",
        )
        for name, key in named
        if len(set(key)) < _FEW_BYTES or all(byte in _PRINTABLE for byte in key)
    ]
    return found


def check_missing_keys(databases: Any = None, **_: Any) -> list[CheckMessage]:
    """audit_log.E011: what is stored is under a key that is not in ENCRYPTION_KEYS."""
    using = conf.get_settings().database if readable() else None
    if using is None or using not in (databases or ()):
        return []
    at = Substr("wrapped", KEY_ID_AT, KEY_ID_BYTES, output_field=BinaryField())
    rows = DataKey.objects.using(using).filter(wrapped__isnull=False).annotate(at=at)
    try:
        found = list(rows.order_by().values_list("at").annotate(n=Count("pk")))
    except DatabaseError:
        return []  # before the first migration
    ring = key_ring()
    return [
        Error(
            f"{number} data keys in {using!r} are wrapped by a key that is not in AUDIT_LOG"
            f'["ENCRYPTION_KEYS"] (fingerprint {bytes(id_).hex()}): what is sealed under them '
            "cannot be opened.",
            hint="Put that key back, behind the first. `manage.py audit_log rekey --dry-run` says "
            "what stands under which key.",
            id="audit_log.E011",
        )
        for id_, number in found
        if ring.name_of(bytes(id_)) is None
    ]


def check_keys(**_: Any) -> list[CheckMessage]:
    """audit_log.E005: no ENCRYPTION_KEYS in production. W003: no SIGNING_KEY or INDEX_KEY."""
    if not readable():
        return []
    settings = conf.get_settings()
    found: list[CheckMessage] = []
    if not settings.encryption_keys:
        found.append(
            Error(
                "AUDIT_LOG has no ENCRYPTION_KEYS, so the keys are made from SECRET_KEY: whoever "
                "knows one knows the other, and changing it makes the log unreadable.",
                hint="Make 32 random bytes in base64 and keep them apart from SECRET_KEY.",
                id="audit_log.E005",
            )
        )
    found += [
        Warning(
            f"AUDIT_LOG has no {key.upper()}, so it is made from SECRET_KEY and changes with it.",
            hint="Make 32 random bytes in base64.",
            id="audit_log.W003",
        )
        for key in ("index_key", "signing_key")
        if not getattr(settings, key)
    ]
    return found
