"""`bulk_create`: the rows of one INSERT, or of its batches.

Django gives the instances their keys just afterwards; we do so before, to name what was written.
Where the database returns none (MySQL), rows have events without the id of a target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from audit_log.capture import accounts, changes, snapshots
from audit_log.capture.before import read_rows
from audit_log.capture.failures import sheltered
from audit_log.capture.fields import NOT_LOADED
from audit_log.capture.given import common_values, fields_of, note
from audit_log.capture.labels import labels_of, remembering
from audit_log.capture.plans import Plan
from audit_log.capture.ranges import Ranges, in_order
from audit_log.capture.saves import only_the_row_tells
from audit_log.capture.summaries import summary
from audit_log.conf import get_settings
from audit_log.recording import pending


class Insert:
    """Rows that are inserted, or nothing is."""

    def __init__(
        self, plan: Plan, rows: Sequence[models.Model], connection: BaseDatabaseWrapper
    ) -> None:
        self.plan = plan
        self.rows = rows
        self.connection = connection

    def capture(self, *, returned: Sequence[Sequence[Any]]) -> None:
        """One event for each row, or one for all; and what the rows hold from now on."""
        give_keys(self.rows, returned)
        if len(self.rows) > get_settings().bulk_rows:
            self._add_summary()
            note(self.plan, self.rows, self.connection)
            return
        written = self._written()
        mark = pending.mark(self.connection)
        labels = labels_of(self.rows, self.connection)
        with remembering():
            for row, values, name in zip(self.rows, written, labels, strict=True):
                add_creation(self.plan, row, values, self.connection, label=name)
        for row, values in zip(self.rows, written, strict=True):
            if row.pk is not None:
                snapshots.written(row, self.plan, self.connection.alias, values, mark)

    def note(self, *, returned: Sequence[Sequence[Any]]) -> None:
        """What the rows hold from now on, without an event."""
        give_keys(self.rows, returned)
        note(self.plan, self.rows, self.connection)

    def _written(self) -> list[dict[str, Any]]:
        """The values of each row by attribute name; what only the row tells is read back."""
        written, asked = [], {}
        for row in self.rows:
            held, values = row.__dict__, {}
            for item in self.plan.fields:
                value = held.get(item.attname, NOT_LOADED)
                if only_the_row_tells(item, value):
                    asked[item.attname] = item
                else:
                    values[item.attname] = value
            written.append(values)
        if asked:
            keys = [row.pk for row in self.rows if row.pk is not None]
            with sheltered(self.connection):
                read = read_rows(
                    self.plan, keys, self.connection, lock=False, items=list(asked.values())
                )
            for row, values in zip(self.rows, written, strict=True):
                for name, kept in read.get(row.pk, {}).items():
                    values[name] = asked[name].restore(kept)
        return written

    def _add_summary(self) -> None:
        keys = [row.pk for row in self.rows]
        event = summary(
            "create",
            self.plan,
            count=len(keys),
            keys=None if None in keys else Ranges(self.plan, in_order(keys)),
            fields=fields_of(self.plan, self.rows),
            values=common_values(self.plan.fields, self.rows),
        )
        pending.add(self.connection, event)


def give_keys(rows: Sequence[models.Model], returned: Sequence[Sequence[Any]]) -> None:
    """What the database returned of each row, as Django itself sets it next."""
    for row, values in zip(rows, returned, strict=False):  # shorter where it returns none
        fields = row._meta.db_returning_fields
        for field, value in zip(fields, values, strict=False):
            if not field.primary_key or row.pk is None:
                setattr(row, field.attname, value)


def add_creation(
    plan: Plan,
    row: models.Model,
    values: Mapping[str, Any],
    connection: BaseDatabaseWrapper,
    *,
    label: str,
    **more: Any,
) -> None:
    """The event of one row that was inserted."""
    found = changes.of_creation(plan, row, values, connection)
    event = changes.row_event(
        "create", plan, row, found, pk=row.pk, label=label, source="orm", **more
    )
    pending.add(connection, event)
    if plan.account:
        accounts.follow(event, row, plan.account, connection)
