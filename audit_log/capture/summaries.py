"""One event for a statement that wrote more rows than `BULK_ROWS`.

Its target has a type and no id. `data.bulk` says how many rows, which keys and which fields;
`changes` holds new values where they are the same in every row, and marks what is not known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from audit_log import context
from audit_log.capture.changes import Changes
from audit_log.capture.fields import NOT_LOADED, FieldPlan
from audit_log.capture.plans import Plan
from audit_log.capture.ranges import Ranges
from audit_log.events import Event, Target


def summary(  # noqa: PLR0913 - what one statement did
    action: str,
    plan: Plan,
    *,
    count: int | None,
    keys: Ranges | None = None,
    fields: Iterable[FieldPlan] = (),
    values: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
    more: Mapping[str, Any] | None = None,
) -> Event:
    """The event of a statement over many rows.

    `values` are new ones by attribute name, of those `fields` in which all rows got the same.
    `extra` joins `data.bulk`, `more` joins `data`. A `count` of None is not known; then neither is
    the outcome.
    """
    changes = Changes()
    names = [item.name for item in fields]
    for item in fields:
        new = (values or {}).get(item.attname, NOT_LOADED)
        if new is not None or action != "create":  # what is null was not changed by a creation
            changes.add_summed(item, None if action == "create" else NOT_LOADED, new)
    bulk: dict[str, Any] = {"count": count, "fields": names, **(extra or {})}
    if keys is not None:
        bulk["keys"] = keys.parts
        if keys.omitted:
            bulk["keys_omitted"] = keys.omitted
    return context.new_event(
        action,
        target=Target(type=plan.type),
        outcome="unknown" if count is None else "success",
        affected=count,
        changes=changes.values or None,
        redactions=tuple(changes.redactions),
        sealed=tuple(changes.sealed),
        data={
            "bulk": {name: said for name, said in bulk.items() if said is not None},
            **(more or {}),
        },
        source="orm",
    )
