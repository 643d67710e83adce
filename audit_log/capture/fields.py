"""One field of a model: where its value is, how it is kept, compared and becomes JSON.

Values are compared as the database would see them: `1.10` is `1.1`, a date is its text, but `1` is
not `true`. Kept ones (see `snapshots`) are by reference where they cannot change in place.
"""

from __future__ import annotations

import copy
import enum
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal, InvalidOperation
from types import SimpleNamespace
from typing import Any, Final

import msgspec
from django.db import models
from django.utils import timezone
from django.utils.functional import Promise

from audit_log import conf
from audit_log.capture import brief
from audit_log.events import JSON, Redaction, format_time
from audit_log.privacy.maskers import Masker, shown
from audit_log.privacy.policies import Policy, field_policy
from audit_log.privacy.redaction import redact
from audit_log.recording.values import clean, digest, plain


class _NotLoaded:
    """Stays itself in a copy or a pickle of the instance that holds it."""

    def __reduce__(self) -> str:
        return "NOT_LOADED"


NOT_LOADED: Final = _NotLoaded()
"""Stands for an old value that this process never saw."""

Marks = Sequence[Redaction]
_UNMARKED: Final[Marks] = ()
_SAFE_INT: Final = 1 << 53
# Of one of these types and not equal: surely another value, whatever the field.
_PLAIN_TYPES: Final = frozenset({int, bool, str, date, uuid.UUID})
_CUT: Final = frozenset({"nodes", "depth", "unencodable"})


@dataclass(frozen=True, slots=True)
class FieldPlan:
    """One field: where its value is, what may be stored of it, and how it becomes JSON."""

    name: str
    attname: str
    path: str
    field: models.Field[Any, Any]
    relation: bool
    policy: Policy
    rule: str
    keep_last4: bool
    masker: Masker | None  # the project's own
    incidental: bool  # changes by itself (auto_now, last_login): no event on its own
    set_by_save: bool  # the save itself may change the attribute, though nobody assigned it
    choices: dict[Any, Any] | None
    convert: Callable[[Any], Any]
    keep: Callable[[Any], Any] | None  # how to keep a mutable value; None for immutable ones
    kept: Callable[[Any], Any] | None  # and how to get it back
    exact: Callable[[Any], bool] | None  # whether every database stores a number alike
    native: type | None  # most values are of this type; None where all take the long way
    is_plain: bool  # two native values that are not equal are surely not the same
    brief: Callable[[Any], JSON]  # a native value as JSON, when that needs no mark; else UNSURE

    @property
    def changes_in_place(self) -> bool:
        """Whether a value as loaded can change without being assigned."""
        # A file is loaded as its name; only the attribute, once used, is an object.
        return self.keep is not None and not isinstance(self.field, models.FileField)

    @property
    def sets_itself(self) -> bool:
        """Whether its value is known only while it is written: a version counter, a slug."""
        return type(self.field).pre_save not in _KNOWN_PRE_SAVE

    def encode(self, value: Any) -> tuple[JSON, Marks]:
        """The value as JSON, before any policy, with its marks. Never raises."""
        if value is None:
            return None, _UNMARKED
        try:
            value = self.convert(value)
        except Exception:  # noqa: BLE001 - a value the field itself would refuse: as it is, then
            return plain(value, self.path)
        kind = type(value)
        if kind is str:
            text = clean(value)
            return text, _UNMARKED if text == value else (Redaction(self.path, "sanitised"),)
        if (simple := _simple(value, kind)) is not None:
            return simple, _UNMARKED
        if self.keep is _keep_json and (copied := brief.json_copy(value)) is not brief.UNSURE:
            return copied, _UNMARKED
        return plain(self._as_text(value) if _opaque(value) else value, self.path)

    def _as_text(self, value: Any) -> Any:
        """What the field's own `to_python` reads back: ranges, geometries, vectors, money."""
        try:
            return self.field.value_to_string(SimpleNamespace(**{self.attname: value}))  # type: ignore[arg-type]
        except Exception:  # noqa: BLE001 - not every field can; its type's name stands for it then
            return value

    def same(self, kept: Any, value: Any) -> bool:
        """Whether `value` is what was kept, as the database would see it. Never raises."""
        quick = self.compare(kept, value)
        if quick is not None:
            return quick
        old, old_marks = self.encode(self.restore(kept))
        new, new_marks = self.encode(value)
        return self.equal(old, new, (old_marks, new_marks), (kept, value))

    def compare(self, kept: Any, value: Any) -> bool | None:
        """The same without encoding either; None where only that can tell."""
        if kept is value:
            return True
        kind = type(value)
        if self.keep is None and kind is type(kept) and kind in _PLAIN_TYPES:
            return bool(kept == value)
        if kept is None or value is None or kept is NOT_LOADED or value is NOT_LOADED:
            return False
        if hasattr(value, "resolve_expression"):
            return False
        return _compare(kept, value if self.keep is None else self.keep(value))

    def equal(
        self, old: JSON, new: JSON, marks: tuple[Marks, Marks], values: tuple[Any, Any]
    ) -> bool:
        """Whether two encodings are the same value: `1` is not `true`, a cut one not the whole."""
        if isinstance(old, (dict, list)) or isinstance(new, (dict, list)):
            if _sorted_json(old) != _sorted_json(new):
                return False
        elif type(old) is not type(new) or old != new:
            return False
        if not any(mark.rule in _CUT for side in marks for mark in side):
            return True
        kept, value = values
        whole = _sorted_json(self.restore(kept)), _sorted_json(value)
        return whole[0] is not None and whole[0] == whole[1]

    def restore(self, kept: Any) -> Any:
        """A kept value as Python had it."""
        if self.kept is None or kept is None or kept is NOT_LOADED:
            return kept
        return self.kept(kept)

    def guard(self, value: JSON) -> tuple[JSON, Marks]:
        """An encoded value as the policy allows it to leave the process."""
        if self.policy is Policy.MASKED:
            keep_last4, masker = self.keep_last4, self.masker
            left = shown(value, self.path, keep_last4=keep_last4, masker=masker)
            return left, (Redaction(self.path, self.rule),)
        if isinstance(value, (dict, list)):
            return redact(value, self.path, **conf.get_settings().key_names)
        return value, _UNMARKED


def plan_field(model: type[models.Model], item: models.Field[Any, Any]) -> FieldPlan:
    """How to look at one field of a model, by its policy and its type."""
    policy = field_policy(model, item)
    keep, kept = _keeping(item)
    takes_long_way = keep is not None or policy.policy is Policy.MASKED
    native, shorten = brief.LONG_WAY if takes_long_way else brief.way_of(_target(item))
    return FieldPlan(
        name=item.name,
        attname=item.attname,
        path=f"changes.{item.name}",
        field=item,
        relation=bool(item.is_relation),
        policy=policy.policy,
        rule=policy.rule,
        keep_last4=policy.keep_last4,
        masker=policy.masker,
        incidental=bool(getattr(item, "auto_now", False)) or _is_last_login(model, item),
        set_by_save=bool(getattr(item, "auto_now", False)) or isinstance(item, models.FileField),
        choices=_choices(item),
        convert=_converter(item),
        keep=keep,
        kept=kept,
        exact=_rounded_alike(item) if isinstance(item, models.DecimalField) else None,
        native=native,
        is_plain=native in _PLAIN_TYPES,
        brief=shorten,
    )


def _choices(item: models.Field[Any, Any]) -> dict[Any, Any] | None:
    if not item.choices:
        return None
    try:
        return dict(item.flatchoices)
    except TypeError:  # lists as choices, of an array, have no hash
        return None


def _is_last_login(model: type[models.Model], item: models.Field[Any, Any]) -> bool:
    # Every log-in writes it; the log-in itself is the event.
    user = conf.get_settings().user_model.lower()
    return item.name == "last_login" and model._meta.label_lower == user


_IMMUTABLE: Final = (
    models.BooleanField,
    models.CharField,
    models.DateField,
    models.DecimalField,
    models.DurationField,
    models.FloatField,
    models.GenericIPAddressField,
    models.IntegerField,
    models.TextField,
    models.TimeField,
    models.UUIDField,
    models.ForeignKey,
)
_KNOWN_PRE_SAVE: Final = frozenset(
    {
        models.Field.pre_save,
        models.DateField.pre_save,  # auto_now
        models.DateTimeField.pre_save,
        models.TimeField.pre_save,
        models.FileField.pre_save,  # a file to be written is a new attribute already
    }
)
_ATOMS: Final = frozenset(
    {str, int, float, bool, bytes, Decimal, date, datetime, time, timedelta, uuid.UUID}
)
_KNOWN: Final = (
    str,
    int,
    float,
    Decimal,
    date,
    time,
    timedelta,
    uuid.UUID,
    bytes,
    bytearray,
    memoryview,
    Mapping,
    Promise,
    enum.Enum,
    models.Model,
)
_Keeping = tuple[Callable[[Any], Any] | None, Callable[[Any], Any] | None]


def _compare(kept: Any, value: Any) -> bool | None:
    if type(kept) is not type(value) or isinstance(value, (list, dict, tuple)):
        return None  # containers may hide that True is 1
    if _equal(kept, value):
        return True
    return False if type(value) in _PLAIN_TYPES else None


def _simple(value: Any, kind: type) -> JSON:
    """What `recording.values.plain` makes of the most common types, sooner; None of others."""
    if kind is bool or (kind is int and -_SAFE_INT < value < _SAFE_INT):
        return value
    if kind is datetime and value.tzinfo is not None:
        return format_time(value)
    return str(value) if kind is Decimal else None


def _opaque(value: Any) -> bool:
    """Whether JSON has no form for a value, or for one in a list."""
    if isinstance(value, (list, tuple, set, frozenset)):
        return any(map(_opaque, value))
    return value is not None and not isinstance(value, _KNOWN)


def _equal(left: Any, right: Any) -> bool:
    try:
        return bool(left == right)
    except Exception:  # noqa: BLE001 - an array of numbers has no truth
        return False


def _sorted_json(value: Any) -> bytes | None:
    try:
        return msgspec.json.encode(value, order="sorted")
    except Exception:  # noqa: BLE001 - then it equals nothing
        return None


def _keeping(item: models.Field[Any, Any]) -> _Keeping:
    if isinstance(item, models.JSONField):
        if item.encoder is not None:
            return _encode_with(item), msgspec.json.decode
        # Encoded: 1.1 of a plain load, against 1.4 for a deep copy.
        return _keep_json, msgspec.json.decode
    if isinstance(item, models.FileField):
        return _file_name, None  # the attribute is one object, whose name changes
    if isinstance(item, models.BinaryField):
        return _bytes, None
    # A subclass of somebody else's may give out lists that change in place.
    if isinstance(item, _IMMUTABLE) and type(item).__module__.startswith("django."):
        return None, None
    return _copied, None


def _keep_json(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return msgspec.json.encode(plain(value)[0])


def _encode_with(item: models.JSONField[Any, Any]) -> Callable[[Any], bytes]:
    """What the field's own encoder makes of dates and the like: so they stand in the database."""

    def keep(value: Any) -> bytes:
        try:
            return _keep_json(json.loads(json.dumps(value, cls=item.encoder)))
        except (TypeError, ValueError, OverflowError, RecursionError):
            return _keep_json(value)

    return keep


def _bytes(value: Any) -> Any:
    # A memoryview cannot be pickled, and a bytearray changes in place.
    return bytes(value) if isinstance(value, (memoryview, bytearray)) else value


def _copied(value: Any) -> Any:
    if type(value) in _ATOMS:
        return value
    try:
        return copy.deepcopy(value)
    except Exception:  # noqa: BLE001 - loading a row must not fail because of us
        return NOT_LOADED


def _target(item: models.Field[Any, Any]) -> models.Field[Any, Any]:
    while isinstance(item, models.ForeignKey):
        item = item.target_field
    return item


def _converter(item: models.Field[Any, Any]) -> Callable[[Any], Any]:
    """What turns an attribute into the value the database holds, so that equal ones compare so."""
    item = _target(item)
    if isinstance(item, models.DecimalField):
        return _decimal(item)
    if isinstance(item, models.DateTimeField):
        return _datetime(item)
    if isinstance(item, models.FileField):
        return _file_name
    if isinstance(item, models.BinaryField):
        return digest
    if isinstance(item, models.JSONField):
        return _as_is if item.encoder is None else _through(_encode_with(item))
    return item.to_python


def _as_is(value: Any) -> Any:
    return value


def _through(keep: Callable[[Any], bytes]) -> Callable[[Any], Any]:
    return lambda value: msgspec.json.decode(keep(value))


def _decimal(item: models.DecimalField[Any, Any]) -> Callable[[Any], Any]:
    exponent = Decimal(1).scaleb(-(item.decimal_places or 0))

    def convert(value: Any) -> Any:
        number = item.to_python(value)
        if not isinstance(number, Decimal) or item.decimal_places is None:
            return number
        try:
            return number.quantize(exponent, context=item.context)
        except InvalidOperation:
            return number

    return convert


def _rounded_alike(item: models.DecimalField[Any, Any]) -> Callable[[Any], bool]:
    """PostgreSQL rounds 1.005 up, SQLite to the even neighbour: only the row tells."""
    exponent = Decimal(1).scaleb(-(item.decimal_places or 0))

    def exact(value: Any) -> bool:
        if type(value) is Decimal and value.same_quantum(exponent):
            return True
        try:
            number: Any = item.to_python(value)
            up = number.quantize(exponent, ROUND_HALF_UP)
            return bool(up == number.quantize(exponent, ROUND_HALF_EVEN))
        except Exception:  # noqa: BLE001 - no number at all: the save has said so, or will
            return True

    return exact


def _datetime(item: models.DateTimeField[Any, Any]) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        moment = item.to_python(value)
        if isinstance(moment, datetime) and timezone.is_naive(moment):
            return timezone.make_aware(moment, timezone.get_default_timezone())  # as Django does
        return moment

    return convert


def _file_name(value: Any) -> Any:
    return getattr(value, "name", value) or ""
