"""Values as people read them, and the table of what changed. Everything here is plain text."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db import models
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.formats import date_format
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from audit_log.admin.wording import changed_names, field_label, field_of, mapping, visible
from audit_log.models import Record

TIME_FORMAT: Final = "Y-m-d H:i:s"


@dataclass(frozen=True, slots=True)
class Value:
    """A value as it is shown. `raw` is what is stored, where that is not what is shown.

    `kind` is text, json, none, sealed or unknown: the template gives each its own look and words.
    `length` is how long `text` was, where some of it is left out.
    """

    text: str
    kind: str = "text"
    raw: str = ""
    length: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """One field: what it was, what it became, and what the log did to the values."""

    name: str
    label: str
    old: Value
    new: Value
    marks: tuple[str, ...]


def show(
    value: Any, field: models.Field[Any, Any] | None = None, label: str | None = None
) -> Value:
    """A stored value, by the words of its field: labels of choices, times in the site's zone."""
    if value is None:
        return Value(_("none"), "none")
    if value == "":
        return Value(_("empty"), "none")
    if isinstance(value, (dict, list)):
        text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)
        return Value(visible(text), "json")
    if isinstance(value, bool):
        return Value(_("yes") if value else _("no"))
    label = label or _choice(field, value) or _moment(field, value)
    if label is not None and label != str(value):
        return Value(visible(label), raw=visible(value))
    return Value(visible(value))


def shortened(value: Value, longest: int) -> Value:
    """At most so many characters of a long text; all of them where `longest` is negative.

    Times and choices, which have words of their own, stay as they are.
    """
    if longest < 0 or len(value.text) <= longest:
        return value
    if value.raw or value.kind not in {"text", "json"}:
        return value
    return Value(value.text[:longest], value.kind, length=len(value.text))


def _choice(field: models.Field[Any, Any] | None, value: Any) -> str | None:
    choices = getattr(field, "flatchoices", None)
    if field is None or not choices:
        return None
    try:
        value = field.to_python(value)
    except ValidationError:
        return None
    return next((str(label) for key, label in choices if key == value), None)


def _moment(field: models.Field[Any, Any] | None, value: Any) -> str | None:
    if not isinstance(field, models.DateTimeField) or not isinstance(value, str):
        return None
    try:
        moment = parse_datetime(value)
    except ValueError:
        return None
    if moment is None or timezone.is_naive(moment):
        return None
    return date_format(timezone.localtime(moment), TIME_FORMAT)


def changes_of(
    row: Record,
    model: type[models.Model] | None,
    opened: Mapping[str, Any] | None = None,
    longest: int = -1,
) -> list[Change]:
    """The table of changes; with `opened` (see `reading.contents`), sealed values as well."""
    known = mapping(row.changes) if opened is None else opened["changes"]
    labels = {} if opened is None else opened["labels"]
    marks = marks_of(row, "changes")
    names = changed_names(row)
    names += [name for name in known if name not in names]
    closed = Value(_("sealed") if opened is None else _cannot(opened), "sealed")
    if not row.salt:
        closed = Value(_("removed"), "sealed")
    changes = (
        _change(name, model, known.get(name), labels.get(name), marks[name], closed)
        for name in names
    )
    return [
        replace(each, old=shortened(each.old, longest), new=shortened(each.new, longest))
        for each in changes
    ]


def _cannot(opened: Mapping[str, Any]) -> str:
    return visible(opened["erased"]["data"]) if opened["erased"]["data"] else _("cannot be opened")


def _change(
    name: str,
    model: type[models.Model] | None,
    pair: Any,
    labels: Any,
    marks: list[tuple[str, str]],
    closed: Value,
) -> Change:
    field = field_of(model, name)
    old, new = _pair(pair)
    old_label, new_label = _pair(labels)
    values = (closed, closed)
    if pair is not None:
        values = (show(old, field, old_label), show(new, field, new_label))
    unknown = Value(_("unknown"), "unknown")
    for path, rule in marks:
        if rule == "not_loaded":
            values = (values[0], unknown) if path.endswith(".1") else (unknown, values[1])
    return Change(
        name=visible(name),
        label=capfirst(field_label(model, name)),
        old=values[0],
        new=values[1],
        marks=tuple(dict.fromkeys(reason(rule) for _path, rule in marks)),
    )


def _pair(pair: Any) -> tuple[Any, Any]:
    if isinstance(pair, list) and len(pair) == 2:  # noqa: PLR2004 - old and new
        return pair[0], pair[1]
    return None, pair


def marks_of(row: Record, root: str) -> dict[str, list[tuple[str, str]]]:
    """What was done to the values under `changes` or `data`: (path, rule) by field or key."""
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for path, rule in _marks(row):
        first, _dot, rest = path.partition(".")
        if first == root:
            found[rest.partition(".")[0]].append((path, rule))
    return found


def other_marks(row: Record) -> list[tuple[str, str]]:
    """What was done outside of changes and data: (path, reason)."""
    return [
        (visible(path), reason(rule))
        for path, rule in _marks(row)
        if path.partition(".")[0] not in {"changes", "data"} or "." not in path
    ]


def _marks(row: Record) -> list[tuple[str, str]]:
    # An altered record must be shown, so nothing is taken for granted about its columns.
    marks = row.redactions if isinstance(row.redactions, list) else []
    found = (mapping(mark) for mark in marks)
    return [(str(mark.get("path", "")), str(mark.get("rule", ""))) for mark in found]


def reason(rule: str) -> str:
    """Why a value is not what it was."""
    word, _colon, rest = rule.partition(":")
    known = {
        "not_loaded": _("the value was not loaded"),
        "sanitised": _("characters that cannot be stored were replaced"),
        "unencodable": _("the value could not be encoded"),
        "unparsed": _("not readable, so masked whole"),
        "depth": _("nested too deep, cut"),
        "nodes": _("too many values, cut"),
        "limit": _("too large, cut"),
        "error": _("masking failed, so masked whole"),
        "erased": _("its person was erased before it was stored"),
    }
    if word == "cut":
        return _("cut, was %(length)s characters") % {"length": visible(rest.partition(":")[0])}
    if word in known:
        return known[word]
    return _("masked by rule %(rule)s") % {"rule": visible(rule)}
