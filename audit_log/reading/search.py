"""Finding records: by target, and by simple filters until the query language comes."""

from __future__ import annotations

import ipaddress
import re
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from django.db.models import QuerySet
from django.utils.dateparse import parse_datetime

from audit_log.models import Record
from audit_log.privacy.addresses import network_of
from audit_log.privacy.encryption import blind_indexes
from audit_log.recording.targets import target_id, target_type
from audit_log.router import ledger_alias

if TYPE_CHECKING:
    from django.db.models import Model

COLUMNS: Final = {
    "action": "action",
    "outcome": "outcome",
    "request": "request_id",
    "request_id": "request_id",
    "tenant": "tenant",
    "service": "service",
    "source": "source",
    "stream": "stream",
    "status": "status",
    "method": "method",
    "route": "route",
    "path": "path",
    "actor_id": "actor_id",
    "actor_type": "actor_type",
    "target_type": "target_type",
    "target_id": "target_id",
    "trace_id": "trace_id",
    "parent_id": "parent_id",
}
_MADE: Final = frozenset({"actor", "agent", "id", "ip", "last", "since", "target", "until"})
KEYS: Final = sorted({*COLUMNS, *_MADE})
# key:value, where a value with spaces stands in single or double quotes
_WORD: Final = re.compile(r"""([a-z_]+):(?:"([^"]*)"|'([^']*)'|([^\s"']\S*))(?=\s|$)""")
_PERIOD: Final = re.compile(r"(\d{1,6})([smhd])")
_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class SearchError(ValueError):
    """A filter that cannot be understood: which, and what was expected."""


def history(target: Model) -> QuerySet[Record]:
    """The records of one object, newest first. Works for one that was deleted, given its pk.

    An object without a primary key was never stored, so it has none.
    """
    model = target.__class__  # not type(): `request.user` is a lazy object
    id_ = target_id(model, target.pk)
    if id_ is None:
        return Record.objects.none()
    rows = Record.objects.using(ledger_alias()).filter(
        target_type=target_type(model), target_id=id_
    )
    return rows.order_by("-id")


def search(text: str = "") -> QuerySet[Record]:
    """Records that match all of `key:value …`, newest first. Raises SearchError.

    `*` at the end of a value matches any ending; quotes keep spaces together. `actor:` finds an
    exact label or an id, `agent:` an exact user agent, `target:` a type or `type#id`, `ip:` an
    exact address or its network, `last:24h` a period, `since:` and `until:` times (UTC unless they
    say otherwise).
    """
    rows: QuerySet[Record] = Record.objects.using(ledger_alias())
    return matching(rows, text).order_by("-id")


def matching(rows: QuerySet[Record], text: str) -> QuerySet[Record]:
    """Those of `rows` that match all of `key:value …`. Raises SearchError."""
    if "\0" in text:
        raise SearchError("No text in the log holds a NUL, and not every database can look for it.")
    for key, value in _words(text):
        rows = matching_one(rows, key, value)
    return rows


def matching_one(rows: QuerySet[Record], key: str, value: str) -> QuerySet[Record]:
    """Those of `rows` that match one key. Raises SearchError."""
    return _by_actor(rows, value) if key == "actor" else rows.filter(**_filter(key, value))


def _words(text: str) -> Iterator[tuple[str, str]]:
    position = 0
    while rest := text[position:].lstrip():
        position = len(text) - len(rest)
        match = _WORD.match(text, position)
        if match is None:
            raise SearchError(
                f"{rest.split()[0]!r} is not key:value; a value with spaces stands in quotes, as "
                f'in actor:"Alice Smith". Keys: {", ".join(KEYS)}.'
            )
        value = match[2] or match[3] or match[4]
        if not value:
            raise SearchError(f"{match[0]} has no value.")
        yield match[1], value
        position = match.end()


def _by_actor(rows: QuerySet[Record], value: str) -> QuerySet[Record]:
    by_label = rows.filter(**_by_token("actor", value))
    return by_label | rows.filter(actor_id=value)


def _filter(key: str, value: str) -> dict[str, Any]:
    if key in COLUMNS:
        return _by_column(key, value)
    if key not in _FILTERS:
        raise SearchError(f"There is no key {key!r}. Keys: {', '.join(KEYS)}.")
    return _FILTERS[key](key, value)


def _by_column(key: str, value: str) -> dict[str, Any]:
    column = COLUMNS[key]
    if column == "status":
        if not value.isdecimal():
            raise SearchError(f"status:{value} is not a number.")
        return {column: int(value)}
    if value.endswith("*"):
        return {f"{column}__startswith": value[:-1]}
    return {column: value}


def _by_id(_: str, value: str) -> dict[str, Any]:
    try:
        return {"pk": uuid.UUID(value)}
    except ValueError as error:
        raise SearchError(f"id:{value} is not a UUID.") from error


def _by_target(_: str, value: str) -> dict[str, Any]:
    kind, _, id_ = value.partition("#")
    if not kind:
        raise SearchError(f"target:{value} names no type; expected app.model or app.model#id.")
    if id_:
        return {"target_type": kind.lower(), **_by_column("target_id", id_)}
    return _by_column("target_type", kind.lower())


def _by_token(kind: str, value: str) -> dict[str, Any]:
    """By what stands for a sealed value; during a rotation of the index key there are several."""
    tokens = blind_indexes(kind, value)
    return {f"{kind}_token": tokens[0]} if len(tokens) == 1 else {f"{kind}_token__in": tokens}


def _by_agent(_: str, value: str) -> dict[str, Any]:
    return _by_token("agent", value)


def _by_address(_: str, value: str) -> dict[str, Any]:
    text, slash, prefix = value.partition("/")
    try:
        address = ipaddress.ip_address(text)
    except ValueError as error:
        raise SearchError(f"ip:{value} is not an address.") from error
    if not slash:
        return _by_token("ip", str(address))
    network = network_of(str(address)) or ""
    if not network.endswith(f"/{prefix}"):
        raise SearchError(
            f"ip:{value} cannot be found: addresses are stored sealed, and ip: finds one address "
            "or its /24 (IPv6: /48)."
        )
    return _by_token("net", network)


def _by_time(key: str, value: str) -> dict[str, Any]:
    if key == "last":
        return {"pk__gte": first_id(_since(value))}
    return {"pk__gte" if key == "since" else "pk__lt": first_id(moment_of(key, value))}


def moment_of(key: str, value: str) -> datetime:
    """The time that `since` or `until` names, UTC unless it says otherwise. Raises SearchError."""
    try:
        moment = parse_datetime(value) or datetime.fromisoformat(value)
    except ValueError as error:
        raise SearchError(f"{key}:{value} is not a date or time (ISO 8601).") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _since(period: str) -> datetime:
    match = _PERIOD.fullmatch(period)
    if match is None:
        raise SearchError(f"last:{period} is not a period such as 15m, 24h or 7d.")
    try:
        return datetime.now(UTC) - timedelta(**{_UNITS[match[2]]: int(match[1])})
    except OverflowError:  # before the first year
        return _EPOCH


def first_id(moment: datetime) -> uuid.UUID:
    """The smallest id of a moment: ids are times, so a time range is a range of ids."""
    milliseconds = max(0, int(moment.timestamp() * 1000))  # ids begin in 1970
    return uuid.UUID(int=(milliseconds << 80) | (7 << 76) | (0b10 << 62))


_FILTERS: Final[dict[str, Callable[[str, str], dict[str, Any]]]] = {
    "agent": _by_agent,
    "id": _by_id,
    "ip": _by_address,
    "last": _by_time,
    "since": _by_time,
    "target": _by_target,
    "until": _by_time,
}
