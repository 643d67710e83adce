"""Values that a trigger wrote as JSON, as Python would have loaded them from their columns."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from django.db import connections, models

from audit_log.capture.changes import Changes
from audit_log.capture.fields import FieldPlan
from audit_log.capture.triggers.values import CUT
from audit_log.events import Redaction
from audit_log.privacy.policies import Policy
from audit_log.privacy.redaction import MASK

_NULL: Final = b"null"
_MICROSECONDS: Final = 1_000_000


class Cut(str):
    """The beginning of a value that is longer than an event, and what is known of the rest."""

    __slots__ = ("rule",)
    rule: str


def loaded(field: models.Field[Any, Any], raw: bytes, using: str) -> Any:
    """The value that `from_db` would be given. What the field cannot take is left as it stands."""
    if raw == _NULL:
        return None
    target = field
    while isinstance(target, models.ForeignKey):
        target = target.target_field
    plain = json.loads(raw, parse_float=Decimal)
    if isinstance(plain, dict) and plain.keys() == {CUT, "length", "sha256"}:
        return _cut(plain)
    try:
        is_json = isinstance(target, models.JSONField)
        plain = raw.decode() if is_json else _typed(target, plain)
        for convert in target.get_db_converters(connections[using]):
            plain = convert(plain, target.cached_col, connections[using])
    except Exception:  # noqa: BLE001 - infinity, years before Christ, a type that has changed
        return json.loads(raw)
    return plain


def add(found: Changes, item: FieldPlan, old: Any, new: Any) -> bool:
    """Note that a field went from one value to another. Whether it did."""
    if item.policy is Policy.MASKED:
        if old is new is False or old is new is None:
            return False
        found.values[item.name] = [_masked(old), _masked(new)]
        found.redactions.append(Redaction(item.path, item.rule))
        return True
    cuts = [side.rule for side in (old, new) if isinstance(side, Cut)]
    if cuts:  # no conversion: it is a text by now, whatever the field
        found.values[item.name] = [_text(item, side) for side in (old, new)]
        found.redactions += [
            Redaction(f"{item.path}.{n}", side.rule)
            for n, side in enumerate((old, new))
            if isinstance(side, Cut)
        ]
        if item.policy is Policy.SEALED:
            found.sealed.append(item.path)
        return True
    kept = old if item.keep is None or old is None else item.keep(old)
    return found.add(item, kept, new)


def _masked(value: Any) -> str | None:
    """A trigger says only whether there is one, or shows the last digits of a card."""
    if value is None or value is False:
        return None
    return value if isinstance(value, str) and value.startswith("**** ") else MASK


def _text(item: FieldPlan, value: Any) -> Any:
    return str(value) if isinstance(value, Cut) else item.guard(item.encode(value)[0])[0]


def _cut(found: dict[str, Any]) -> Cut:
    text = Cut(f"{found[CUT]}…")
    text.rule = f"cut:{found['length']}:sha256:{found['sha256']}"
    return text


def _typed(field: models.Field[Any, Any], value: Any) -> Any:
    """What the driver gives for a column of that field."""
    if isinstance(value, list):
        base = getattr(field, "base_field", None)
        return [None if each is None else _typed(base, each) for each in value] if base else value
    convert = _TYPES.get(field.get_internal_type())
    return value if convert is None else convert(field, value)


def _moment(_: Any, value: Any) -> Any:
    return datetime.fromisoformat(value)


def _period(field: Any, value: Any) -> Any:
    if isinstance(value, str):
        return field.to_python(value)
    return timedelta(microseconds=int(Decimal(value) * _MICROSECONDS))


def _by_field(field: Any, value: Any) -> Any:
    return field.to_python(value)


_TYPES: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "DateTimeField": _moment,
    "DateField": _by_field,
    "TimeField": _by_field,
    "DurationField": _period,
    "UUIDField": _by_field,
    "DecimalField": lambda _, value: Decimal(value),
    "FloatField": lambda _, value: float(value),
}
