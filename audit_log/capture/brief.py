"""The short way from usual values to JSON: what `FieldPlan.encode` gives, in a tenth of its time.

Nearly every value of a save is of its field's own type and holds nothing odd. Whatever is not sure
to come out alike is UNSURE, and takes the long way.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec
from django.db import models

from audit_log.events import JSON, format_time

UNSURE: Final = object()
"""Said of a value that needs the long way."""

Way = tuple[type | None, Callable[[Any], JSON]]
"""The type that most values of a field are of, and what makes JSON, or UNSURE, of one."""

_SAFE_INT: Final = 1 << 53
_ODD: Final = re.compile(rb'[0-9]{16}|[^"]{200}|\\u0000')
_MAX_BYTES: Final = 4096
_MAX_NESTED: Final = 20
_decode: Final = msgspec.json.Decoder(float_hook=lambda text: repr(float(text))).decode


def json_copy(value: Any) -> JSON:
    """A small value of a JSONField as `recording.values.plain` copies it.

    UNSURE of integers beyond 2**53, of keys too long, of NUL, and of what JSON does not know.
    """
    try:
        encoded = msgspec.json.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return UNSURE
    nested = encoded.count(b"{") + encoded.count(b"[")
    if len(encoded) > _MAX_BYTES or nested > _MAX_NESTED or _ODD.search(encoded):
        return UNSURE
    return _decode(encoded)


def _unsure(_: Any) -> JSON:
    return UNSURE


LONG_WAY: Final[Way] = (None, _unsure)


def _text(value: str) -> JSON:
    return value if value.isascii() and "\0" not in value else UNSURE


def _integer(value: int) -> JSON:
    return value if -_SAFE_INT < value < _SAFE_INT else UNSURE


def _moment(value: datetime) -> JSON:
    return UNSURE if value.tzinfo is None else format_time(value)


def _decimal(item: models.DecimalField[Any, Any]) -> Callable[[Any], JSON]:
    exponent = Decimal(1).scaleb(-(item.decimal_places or 0))
    limits = item.context

    def brief(value: Decimal) -> JSON:
        try:
            return str(value.quantize(exponent, context=limits)) if value.is_finite() else UNSURE
        except InvalidOperation:
            return UNSURE

    return brief


_WAYS: Final[dict[Callable[..., Any], Way]] = {
    models.CharField.to_python: (str, _text),
    models.TextField.to_python: (str, _text),
    models.IntegerField.to_python: (int, _integer),
    models.BooleanField.to_python: (bool, bool),
    models.DateField.to_python: (date, date.isoformat),
    models.DateTimeField.to_python: (datetime, _moment),
    models.UUIDField.to_python: (uuid.UUID, str),
}


def way_of(item: models.Field[Any, Any]) -> Way:
    """The short way of a field; the long one where `to_python` is not Django's own.

    Somebody else's may change what it is given.
    """
    if isinstance(item, models.DecimalField):
        usual = type(item).to_python is models.DecimalField.to_python
        return (Decimal, _decimal(item)) if usual else LONG_WAY
    return _WAYS.get(type(item).to_python, LONG_WAY)
