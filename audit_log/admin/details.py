"""Everything the page of one record shows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from django.contrib.admin.utils import quote
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _

from audit_log.admin import rendering, wording
from audit_log.admin.integrity import integrity_of
from audit_log.admin.links import Links
from audit_log.admin.rendering import Value, shortened, show
from audit_log.admin.rows import row_of
from audit_log.ledger.heads import BOOKKEEPING
from audit_log.models import Record
from audit_log.reading.contents import labels
from audit_log.recording.targets import model_of
from audit_log.router import ledger_alias

_RELATED: Final = 50
Facts = list[tuple[str, Value]]


def context(
    row: Record, links: Links, opened: dict[str, Any] | None = None, longest: int = -1
) -> dict[str, Any]:
    """The template's variables; `opened` is what `reading.contents` gave, where it was asked.

    Of what people wrote, `longest` characters a value are shown; all, where it is negative.
    """
    using = row._state.db or ledger_alias()
    siblings, more = _same_request(row, using)
    found = labels([row, *siblings])
    model = model_of(row.target_type)
    return {
        "title": wording.sentence(row, found[row.pk]),
        "record": row,
        "row": row_of(row, links, found[row.pk]),
        "target_page": _target_page(row, links),
        "changes": rendering.changes_of(row, model, opened, longest),
        "facts": _envelope(row),
        "actor_facts": _actor(row, opened),
        "request_facts": [*_request(row), *_sent(opened, longest)],
        "data": _data(row, opened, longest),
        "marks": rendering.other_marks(row),
        "reason": opened and opened.get("reason") and wording.visible(opened["reason"]),
        "closed": [wording.visible(why) for why in opened["closed"]] if opened else [],
        "is_opened": opened is not None,
        "has_sealed": bool(row.sealed_actor or row.sealed_data),
        "integrity": integrity_of(row, using),
        "same_request": [row_of(other, links, found[other.pk]) for other in siblings],
        "more_in_request": links.request(row) if more else "",
        "open_url": links.opening(row.pk),
        "redact_url": links.redacting(row.pk),
    }


def is_redactable(row: Record) -> bool:
    """Whether there is anything open in it that may be removed."""
    return bool(row.salt and (row.changes or row.data) and row.stream != BOOKKEEPING)


def _same_request(row: Record, using: str) -> tuple[list[Record], bool]:
    """The other records of the request, and whether there are more."""
    if not row.request_id:
        return [], False
    rows = Record.objects.using(using).filter(request_id=row.request_id).exclude(pk=row.pk)
    found = list(rows.order_by("-pk").defer("changes", "redactions", "salt")[: _RELATED + 1])
    return found[:_RELATED], len(found) > _RELATED


def _target_page(row: Record, links: Links) -> str:
    """The object's own page in the admin, where it has one; it says itself if it is gone."""
    model = model_of(row.target_type)
    # A fingerprint stands for a key that must not be shown; nothing can be found by it.
    if model is None or not row.target_id or row.target_id.startswith("fp:"):
        return ""
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}_change"
    try:
        return reverse(name, args=[quote(row.target_id)], current_app=links.site_name)
    except NoReverseMatch:
        return ""


def _facts(pairs: Iterable[tuple[str, Any]]) -> Facts:
    return [(label, show(value)) for label, value in pairs if value not in (None, "")]


def _envelope(row: Record) -> Facts:
    emitter = row.emitter and f"{row.emitter} #{row.emitter_seq}"
    return _facts(
        [
            (_("Id"), str(row.pk)),
            (_("Source"), row.source),
            (_("Service"), row.service),
            (_("Process"), emitter),
            (_("Tenant"), row.tenant),
            (_("Affected"), row.affected),
            (_("Trace"), row.trace_id),
            (_("Parent"), row.parent_id),
        ]
    )


def _actor(row: Record, opened: dict[str, Any] | None) -> Facts:
    said = opened["actor"] if opened else {}
    return _facts(
        [
            (_("Id"), row.actor_id),
            (_("Via"), row.actor_via),
            (_("E-mail"), said.get("email")),
            (_("Address"), said.get("ip")),
            (_("User agent"), said.get("user_agent")),
            (_("Session"), row.session_token),
        ]
    )


def _request(row: Record) -> Facts:
    duration = None if row.duration_ms is None else f"{row.duration_ms} ms"
    return _facts(
        [
            (_("Method"), row.method),
            (_("Path"), row.path),
            (_("View"), row.route),
            (_("Status"), row.status),
            (_("Duration"), duration),
            (_("Id"), row.request_id),
        ]
    )


def _sent(opened: dict[str, Any] | None, longest: int) -> Facts:
    sent = opened["request"] if opened else {}
    facts = _facts([(_("Query"), sent.get("query")), (_("Body"), sent.get("body"))])
    return [(label, shortened(value, longest)) for label, value in facts]


def _data(
    row: Record, opened: dict[str, Any] | None, longest: int
) -> list[tuple[str, Value, list[str]]]:
    """(key, value, marks) of what the event says beside its changes."""
    known = opened["data"] if opened else wording.mapping(row.data)
    marks = rendering.marks_of(row, "data")
    return [
        (
            wording.visible(key),
            shortened(show(value), longest),
            [rendering.reason(rule) for _path, rule in marks.get(str(key), ())],
        )
        for key, value in known.items()
    ]
