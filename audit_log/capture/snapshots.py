"""What a row looked like before: as this process loaded it, or last wrote it and committed.

A snapshot lives on `instance._state`, so copies and pickles carry it. One taken by a save is
trusted while that transaction lives or once it has committed; else the one before it counts. One
that was read while we had written that row ourselves, uncommitted, depends on that write.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from django.db import models

from audit_log.capture.fields import NOT_LOADED
from audit_log.capture.plans import Plan
from audit_log.recording import pending
from audit_log.recording.targets import SNAPSHOT
from audit_log.recording.works import Mark, uncommitted

Row = tuple[str | None, Any]
"""Which row it is: database alias and primary key."""


class Snapshot:
    """Kept values by attribute name, of which row, the mark they depend on, what was before.

    Never changed once made: copies of an instance share it.
    """

    __slots__ = ("mark", "previous", "row", "values")

    def __init__(
        self,
        values: Mapping[str, Any],
        row: Row | None,
        mark: Mark | None = None,
        previous: Snapshot | None = None,
    ) -> None:
        self.values = values
        self.row = row
        self.mark = mark
        self.previous = previous

    def __deepcopy__(self, memo: Any) -> Snapshot:
        return self

    def __reduce__(self) -> tuple[type[Snapshot], tuple[dict[str, Any], Row | None]]:
        # A pickle leaves the transaction behind, and nobody can tell it how that ended: what is
        # still open is not known.
        layers = list(_layers(self))
        values = _merged(layer for layer in layers if _is_settled(layer))
        for layer in layers:
            if not _is_settled(layer):
                for name in layer.values:
                    values.pop(name, None)
        return Snapshot, (values, layers[0].row if layers else None)


def _is_settled(layer: Snapshot) -> bool:
    return layer.mark is None or layer.mark.settled


def _standing(snapshot: Snapshot | None) -> Snapshot | None:
    """The newest snapshot that was not rolled back."""
    while snapshot is not None and snapshot.mark is not None and snapshot.mark.undone:
        snapshot = snapshot.previous
    return snapshot


def _layers(snapshot: Snapshot | None) -> Iterator[Snapshot]:
    """The snapshots of one row that stand, newest first."""
    snapshot = first = _standing(snapshot)
    while snapshot is not None and first is not None and snapshot.row == first.row:
        yield snapshot
        snapshot = _standing(snapshot.previous)


def _merged(layers: Iterable[Snapshot]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for layer in reversed(list(layers)):
        values.update(layer.values)
    return values


def loaded(instance: models.Model, plan: Plan, names: Iterable[str], values: Sequence[Any]) -> None:
    """Keep the row that `from_db` was given: by reference, mutable values encoded."""
    if len(values) != len(plan.attnames):
        _loaded_in_part(instance, plan, names, values)
        return
    if plan.mutable:
        values = list(values)
        for position, item in plan.mutable:
            if values[position] is not None and item.keep is not None:
                values[position] = item.keep(values[position])
    if uncommitted:
        _set(instance, _of_row(instance, plan, dict(zip(plan.attnames, values, strict=True))))
        return
    instance._state.audit_log = values  # type: ignore[attr-defined]


def _loaded_in_part(
    instance: models.Model, plan: Plan, names: Iterable[str], values: Sequence[Any]
) -> None:
    wanted = set(names)
    row = dict(zip((name for name in plan.attnames if name in wanted), values, strict=False))
    for _, item in plan.mutable:
        if row.get(item.attname) is not None and item.keep is not None:
            row[item.attname] = item.keep(row[item.attname])
    _set(instance, _of_row(instance, plan, row))


def _of_row(instance: models.Model, plan: Plan, row: dict[str, Any]) -> Snapshot:
    alias = instance._state.db
    keys = tuple(row.get(plan.attnames[position]) for position in plan.key)
    key = keys if len(keys) > 1 else keys[0]
    mark = None if alias is None else pending.mark_of_row(alias, (plan.root, key))
    return Snapshot(row, (alias, key), mark)


def _set(instance: models.Model, snapshot: Snapshot) -> None:
    instance._state.audit_log = snapshot  # type: ignore[attr-defined]


def _newest(instance: models.Model, plan: Plan) -> Snapshot | None:
    """The snapshot that stands; a row as loaded becomes one when first needed."""
    kept = instance._state.__dict__.get(SNAPSHOT)
    if kept is None:
        return None
    if kept.__class__ is Snapshot:
        return _collapsed(instance, kept)
    if len(kept) != len(plan.attnames):
        return None  # pickled before the model got another field
    row = (instance._state.db, plan.key_in(kept))
    snapshot = Snapshot(dict(zip(plan.attnames, kept, strict=True)), row)
    _set(instance, snapshot)
    return snapshot


def _collapsed(instance: models.Model, snapshot: Snapshot) -> Snapshot | None:
    """The snapshot that stands, in one layer where all of them have committed."""
    if snapshot.mark is None:
        return snapshot
    if not snapshot.mark.settled:
        return _standing(snapshot)
    snapshot = Snapshot(_merged(_layers(snapshot)), snapshot.row)
    _set(instance, snapshot)
    return snapshot


def pin(instance: models.Model, plan: Plan) -> None:
    """Note which row it is that was loaded, before the instance is pointed to another database."""
    _newest(instance, plan)


def old_values(instance: models.Model, plan: Plan, alias: str) -> Mapping[str, Any]:
    """What is known of the row as it stands in this database, as kept (see `FieldPlan.restore`).

    Nothing, when the instance was given the key of another row, or is written to another database.
    """
    newest = _newest(instance, plan)
    if newest is None or newest.row != (alias, instance.pk):
        return {}
    if newest.mark is None:
        return newest.values
    return _merged(_layers(newest))


def written(
    instance: models.Model, plan: Plan, alias: str, values: Mapping[str, Any], mark: Mark | None
) -> None:
    """Note what the row holds from now on, if the transaction of `mark` commits.

    `values` are as Python has them; without a mark they are committed already.
    """
    _note(instance, plan, (alias, instance.pk), kept(plan, values), mark)


def kept(plan: Plan, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as Python has them, in the form that snapshots keep."""
    result = {}
    for attname, value in values.items():
        keep = plan.by_attname[attname].keep
        as_it_is = keep is None or value is None or value is NOT_LOADED
        result[attname] = value if keep is None or as_it_is else keep(value)
    return result


def _note(
    instance: models.Model, plan: Plan, row: Row, values: dict[str, Any], mark: Mark | None
) -> None:
    if mark is not None:
        mark.rows.add((plan.root, row[1]))
    base = _newest(instance, plan)
    if base is not None and base.row == row and (mark is None or base.mark is mark):
        # Committed as all before it; or both stand or fall together.
        known = base.values if base.mark is mark else _merged(_layers(base))
        previous = None if mark is None else base.previous
        _set(instance, Snapshot({**known, **values}, row, mark, previous))
        return
    _set(instance, Snapshot(values, row, mark, base))


def deleted(instance: models.Model, plan: Plan, mark: Mark) -> None:
    """Note that there is no such row any more, if the transaction of `mark` commits."""
    _set(instance, Snapshot({}, None, mark, _newest(instance, plan)))


def read(instance: models.Model, plan: Plan, alias: str, values: Mapping[str, Any]) -> None:
    """Note values that were read again. What they contradict is not believed any more."""
    row = (alias, instance.pk)
    mark = pending.mark_of_row(alias, (plan.root, instance.pk))
    if mark is None:
        _note(instance, plan, row, kept(plan, values), None)
        return
    known = old_values(instance, plan, alias)
    news = {
        name
        for name, value in values.items()
        if not plan.by_attname[name].same(known.get(name, NOT_LOADED), value)
    }
    if news:
        before = _without(_newest(instance, plan), news)
        _set(instance, Snapshot(kept(plan, values), row, mark, before))


def _without(snapshot: Snapshot | None, names: set[str]) -> Snapshot | None:
    if snapshot is None:
        return None
    values = {name: value for name, value in snapshot.values.items() if name not in names}
    return Snapshot(values, snapshot.row, snapshot.mark, _without(snapshot.previous, names))
