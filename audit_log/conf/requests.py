"""What of a request is looked at, and who is asked about it: read, and nonsense refused."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from audit_log.exceptions import ConfigurationError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Asked = str | Callable[..., Any]
"""A callable of the project, or its dotted path."""

# RFC 9110, 5.6.2. The header is sent as well, and Django refuses to send what is no name.
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_CAN_MATCH: Final = ("/", "*", "?", "[")
_DOTTED: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


def proxies(key: str, value: Any) -> int | tuple[Network, ...] | None:
    """How many there are, or their networks; None keeps no address."""
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, (list, tuple)):
        try:
            return tuple(ipaddress.ip_network(item) for item in value)
        except ValueError as error:
            raise ConfigurationError(f'AUDIT_LOG["{key}"]: {error}.') from error
    raise ConfigurationError(
        f'AUDIT_LOG["{key}"] must be a number of proxies, a list of networks or None, '
        f"not {value!r}."
    )


def header(key: str, value: Any) -> str:
    """The name of a header."""
    if not isinstance(value, str) or not _HEADER.fullmatch(value):
        raise ConfigurationError(f'AUDIT_LOG["{key}"] must be the name of a header, not {value!r}.')
    return value


def asked(key: str, value: Any) -> Asked | None:
    """A callable or its dotted path, which is checked where it is called."""
    if not (value is None or isinstance(value, str) or callable(value)):
        raise ConfigurationError(f'AUDIT_LOG["{key}"] must be a callable or its dotted path.')
    found: Asked | None = value
    return found


def exclusions(key: str, value: Any) -> dict[str, Any]:
    """`EXCLUDE_PATHS`: what a path says by itself, and what somebody has to be asked about."""
    if not isinstance(value, Iterable) or isinstance(value, str):
        raise ConfigurationError(f'AUDIT_LOG["{key}"] must be a list of patterns, not {value!r}.')
    paths: list[str | re.Pattern[str]] = []
    requests: list[Asked] = []
    for item in value:
        if isinstance(item, re.Pattern) and isinstance(item.pattern, str):
            paths.append(item)
        elif callable(item):
            requests.append(item)
        elif not isinstance(item, str):
            raise ConfigurationError(f'AUDIT_LOG["{key}"] cannot hold {item!r}.')
        elif item.startswith(_CAN_MATCH):
            paths.append(item)
        elif _DOTTED.fullmatch(item):
            requests.append(item)
        else:
            raise ConfigurationError(
                f'AUDIT_LOG["{key}"]: {item!r} matches no path: they begin with "/".'
            )
    return {"exclude_paths": tuple(paths), "exclude_requests": tuple(requests)}
