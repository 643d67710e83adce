"""The settings of this app: one typed, frozen object, and the only reader of Django's settings.

Every key of `settings.AUDIT_LOG` is optional; an unknown key is refused by name. The object is
rebuilt when a test overrides the setting.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from django.conf import settings as django_settings
from django.core.signals import setting_changed

from audit_log.conf import alerts as _alerts
from audit_log.conf import requests as _requests
from audit_log.conf import retention as _retention
from audit_log.conf.alerts import AlertRule
from audit_log.conf.requests import Asked, Network
from audit_log.conf.retention import Archive, ArchiveOptions, Retention
from audit_log.exceptions import ConfigurationError

KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What `settings.AUDIT_LOG` says, with the defaults filled in.

    Names are those of the keys in lower case. The last four come from Django's own settings.
    """

    service: str = ""
    enabled: bool = True
    models: tuple[str, ...] = ("*",)
    model_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    exclude_models: tuple[str, ...] = ()
    open_fields: tuple[str, ...] = ()
    sealed_fields: tuple[str, ...] = ()
    mask_fields: tuple[str, ...] = ()
    exclude_fields: tuple[str, ...] = ()
    mask_keys: tuple[str, ...] = ()
    safe_keys: tuple[str, ...] = ()
    detectors: tuple[str, ...] = ()
    requests: str = "notable"
    request_body: str = "redacted"
    exclude_paths: tuple[str | re.Pattern[str], ...] = ()
    exclude_requests: tuple[Asked, ...] = ()
    trusted_proxies: int | tuple[Network, ...] | None = 0
    request_id_header: str = "X-Request-ID"
    request_id: Asked | None = None
    tenant: Asked | None = None
    on_failure: str = "allow"
    bulk_rows: int = 1000
    spool_dir: Path = Path()
    database: str = "default"
    queue: str | None = None
    archive: Archive | str | None = None
    archive_options: ArchiveOptions = field(default_factory=ArchiveOptions)
    retention: Retention = field(default_factory=Retention)
    streams: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    alerts: tuple[AlertRule, ...] = (_alerts.MASS_DELETE,)
    encryption_keys: Mapping[str, bytes] = field(default_factory=dict)
    kms_key: str | None = None
    index_key: tuple[bytes, ...] = ()
    signing_key: tuple[bytes, ...] = ()
    secret_keys: tuple[str, ...] = ()
    use_tz: bool = True
    user_model: str = "auth.User"
    max_body_bytes: int = 16 * 1024

    @property
    def key_names(self) -> dict[str, Any]:
        """`MASK_KEYS` and `SAFE_KEYS`, as the functions of `privacy.redaction` take them."""
        return {"mask_keys": self.mask_keys, "safe_keys": self.safe_keys}

    def retention_of(self, stream: str) -> Retention:
        """How long the records of a stream stay where."""
        options = self.streams.get(stream, {})
        if "retention" not in options:
            return self.retention
        key = f"STREAMS.{stream}.retention"
        return _retention.retention(key, options["retention"], self.retention)


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(f'AUDIT_LOG["{key}"] must be a string, not {value!r}.')
    return value


def _name(key: str, value: Any) -> str:
    """It stands in checkpoints, in the subjects of mails and in lines of logs."""
    if not _text(key, value).strip() or not value.isprintable():
        raise ConfigurationError(
            f'AUDIT_LOG["{key}"] must be a name without line breaks and the like, not {value!r}.'
        )
    return str(value)


def _flag(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigurationError(f'AUDIT_LOG["{key}"] must be True or False, not {value!r}.')
    return value


def _count(key: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ConfigurationError(f'AUDIT_LOG["{key}"] must be a number from 0, not {value!r}.')
    return value


def _is_list(value: Any) -> bool:
    """A string is iterable too, and is nobody's intention."""
    return isinstance(value, Iterable) and not isinstance(value, str)


def _path(key: str, value: Any) -> Path:
    if not isinstance(value, (str, os.PathLike)):
        raise ConfigurationError(f'AUDIT_LOG["{key}"] must be a path, not {value!r}.')
    if not Path(value).is_absolute():  # else another one for each process, by where it was started
        raise ConfigurationError(f'AUDIT_LOG["{key}"] must be an absolute path, not {value!r}.')
    return Path(value)


def _patterns(key: str, value: Any) -> tuple[str, ...]:
    if not _is_list(value) or not all(isinstance(item, str) for item in value):
        raise ConfigurationError(f'AUDIT_LOG["{key}"] must be a list of strings, not {value!r}.')
    return tuple(value)


def _choice(*allowed: str) -> Callable[[str, Any], str]:
    def read(key: str, value: Any) -> str:
        if value not in allowed:
            raise ConfigurationError(
                f'AUDIT_LOG["{key}"] must be one of {", ".join(map(repr, allowed))}, not {value!r}.'
            )
        return str(value)

    return read


class WrappedKey(bytes):
    """A key as AWS KMS wrapped it: the service has to be asked for the key itself."""

    __slots__ = ()


_WRAPPED: Final = "kms:"


def _key(key: str, value: Any) -> bytes:
    try:
        secret = base64.b64decode(value, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise ConfigurationError(f'AUDIT_LOG["{key}"] is not base64: {error}.') from error
    if len(secret) != KEY_BYTES:
        raise ConfigurationError(
            f'AUDIT_LOG["{key}"] must be {KEY_BYTES} bytes in base64, not {len(secret)}. '
            "Make one with: python -c "
            "'import base64, os; print(base64.b64encode(os.urandom(32)).decode())'"
        )
    return secret


def _keys(key: str, value: Any) -> Mapping[str, bytes]:
    if not isinstance(value, Mapping):
        raise ConfigurationError(
            f'AUDIT_LOG["{key}"] must be a dict of names and keys, newest first.'
        )
    return {name: _ring_key(f"{key}.{name}", secret) for name, secret in value.items()}


def _ring_key(key: str, value: Any) -> bytes:
    if not isinstance(value, str) or not value.startswith(_WRAPPED):
        return _key(key, value)
    try:
        return WrappedKey(base64.b64decode(value.removeprefix(_WRAPPED), validate=True))
    except (binascii.Error, ValueError) as error:
        raise ConfigurationError(
            f'AUDIT_LOG["{key}"] begins with "{_WRAPPED}", but what follows is not base64: '
            f"{error}. `manage.py audit_log rekey --new-key kms` makes one."
        ) from error


def _newest_first(key: str, value: Any) -> tuple[bytes, ...]:
    """One key, or several of which the first is in force and the others are still known."""
    if not _is_list(value):
        return (_key(key, value),)
    return tuple(_key(f"{key}.{n}", secret) for n, secret in enumerate(value))


_READERS: Final[dict[str, Callable[[str, Any], Any]]] = {
    "SERVICE": _name,
    "ENABLED": _flag,
    "EXCLUDE_MODELS": _patterns,
    "OPEN_FIELDS": _patterns,
    "SEALED_FIELDS": _patterns,
    "MASK_FIELDS": _patterns,
    "EXCLUDE_FIELDS": _patterns,
    "MASK_KEYS": _patterns,
    "SAFE_KEYS": _patterns,
    "DETECTORS": _patterns,
    "REQUESTS": _choice("notable", "all", "off"),
    "REQUEST_BODY": _choice("redacted", "off"),
    "TRUSTED_PROXIES": _requests.proxies,
    "REQUEST_ID_HEADER": _requests.header,
    "REQUEST_ID": _requests.asked,
    "TENANT": _requests.asked,
    "ON_FAILURE": _choice("allow", "block"),
    "BULK_ROWS": _count,
    "DATABASE": _text,
    "ARCHIVE": _retention.archive,
    "ARCHIVE_OPTIONS": _retention.archive_options,
    "RETENTION": _retention.retention,
    "STREAMS": _retention.streams,
    "ALERTS": _alerts.alerts,
    "SPOOL_DIR": _path,
    "QUEUE": lambda key, value: None if value is None else _name(key, value),
    "ENCRYPTION_KEYS": _keys,
    "KMS_KEY": lambda key, value: None if value is None else _name(key, value),
    "INDEX_KEY": _newest_first,
    "SIGNING_KEY": _newest_first,
}
KEYS: Final = frozenset(_READERS) | {"EXCLUDE_PATHS", "MODELS"}


def _models(value: Any) -> dict[str, Any]:
    """`MODELS` mixes patterns and {pattern: options of audited()}."""
    patterns: list[str] = []
    options: dict[str, Mapping[str, Any]] = {}
    if not _is_list(value):
        raise ConfigurationError(f'AUDIT_LOG["MODELS"] must be a list, not {value!r}.')
    for item in value:
        if isinstance(item, str):
            patterns.append(item)
        elif isinstance(item, Mapping):
            patterns.extend(item)
            options.update(item)
        else:
            raise ConfigurationError(f'AUDIT_LOG["MODELS"] cannot hold {item!r}.')
    return {"models": tuple(patterns), "model_options": options}


def _read(raw: Any) -> dict[str, Any]:
    if not isinstance(raw, Mapping):
        raise ConfigurationError(f"AUDIT_LOG must be a dict, not {raw!r}.")
    values: dict[str, Any] = {}
    for key, value in raw.items():
        if key not in KEYS:
            close = difflib.get_close_matches(str(key), KEYS, n=1)
            hint = f' Did you mean "{close[0]}"?' if close else ""
            raise ConfigurationError(f'AUDIT_LOG has no key "{key}".{hint}')
        if key == "MODELS":
            values.update(_models(value))
        elif key == "EXCLUDE_PATHS":
            values.update(_requests.exclusions(key, value))
        else:
            values[key.lower()] = _READERS[key](key, value)
    database = values.get("database", "default")
    if database != "default" and database not in django_settings.DATABASES:
        raise ConfigurationError(
            f'AUDIT_LOG["DATABASE"] is {database!r}, which is none of DATABASES: '
            f"{', '.join(django_settings.DATABASES)}."
        )
    return values


def _default_service() -> str:
    module = os.environ.get("DJANGO_SETTINGS_MODULE") or "django"
    return module.split(".", 1)[0]


def _default_spool(service: str) -> Path:
    # /var/tmp outlives a reboot (FHS 5.15); one folder per user and service, so none meet.
    root = Path("/var/tmp")  # noqa: S108 - recording.spool refuses a folder that is not ours alone
    if not root.is_dir():
        root = Path(tempfile.gettempdir())
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return root / f"audit_log-{user}-{service}"


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings in force. Raises ConfigurationError for a wrong key or value."""
    values = _read(getattr(django_settings, "AUDIT_LOG", {}))
    service = values.setdefault("service", _default_service())
    values.setdefault("spool_dir", _default_spool(service))
    limit: int | None = django_settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    secrets: list[Any] = [django_settings.SECRET_KEY, *django_settings.SECRET_KEY_FALLBACKS]
    settings = Settings(
        secret_keys=tuple(str(secret) for secret in secrets),
        use_tz=django_settings.USE_TZ,
        user_model=django_settings.AUTH_USER_MODEL,
        max_body_bytes=16 * 1024 if limit is None else min(16 * 1024, limit),
        **values,
    )
    for stream in settings.streams:
        settings.retention_of(stream)  # refused now, not on the night it is first needed
    return settings


def routers() -> list[Any]:
    """Django's DATABASE_ROUTERS."""
    return list(django_settings.DATABASE_ROUTERS)


def admins() -> tuple[str, ...]:
    """The addresses in Django's ADMINS, which before 6.0 were pairs of name and address."""
    listed = django_settings.ADMINS
    return tuple(str(one if isinstance(one, str) else one[1]) for one in listed)


def project_modules() -> list[str]:
    """The modules that Django's settings say are the project's: the settings, and the URLs."""
    named = (getattr(django_settings, key, None) for key in ("SETTINGS_MODULE", "ROOT_URLCONF"))
    return [name for name in named if isinstance(name, str)]


def middleware() -> list[str]:
    """Django's MIDDLEWARE."""
    return list(django_settings.MIDDLEWARE)


def default(key: str) -> Any:
    """The default of a key of `AUDIT_LOG`, for the documentation."""
    return getattr(Settings(), key.lower())


_on_change: list[Callable[[], None]] = []


def on_change(reset: Callable[[], None]) -> Callable[[], None]:
    """Call `reset` whenever the settings or the registered models change: caches register here."""
    _on_change.append(reset)
    return reset


_WATCHED: Final = frozenset(
    {
        "AUDIT_LOG",
        "AUTH_USER_MODEL",
        "DATA_UPLOAD_MAX_MEMORY_SIZE",
        "SECRET_KEY",
        "SECRET_KEY_FALLBACKS",
        "USE_TZ",
    }
)


def forget() -> None:
    """Have everything worked out anew: the settings, or what was registered, have changed."""
    get_settings.cache_clear()
    for reset in _on_change:
        reset()


def _changed(*, setting: str, **_: Any) -> None:
    if setting in _WATCHED:
        forget()


setting_changed.connect(_changed, dispatch_uid="audit_log.conf")
