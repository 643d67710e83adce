"""Finding records: by target, and by simple filters until the query language comes."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from django.db.models import QuerySet
from django.utils.dateparse import parse_datetime

from audit_log.models import Record
from audit_log.privacy.addresses import network_of
from audit_log.privacy.encryption import blind_index
from audit_log.recording.targets import target_id, target_type

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
}
KEYS: Final = sorted({*COLUMNS, "actor", "target", "ip", "id", "last", "since", "until"})
_PERIOD: Final = re.compile(r"(\d{1,6})([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class SearchError(ValueError):
    """A filter that cannot be understood: which, and what was expected."""


def history(target: Model) -> QuerySet[Record]:
    """The records of one object, newest first. Works for one that was deleted, given its pk."""
    model = type(target)
    rows = Record.objects.filter(
        target_type=target_type(model), target_id=target_id(model, target.pk)
    )
    return rows.order_by("-id")


def search(text: str = "") -> QuerySet[Record]:
    """Records that match all of `key:value …`, newest first. Raises SearchError.

    `*` at the end of a value matches any ending. `actor:` finds an exact label or an id, `ip:` an
    exact address or its network, `last:24h` a period.
    """
    rows: QuerySet[Record] = Record.objects.all()
    for word in text.split():
        key, colon, value = word.partition(":")
        if not colon or not value:
            raise SearchError(f"{word!r} is not key:value. Keys: {', '.join(KEYS)}.")
        rows = rows.filter(**_filter(key, value)) if key != "actor" else _by_actor(rows, value)
    return rows.order_by("-id")


def _by_actor(rows: QuerySet[Record], value: str) -> QuerySet[Record]:
    by_label = rows.filter(actor_token=blind_index("actor", value))
    return by_label | rows.filter(actor_id=value)


def _filter(key: str, value: str) -> dict[str, Any]:
    if key in COLUMNS:
        return _by_column(key, value)
    if key == "id":
        return {"pk": _uuid(value)}
    if key == "target":
        kind, _, id_ = value.partition("#")
        return {"target_type": kind.lower(), **({"target_id": id_} if id_ else {})}
    if key == "ip":
        return _by_address(value)
    if key in {"last", "since", "until"}:
        return _by_time(key, value)
    raise SearchError(f"There is no key {key!r}. Keys: {', '.join(KEYS)}.")


def _by_column(key: str, value: str) -> dict[str, Any]:
    column = COLUMNS[key]
    if column == "status":
        if not value.isdigit():
            raise SearchError(f"status:{value} is not a number.")
        return {column: int(value)}
    if value.endswith("*"):
        return {f"{column}__startswith": value[:-1]}
    return {column: value}


def _uuid(value: str) -> uuid.UUID:
    try:
        return uuid.UUID(value)
    except ValueError as error:
        raise SearchError(f"id:{value} is not a UUID.") from error


def _by_address(value: str) -> dict[str, Any]:
    address, slash, prefix = value.partition("/")
    network = network_of(address)
    if network is None:
        raise SearchError(f"ip:{value} is not an address.")
    if not slash:
        return {"ip_token": blind_index("ip", address)}
    if network != f"{network.partition('/')[0]}/{prefix}":
        raise SearchError(
            "Addresses are stored sealed: ip: finds one address, or its /24 (IPv6: /48)."
        )
    return {"net_token": blind_index("net", network)}


def _by_time(key: str, value: str) -> dict[str, Any]:
    if key == "last":
        match = _PERIOD.fullmatch(value)
        if match is None:
            raise SearchError(f"last:{value} is not a period such as 15m, 24h or 7d.")
        since = datetime.now(UTC) - timedelta(**{_UNITS[match[2]]: int(match[1])})
        return {"pk__gte": first_id(since)}
    try:
        moment = parse_datetime(value) or datetime.fromisoformat(value)
    except ValueError as error:
        raise SearchError(f"{key}:{value} is not a date or time (ISO 8601).") from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return {"pk__gte" if key == "since" else "pk__lt": first_id(moment)}


def first_id(moment: datetime) -> uuid.UUID:
    """The smallest id of a moment: ids are times, so a time range is a range of ids."""
    milliseconds = int(moment.timestamp() * 1000)
    return uuid.UUID(int=(milliseconds << 80) | (7 << 76) | (0b10 << 62))
