"""Which records a rule counts: one record in memory, and many as a query."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db.models import Aggregate, BigIntegerField, Count, F, Q, QuerySet, Sum
from django.db.models.functions import Coalesce, Substr
from django.db.models.lookups import Exact

from audit_log.conf.alerts import AlertRule
from audit_log.models import Record
from audit_log.reading.search import first_id

ALERTED: Final = "audit_log.alerted"
# What is imported with a date of long ago is history, not news.
IMPORT_SLACK: Final = timedelta(hours=1)
# Ids are times, but only to within two seconds (`events.id_agrees`).
_ID_SLACK: Final = timedelta(seconds=2)
_LATEST: Final = datetime.max.replace(tzinfo=UTC)
_ALWAYS: Final = ("id", "stream", "sequence", "occurred_at", "recorded_at", "source", "action")

Row = Mapping[str, Any]
Group = str | int | None


@dataclass(frozen=True, slots=True)
class Matcher:
    """One rule, as the evaluation asks it."""

    rule: AlertRule

    @property
    def columns(self) -> set[str]:
        """What `takes`, `group` and `amount` read of a row."""
        grouped = () if self.rule.group_by is None else (self.rule.group_by,)
        return {*_ALWAYS, "affected", *self.rule.match, *grouped}

    def takes(self, row: Row) -> bool:
        """Whether the rule counts this record. What says that an alert fired never makes one."""
        if row["action"] == ALERTED or _is_history(row, self.rule):
            return False
        return all(_is_one_of(row[name], values) for name, values in self.rule.match.items())

    def group(self, row: Row) -> Group:
        """What the record is counted under."""
        return None if self.rule.group_by is None else row[self.rule.group_by]

    def amount(self, row: Row) -> int:
        """What the record adds: one without `affected` is about one object."""
        affected = None if self.rule.measure == "count" else row["affected"]
        return 1 if affected is None else affected

    def total(self) -> Aggregate:
        """The same, of many records."""
        if self.rule.measure == "count":
            return Count("pk")
        return Sum(Coalesce("affected", 1, output_field=BigIntegerField()), default=0)

    def query(self, using: str, since: datetime, until: datetime) -> QuerySet[Record]:
        """The records between two times, and a few of two seconds before and after."""
        query = Record.objects.using(using).filter(
            pk__gte=first_id(since - _ID_SLACK), pk__lt=first_id(later(until, _ID_SLACK))
        )
        for name, values in self.rule.match.items():
            query = query.filter(_condition(name, values))
        # Arithmetic on our own clock's times: forged ones may be at the end of the calendar.
        old = F("recorded_at") - (self.rule.window + IMPORT_SLACK)
        history = Q(source="import", occurred_at__lt=old)
        return query.exclude(action=ALERTED).exclude(history)

    def in_groups(self, groups: Iterable[Group]) -> Q:
        """The condition for a record to be of one of the groups."""
        if self.rule.group_by is None:
            return Q()
        wanted = set(groups)
        named = Q(**{f"{self.rule.group_by}__in": wanted - {None}})
        return named | Q(**{f"{self.rule.group_by}__isnull": True}) if None in wanted else named


def later(moment: datetime, length: timedelta) -> datetime:
    """`moment + length`, or the last moment there is: a forged time must not stop anything."""
    return moment + length if moment < _LATEST - length else _LATEST


def _is_history(row: Row, rule: AlertRule) -> bool:
    age: timedelta = row["recorded_at"] - row["occurred_at"]
    return row["source"] == "import" and age > rule.window + IMPORT_SLACK


def _is_one_of(value: object, wanted: Iterable[str | int]) -> bool:
    return any(
        value == one
        or (isinstance(one, str) and one.endswith("*") and str(value or "").startswith(one[:-1]))
        for one in wanted
    )


def _condition(name: str, values: Iterable[str | int]) -> Q:
    condition = Q()
    for value in values:
        if isinstance(value, str) and value.endswith("*"):
            # The first for an index; the second because LIKE folds case on SQLite.
            begins = Exact(Substr(name, 1, len(value) - 1), value[:-1])
            condition |= Q(**{f"{name}__startswith": value[:-1]}) & Q(begins)
        else:
            condition |= Q(**{name: value})
    return condition
