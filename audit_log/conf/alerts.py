"""Alert rules: read, and refused by name where they make no sense."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any, Final

from audit_log.exceptions import ConfigurationError

# Columns of a record that a rule may compare or group by: open, and of one value.
COLUMNS: Final = (
    *("stream", "action", "outcome", "source", "service", "tenant"),
    *("actor_type", "actor_id", "actor_via", "target_type", "target_id"),
    *("method", "route", "path", "status", "request_id", "trace_id", "session_token"),
)
MEASURES: Final = ("count", "sum(affected)")
CHANNELS: Final = ("email", "log", "signal")
_WINDOW: Final = re.compile(r"([0-9]{1,5})([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_MAX_NAME: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRule:
    """When `measure` over the records that match reaches `threshold` within `window`.

    `match` is {column: value, or several of which one must be}; a `*` at the end matches any
    ending. `group_by` counts each value of a column by itself. `to` are addresses for the
    channel "email"; without them, Django's ADMINS.
    """

    name: str
    match: Mapping[str, tuple[str | int, ...]] = field(default_factory=dict)
    measure: str = "count"
    threshold: int = 1
    window: timedelta = timedelta(minutes=5)
    group_by: str | None = None
    channels: tuple[str, ...] = ("log", "signal")
    to: tuple[str, ...] = ()


MASS_DELETE: Final = AlertRule(
    name="mass_delete",
    match={"action": ("delete",), "actor_type": ("admin",)},
    measure="sum(affected)",
    threshold=100,
    group_by="actor_id",
)


def alerts(key: str, value: Any) -> tuple[AlertRule, ...]:
    """Read the rules. Raises ConfigurationError naming the rule and what is wrong with it."""
    if not isinstance(value, (list, tuple)):
        raise ConfigurationError(f'AUDIT_LOG["{key}"] must be a list of rules, not {value!r}.')
    rules = tuple(_rule(f'AUDIT_LOG["{key}"][{number}]', raw) for number, raw in enumerate(value))
    names = [rule.name for rule in rules]
    for name in names:
        if names.count(name) > 1:
            raise ConfigurationError(f'AUDIT_LOG["{key}"] has two rules called {name!r}.')
    return rules


def _rule(where: str, raw: Any) -> AlertRule:
    if isinstance(raw, AlertRule):
        return raw
    known = {item.name for item in fields(AlertRule)}
    if not isinstance(raw, Mapping) or set(raw) - known:
        raise ConfigurationError(
            f"{where} must be a dict with some of {', '.join(sorted(known))}, not {raw!r}."
        )
    name = raw.get("name")
    # It is stored, and stands in subjects and log lines: no line break, no NUL.
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name) <= _MAX_NAME:
        raise ConfigurationError(
            f"{where} needs a name of {_MAX_NAME} printable characters at most, not {name!r}."
        )
    where = f"{where} ({name})"
    return AlertRule(
        **{option: _READERS[option](where, option, value) for option, value in raw.items()}
    )


def _match(where: str, _: str, raw: Any) -> dict[str, tuple[str | int, ...]]:
    if not isinstance(raw, Mapping):
        raise ConfigurationError(f"{where}: match must be {{column: value}}, not {raw!r}.")
    found: dict[str, tuple[str | int, ...]] = {}
    for column, value in raw.items():
        _one_of(where, "match", column, COLUMNS)
        values = tuple(value) if isinstance(value, (list, tuple)) else (value,)
        wanted: type = int if column == "status" else str
        if not values or not all(type(item) is wanted for item in values):
            raise ConfigurationError(
                f"{where}: {column} is compared with {wanted.__name__}, not {value!r}."
            )
        found[column] = values
    return found


def _one_of(where: str, option: str, value: Any, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ConfigurationError(
            f"{where}: {option} cannot be {value!r}; it can be {', '.join(allowed)}."
        )
    return str(value)


def _texts(where: str, option: str, raw: Any) -> tuple[str, ...]:
    if not isinstance(raw, (list, tuple)) or not all(isinstance(item, str) for item in raw):
        raise ConfigurationError(f"{where}: {option} must be a list of strings, not {raw!r}.")
    return tuple(raw)


def _channels(where: str, option: str, raw: Any) -> tuple[str, ...]:
    return tuple(_one_of(where, option, item, CHANNELS) for item in _texts(where, option, raw))


def _threshold(where: str, option: str, raw: Any) -> int:
    if type(raw) is not int or raw < 1:
        raise ConfigurationError(f"{where}: {option} must be 1 at least, not {raw!r}.")
    return raw


def _window(where: str, option: str, raw: Any) -> timedelta:
    match = _WINDOW.fullmatch(raw) if isinstance(raw, str) else None
    window = timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else timedelta(0)
    if not window:
        raise ConfigurationError(f'{where}: {option} must be such as "5m", not {raw!r}.')
    return window


_READERS: Final[dict[str, Callable[[str, str, Any], Any]]] = {
    "name": lambda _where, _option, raw: raw,
    "match": _match,
    "measure": lambda where, option, raw: _one_of(where, option, raw, MEASURES),
    "threshold": _threshold,
    "window": _window,
    "group_by": lambda where, option, raw: (
        None if raw is None else _one_of(where, option, raw, COLUMNS)
    ),
    "channels": _channels,
    "to": _texts,
}
