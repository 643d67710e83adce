"""The project's own callables that settings name: they get the request and say something of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from django.core.checks import CheckMessage, Error
from django.utils.module_loading import import_string

from audit_log.conf import get_settings
from audit_log.conf.requests import Asked
from audit_log.exceptions import ConfigurationError


def resolve(asked: Asked) -> Callable[..., Any]:
    """The callable itself. Raises ImportError where a dotted path leads nowhere."""
    found: Callable[..., Any] = import_string(asked) if isinstance(asked, str) else asked
    return found


def check_callables(**_: Any) -> list[CheckMessage]:
    """audit_log.E001: a dotted path leads to nothing that can be called."""
    try:
        named = list(_named())
    except ConfigurationError:
        return []  # said already
    found: list[CheckMessage] = []
    for key, asked in named:
        try:
            why = None if callable(resolve(asked)) else "it cannot be called"
        except Exception as error:  # noqa: BLE001 - importing runs the project's code
            why = f"{type(error).__name__}: {error}"
        if why is not None:
            text = f'AUDIT_LOG["{key}"] names {asked!r}, but {why}.'
            found.append(Error(text, id="audit_log.E001"))
    return found


def _named() -> Iterator[tuple[str, Asked]]:
    settings = get_settings()
    for key, asked in (("TENANT", settings.tenant), ("REQUEST_ID", settings.request_id)):
        if asked is not None:
            yield key, asked
    for asked in settings.exclude_requests:
        yield "EXCLUDE_PATHS", asked
