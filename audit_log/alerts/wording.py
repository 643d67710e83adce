"""An alert in words: for the subject of a mail, a line of a log file, a page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from audit_log.models import Alert
from audit_log.reading.search import COLUMNS

_UNITS: Final = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
_MAX_GROUP: Final = 80


def headline(alert: Alert) -> str:
    """`mass_delete: sum(affected) 120 (threshold 100 in 5m) by actor_id 7`, on one line."""
    said = (
        f"{alert.rule}: {alert.measure} {alert.measured} "
        f"(threshold {alert.threshold} in {period(alert.window_end - alert.window_start)})"
    )
    return one_line(said if not alert.group_by else f"{said} by {alert.group_by} {_group(alert)}")


def details(alert: Alert) -> str:
    """From when to when, and which record reached the threshold."""
    start, end = moment(alert.window_start), moment(alert.window_end)
    return one_line(f"{start} to {end}, record {alert.stream}/{alert.sequence}")


def search_text(alert: Alert) -> str:
    """The filters that find the records, or as much of them as `key:value …` can say."""
    words = [
        f'{name}:"{values[0]}"'
        for name, values in alert.match.items()
        if name in COLUMNS and len(values) == 1 and not set("\"'") & set(str(values[0]))
    ]
    # To the second, outwards: the language knows no end that is inclusive.
    end = alert.window_end + timedelta(seconds=1)
    return " ".join([*words, f"since:{moment(alert.window_start)}", f"until:{moment(end)}"])


def delivery(state: Mapping[str, Any]) -> str:
    """What became of one channel, as `Alert.channels` keeps it."""
    if "sent_at" in state:
        return f"sent {state['sent_at']}"
    if "error" not in state:
        return "not sent yet"
    again = "given up" if "given_up_at" in state else "tried again"
    return f"failed {state['attempts']} times, {again}: {state['error']}"


def period(length: timedelta) -> str:
    """A length of time as settings write it: `5m`."""
    seconds = int(length.total_seconds())
    unit, size = next((u, s) for u, s in _UNITS if seconds % s == 0)
    return f"{seconds // size}{unit}"


def moment(value: datetime) -> str:
    """`2026-11-24T09:30:00Z`."""
    return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%S}Z"


def one_line(text: str) -> str:
    """`text` with everything that is not printable written as its code point."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)


def _group(alert: Alert) -> str:
    cut = len(alert.group) > _MAX_GROUP
    return (alert.group[:_MAX_GROUP] + "…" * cut) or "(none)"
