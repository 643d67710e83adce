"""Records as the rows of a table: the list, the history of an object, one request's records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from audit_log.admin import wording
from audit_log.admin.links import Links
from audit_log.models import Record
from audit_log.reading import contents


@dataclass(frozen=True, slots=True)
class Named:
    """A name, what kind of thing bears it, and where more about it is (or an empty string)."""

    name: str
    kind: str
    url: str


@dataclass(frozen=True, slots=True)
class Row:
    """One record, in words that need escaping only."""

    url: str
    time: datetime
    actor: Named
    action: str
    phrase: str
    target: Named | None
    outcome: str
    outcome_label: str
    request: Named | None
    stream: str
    sequence: int


def rows_of(records: Iterable[Record], links: Links) -> list[Row]:
    """The rows of some records; one query for the keys of all labels."""
    found = list(records)
    labels = contents.labels(found)
    return [row_of(record, links, labels[record.pk]) for record in found]


def row_of(record: Record, links: Links, labels: tuple[str | None, str | None]) -> Row:
    """One row, given the labels of actor and target."""
    return Row(
        url=links.record(record.pk),
        time=record.occurred_at,
        actor=actor_of(record, links, labels[0]),
        action=wording.visible(record.action),
        phrase=wording.phrase(record),
        target=target_of(record, links, labels[1]),
        outcome=record.outcome if record.outcome in wording.OUTCOMES else "unknown",
        outcome_label=str(wording.OUTCOMES.get(record.outcome, wording.visible(record.outcome))),
        request=_request(record, links),
        stream=wording.visible(record.stream),
        sequence=record.sequence,
    )


def actor_of(record: Record, links: Links, label: str | None) -> Named:
    """Who it was."""
    name = wording.actor_name(record, label)
    kind = wording.actor_kind(record)
    return Named(
        name=name,
        kind="" if kind == name else kind,
        url=links.actor(record),
    )


def target_of(record: Record, links: Links, label: str | None) -> Named | None:
    """What it was done to."""
    if not record.target_type:
        return None
    return Named(
        name=wording.target_name(record, label),
        kind=wording.type_label(record.target_type),
        url=links.target(record),
    )


def _request(record: Record, links: Links) -> Named | None:
    if not (record.request_id or record.route):
        return None
    place = record.path or record.route or record.request_id or ""
    status = "" if record.status is None else str(record.status)
    name = " ".join(part for part in (record.method or "", wording.visible(place)) if part)
    return Named(name=name, kind=status, url=links.request(record))
