"""An alert as a row and as a record of the log, both in the evaluation's transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connections

from audit_log import context
from audit_log.alerts.matching import ALERTED, Group
from audit_log.alerts.windows import Span, Window
from audit_log.conf import get_settings
from audit_log.conf.alerts import AlertRule
from audit_log.events import Target, format_time
from audit_log.models import Alert
from audit_log.recording import pending

_MAX_GROUP = 255


def group_text(group: Group) -> str:
    """A group as alerts name it. Longer ones (paths) are cut."""
    return "" if group is None else str(group)[:_MAX_GROUP]


def covered(
    rule: AlertRule, groups: Iterable[str], since: datetime, until: datetime, using: str
) -> dict[str, list[Span]]:
    """What alerts of the rule have fired for already, by group, in order of time."""
    spans: dict[str, list[Span]] = defaultdict(list)
    rows = Alert.objects.using(using).filter(
        rule=rule.name, group__in=set(groups), window_end__gt=since, window_start__lte=until
    )
    for group, start, end in rows.order_by("window_start").values_list(
        "group", "window_start", "window_end"
    ):
        spans[group].append((start, end))
    return spans


def fire(rule: AlertRule, group: Group, window: Window, using: str) -> None:
    """Store the alert, to be told by its channels once this is committed, and record it."""
    now = datetime.now(UTC)
    match = {name: list(values) for name, values in rule.match.items()}
    if rule.group_by is not None:
        match[rule.group_by] = [] if group is None else [group]
    alert = Alert.objects.using(using).create(
        rule=rule.name,
        group_by=rule.group_by or "",
        group=group_text(group),
        match=match,
        measure=rule.measure,
        measured=window.measured,
        threshold=rule.threshold,
        window_start=window.start,
        window_end=window.end,
        stream=window.last.stream,
        sequence=window.last.sequence,
        fired_at=now,
        channels={name: {"attempts": 0} for name in rule.channels},
        due_at=now if rule.channels else None,
    )
    if get_settings().enabled:
        _record(alert, using)


def _record(alert: Alert, using: str) -> None:
    """Not by `record()`: that seals text, and nothing here is anybody's secret."""
    target = Target(type=Alert._meta.label_lower, id=str(alert.pk))
    event = context.new_event(ALERTED, source="explicit", target=target, data=_data(alert))
    pending.add(connections[using], event)


def _data(alert: Alert) -> dict[str, Any]:
    length: timedelta = alert.window_end - alert.window_start
    return {
        "rule": alert.rule,
        "group_by": alert.group_by,
        "group": alert.group,
        "measure": alert.measure,
        "measured": alert.measured,
        "threshold": alert.threshold,
        "window": int(length.total_seconds()),
        "since": format_time(alert.window_start),
        "stream": alert.stream,
        "sequence": alert.sequence,
    }
