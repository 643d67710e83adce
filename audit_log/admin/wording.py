"""Records as sentences: who, did what, to what."""

from __future__ import annotations

import re
from typing import Any, Final

from django.core.exceptions import FieldDoesNotExist
from django.db import models
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from audit_log.models import Record
from audit_log.recording.targets import model_of

# What the app itself records. Actions of projects are shown as they are.
PHRASES: Final[dict[str, Any]] = {
    "create": _("created"),
    "update": _("changed"),
    "delete": _("deleted"),
    "view": _("viewed"),
    "m2m.add": _("added to"),
    "m2m.remove": _("removed from"),
    "m2m.clear": _("emptied"),
    "login": _("logged in"),
    "logout": _("logged out"),
    "login_failed": _("failed to log in"),
    "impersonate": _("began to act as"),
    "password.changed": _("changed the password of"),
    "password.reset": _("reset the password of"),
    "user.activated": _("activated"),
    "user.deactivated": _("deactivated"),
    "permission.granted": _("granted permissions to"),
    "permission.revoked": _("revoked permissions of"),
    "request": _("sent a request"),
    "usage": _("requests in one minute"),
    "task": _("ran a task"),
    "command": _("ran a command"),
    "denied": _("was denied"),
    "audit_log.started": _("started the log"),
    "audit_log.stopped": _("stopped the log"),
    "audit_log.suspended": _("suspended recording"),
    "audit_log.viewed": _("looked at the log"),
    "audit_log.revealed": _("opened sealed contents"),
    "audit_log.parked": _("set a batch aside"),
    "audit_log.alerted": _("raised an alert"),
    "audit_log.triggers_installed": _("installed triggers"),
    "audit_log.triggers_removed": _("removed triggers"),
    "audit_log.verified": _("verified the log"),
    "audit_log.verify_failed": _("found the log altered"),
}
OUTCOMES: Final[dict[str, Any]] = {
    "success": _("success"),
    "failure": _("failure"),
    "denied": _("denied"),
    "unknown": _("unknown"),
}
ACTORS: Final[dict[str, Any]] = {
    "user": _("user"),
    "admin": _("admin"),
    "service": _("service"),
    "system": _("system"),
    "anonymous": _("anonymous"),
}
_NAMED: Final = 3  # fields in a phrase
# C0 but for tab and line feed, C1, line and paragraph separators, and what changes the direction
# of text: signs that let a value look like something else.
_INVISIBLE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]"
)


def visible(text: object) -> str:
    r"""`text` with control characters written out (`\u202e`). Plain: the template escapes it."""
    return _INVISIBLE.sub(lambda found: f"\\u{ord(found[0]):04x}", str(text))


def field_of(model: type[models.Model] | None, name: str) -> models.Field[Any, Any] | None:
    """The field of that name, if the model has it still."""
    if model is None:
        return None
    try:
        field = model._meta.get_field(name)
    except FieldDoesNotExist:
        return None
    return field if isinstance(field, models.Field) else None


def field_label(model: type[models.Model] | None, name: str) -> str:
    """A field as people read it."""
    field = field_of(model, name)
    return visible(name) if field is None else str(field.verbose_name)


def type_label(target_type: str | None) -> str:
    """A model as people read it; its name when it is gone."""
    model = model_of(target_type)
    return visible(target_type or "") if model is None else str(model._meta.verbose_name)


def phrase(row: Record) -> str:
    """What was done: `changed balance, status`."""
    known = PHRASES.get(row.action)
    text = visible(row.action) if known is None else str(known)
    if row.action == "update" and changed_names(row):
        return f"{text} {_fields(row)}"
    if row.action.startswith("m2m.") and "field" in mapping(row.data):
        field = field_label(model_of(row.target_type), str(mapping(row.data)["field"]))
        return f"{text} {field}" if row.affected is None else f"{text} {field} ({row.affected})"
    return text


def _fields(row: Record) -> str:
    model = model_of(row.target_type)
    names = [field_label(model, name) for name in changed_names(row)]
    shown = ", ".join(names[:_NAMED])
    more = len(names) - _NAMED
    if more <= 0:
        return shown
    return ngettext("%(fields)s and %(more)d more", "%(fields)s and %(more)d more", more) % {
        "fields": shown,
        "more": more,
    }


def changed_names(row: Record) -> list[str]:
    """The names of the fields that changed."""
    names = row.changed_fields if isinstance(row.changed_fields, list) else []
    return [str(name) for name in names]


def mapping(value: Any) -> dict[str, Any]:
    """`value` if it is a dict: an altered column may hold anything."""
    return value if isinstance(value, dict) else {}


def actor_name(row: Record, label: str | None) -> str:
    """Who: the label, else the id, else what kind of actor it was."""
    if label or row.actor_id:
        return visible(label or row.actor_id)
    return actor_kind(row)


def actor_kind(row: Record) -> str:
    """What kind of actor it was."""
    kind = row.actor_type or "system"
    return str(ACTORS.get(kind, visible(kind)))


def target_name(row: Record, label: str | None) -> str:
    """To what: its label, else its id."""
    return visible(label or (f"#{row.target_id}" if row.target_id else ""))


def sentence(row: Record, labels: tuple[str | None, str | None]) -> str:
    """The whole record: `ada changed balance: account DE89…`."""
    actor, target = labels
    said = f"{actor_name(row, actor)} {phrase(row)}"
    if not row.target_type:
        return said
    named = target_name(row, target)
    thing = f"{type_label(row.target_type)} {named}".strip()
    return gettext("%(said)s: %(thing)s") % {"said": said, "thing": thing}
