"""What a row looked like before: as this process loaded it, or last wrote it and committed.

A snapshot lives on `instance._state`, so copies and pickles carry it. One taken by a save is
trusted while that transaction lives or once it has committed; else the one before it counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from django.db import models

from audit_log.capture.plans import NOT_LOADED, Plan
from audit_log.recording.pending import Mark

_ATTRIBUTE: Final = "audit_log"


class Snapshot:
    """Kept values by attribute name, the mark they were taken under, and what was before."""

    __slots__ = ("mark", "previous", "values")

    def __init__(
        self, values: dict[str, Any], mark: Mark | None = None, previous: Snapshot | None = None
    ) -> None:
        self.values = values
        self.mark = mark
        self.previous = previous

    def __reduce__(self) -> tuple[type[Snapshot], tuple[dict[str, Any]]]:
        # A pickle leaves the transaction behind: keep what is sure, in one piece.
        sure = standing(self)
        while sure is not None and sure.mark is not None and not sure.mark.settled:
            sure = standing(sure.previous)
        return Snapshot, (flatten(sure),)


def standing(snapshot: Snapshot | None) -> Snapshot | None:
    """The newest snapshot that was not rolled back."""
    while snapshot is not None and snapshot.mark is not None and snapshot.mark.undone:
        snapshot = snapshot.previous
    return snapshot


def flatten(snapshot: Snapshot | None) -> dict[str, Any]:
    """All kept values that stand, newest first."""
    layers: list[dict[str, Any]] = []
    snapshot = standing(snapshot)
    while snapshot is not None:
        layers.append(snapshot.values)
        snapshot = standing(snapshot.previous)
    values: dict[str, Any] = {}
    for layer in reversed(layers):
        values.update(layer)
    return values


def loaded(instance: models.Model, plan: Plan, field_names: Iterable[str], values: Any) -> None:
    """Keep the row that `from_db` was given: by reference, mutable values encoded."""
    if len(values) != len(plan.attnames):
        wanted = set(field_names)
        names = [name for name in plan.attnames if name in wanted]
        row = dict(zip(names, values, strict=False))
        for _, item in plan.mutable:
            if row.get(item.attname) is not None and item.keep is not None:
                row[item.attname] = item.keep(row[item.attname])
        instance._state.audit_log = Snapshot(row)  # type: ignore[attr-defined]
        return
    if plan.mutable:
        values = list(values)
        for position, item in plan.mutable:
            if values[position] is not None and item.keep is not None:
                values[position] = item.keep(values[position])
    instance._state.audit_log = values  # type: ignore[attr-defined]


def snapshot_of(instance: models.Model, plan: Plan) -> Snapshot | None:
    """The snapshot that counts now; a row as loaded becomes one when first needed."""
    kept = getattr(instance._state, _ATTRIBUTE, None)
    if kept is None:
        return None
    if not isinstance(kept, Snapshot):
        kept = Snapshot(dict(zip(plan.attnames, kept, strict=True)))
    else:
        kept = standing(kept)
    instance._state.audit_log = kept  # type: ignore[attr-defined]
    return kept


def old_values(instance: models.Model, plan: Plan) -> Mapping[str, Any]:
    """What is known of the row as it stands in the database, as kept (see `restore`)."""
    return flatten(snapshot_of(instance, plan))


def restore(plan: Plan, attname: str, values: Mapping[str, Any]) -> Any:
    """One old value as Python has it, or NOT_LOADED."""
    value = values.get(attname, NOT_LOADED)
    item = plan.by_attname[attname]
    if value is None or value is NOT_LOADED or item.kept is None:
        return value
    return item.kept(value)


def written(instance: models.Model, plan: Plan, values: dict[str, Any], mark: Mark | None) -> None:
    """Note what the row holds from now on, if the transaction of `mark` commits.

    `values` are as Python has them.
    """
    kept = {}
    for attname, value in values.items():
        item = plan.by_attname[attname]
        kept[attname] = item.keep(value) if item.keep is not None and value is not None else value
    base = snapshot_of(instance, plan)
    if mark is None:  # committed already, as is everything before it
        instance._state.audit_log = Snapshot({**flatten(base), **kept})  # type: ignore[attr-defined]
        return
    if base is not None and base.mark is not None:
        if base.mark is mark:
            # Both stand or fall together.
            instance._state.audit_log = Snapshot({**base.values, **kept}, mark, base.previous)  # type: ignore[attr-defined]
            return
        if base.mark.settled:
            base = Snapshot(flatten(base))
    instance._state.audit_log = Snapshot(kept, mark, base)  # type: ignore[attr-defined]
