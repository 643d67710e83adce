"""The rules for old values: folded over the first state, what was recorded gives the last row."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from django.db import DatabaseError, connection, models, transaction
from django.db.models import F
from django.db.transaction import Atomic
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import audit_log
from audit_log import testing
from audit_log.capture import saves, snapshots
from audit_log.capture.plans import plan_of
from audit_log.events import Event, Redaction
from audit_log.recording import pending, works
from tests.capture.statements import savepoint
from tests.shop.models import Category, Place, Restaurant, Stock, Values, Watched

committed = pytest.mark.django_db(transaction=True)
rolled_back = pytest.mark.django_db

VALUES: dict[str, list[Any]] = {
    "title": ["", "a", "b"],
    "big": [None, 0, 1, 2**60],
    "amount": [None, Decimal("1.10"), "1.1", Decimal(-3)],
    "extra": [None, {}, {"a": 1}, {"a": True}, {"a": [1, {"b": None}]}],
}
STOCK: dict[str, list[Any]] = {"amount": [0, 1, 2], "note": ["", "a", "b"]}


class Machine:
    """One row, the instances that hold it, and the blocks that are open."""

    def __init__(self, row: models.Model) -> None:
        self.model = type(row)
        self.key = row.pk
        self.rows = [row, row]
        self.blocks: list[tuple[Atomic, list[str]]] = []
        self.kept = 0

    def run(self, steps: list[tuple[Any, ...]]) -> None:
        if connection.in_atomic_block:
            self.begin(True)  # or an error would break the test's own
            self.kept = 1
        try:
            for name, *arguments in steps:
                # Refused: queries in a block that must roll back, F() in an INSERT, rows not there.
                with suppress(DatabaseError, models.ObjectDoesNotExist, ValueError):
                    getattr(self, name)(*arguments)
        finally:
            self.kept = 0
            while self.blocks:
                self.end(True)

    def assign(self, which: int, field: str, value: Any) -> None:
        setattr(self.rows[which], field, copy.deepcopy(value))

    def add_one(self, which: int, field: str) -> None:
        setattr(self.rows[which], field, F(field) + 1)

    def save(self, which: int) -> None:
        self.rows[which].pk = self.key
        self.rows[which].save()

    def save_one(self, which: int, field: str) -> None:
        if self.model._default_manager.filter(pk=self.key).exists():
            self.rows[which].save(update_fields=[field])

    def delete(self, which: int) -> None:
        self.rows[which].delete()
        self.rows[which].pk = self.key

    def reload(self, which: int) -> None:
        self.rows[which] = self.model._default_manager.get(pk=self.key)

    def load_part(self, which: int, field: str) -> None:
        self.rows[which] = self.model._default_manager.only(field).get(pk=self.key)

    def refresh(self, which: int) -> None:
        self.rows[which].refresh_from_db()

    def refresh_one(self, which: int, field: str) -> None:
        self.rows[which].refresh_from_db(fields=[field])

    def copied(self, which: int, how: Callable[[Any], Any]) -> None:
        self.rows[which] = how(self.rows[which])

    def begin(self, savepoint: bool) -> None:
        block = transaction.atomic(savepoint=savepoint)
        block.__enter__()
        self.blocks.append((block, []))

    def end(self, good: bool) -> None:
        if len(self.blocks) > self.kept:
            block, _ = self.blocks.pop()
            error = None if good else ValueError()
            block.__exit__(type(error) if error else None, error, None)

    def set_savepoint(self) -> None:
        if self.blocks:
            self.blocks[-1][1].append(savepoint())

    def roll_back_to_savepoint(self) -> None:
        if self.blocks and self.blocks[-1][1]:
            transaction.savepoint_rollback(self.blocks[-1][1][-1])

    def release_savepoint(self) -> None:
        if self.blocks and self.blocks[-1][1]:
            transaction.savepoint_commit(self.blocks[-1][1].pop())


def _pickled(row: models.Model) -> models.Model:
    loaded: models.Model = pickle.loads(pickle.dumps(row))
    return loaded


def _steps(values: dict[str, list[Any]], instances: int) -> st.SearchStrategy[Any]:
    which = st.integers(0, instances - 1)
    field = st.sampled_from(sorted(values))
    assigned = field.flatmap(
        lambda name: st.tuples(
            st.just("assign"), which, st.just(name), st.sampled_from(values[name])
        )
    )
    save = st.tuples(st.just("save"), which)
    step = st.one_of(
        assigned,
        assigned,
        save,
        save,
        st.tuples(st.just("save_one"), which, field),
        st.tuples(st.just("begin"), st.sampled_from([True, True, True, False])),
        st.tuples(st.just("end"), st.booleans()),
        st.tuples(st.just("set_savepoint")),
        st.tuples(st.just("roll_back_to_savepoint")),
        st.tuples(st.just("release_savepoint")),
        st.tuples(st.just("refresh"), which),
        st.tuples(st.just("refresh_one"), which, field),
        st.tuples(st.just("reload"), which),
        st.tuples(st.just("load_part"), which, field),
        st.tuples(st.just("delete"), which),
        st.tuples(st.just("add_one"), which, st.just("big" if "big" in values else "amount")),
        st.tuples(st.just("copied"), which, st.sampled_from([copy.copy, copy.deepcopy, _pickled])),
    )
    return st.lists(step, max_size=24)


def _state(model: type[models.Model], key: Any, fields: list[str]) -> dict[str, Any] | None:
    """The row as it stands, its values as its fields print them."""
    row = model._default_manager.filter(pk=key).values(*fields).first()
    return None if row is None else {name: _text(model, name, row[name]) for name in fields}


def _text(model: type[models.Model], name: str, value: Any) -> Any:
    plan = plan_of(model)
    assert plan is not None
    item = plan.by_attname[name]
    if not isinstance(item.field, models.JSONField) and isinstance(value, str):
        value = item.field.to_python(value)
    return repr(item.encode(value)[0])


def _fold(
    model: type[models.Model], state: dict[str, Any] | None, events: list[Event], *, exact: bool
) -> dict[str, Any] | None:
    for event in events:
        changes = {n: pair for n, pair in (event.changes or {}).items() if n in FIRST[model]}
        unknown = {mark.path for mark in event.redactions if mark.rule == "not_loaded"}
        if event.action == "delete":
            state = None
            continue
        if event.action == "create":
            state = dict.fromkeys(FIRST[model], repr(None))
        assert state is not None
        for name, (old, new) in changes.items():
            if event.action == "update" and f"changes.{name}.0" not in unknown:
                assert _text(model, name, old) == state[name], (event, state)
            assert not (exact and unknown), event
            state = {**state, name: _text(model, name, new)}
    return state


FIRST: dict[type[models.Model], dict[str, Any]] = {
    Values: dict.fromkeys(VALUES),
    Stock: dict.fromkeys(STOCK),
}


def _check(row: models.Model, steps: list[tuple[Any, ...]], *, exact: bool = False) -> None:
    model, key, fields = type(row), row.pk, list(FIRST[type(row)])
    first = _state(model, key, fields)
    with testing.capture_events() as events:
        Machine(row).run(steps)
    of_row = [e for e in events if e.target is not None and e.target.id == str(key)]
    assert _fold(model, first, of_row, exact=exact) == _state(model, key, fields)
    assert len(of_row) == len(events)


@committed
@given(steps=_steps(VALUES, 1))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_recorded_changes_fold_to_the_last_row(steps: list[tuple[Any, ...]]):
    """A4, A7, A12, C18: whatever is committed, rolled back, refreshed, deferred or copied."""
    _check(Values.objects.create(title="first", extra={"a": 0}), steps)


@rolled_back
@given(steps=_steps(VALUES, 1))
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
def test_recorded_changes_fold_to_the_last_row_in_a_test_case(steps: list[tuple[Any, ...]]):
    """L1: where nothing is ever committed."""
    _check(Values.objects.create(title="first", extra={"a": 0}), steps)


@committed
@given(steps=_steps(STOCK, 2))
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_old_values_from_the_database_are_exact_for_stale_instances(steps: list[tuple[Any, ...]]):
    """Two instances of one row, each behind the other's back."""
    _check(Stock.objects.create(name="s"), steps, exact=True)


@rolled_back
@given(steps=_steps(STOCK, 2))
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
def test_old_values_from_the_database_are_exact_in_a_test_case(steps: list[tuple[Any, ...]]):
    _check(Stock.objects.create(name="s"), steps, exact=True)


@committed
@pytest.mark.parametrize("how", ["save", "record"])
def test_what_only_a_label_loaded_is_not_known(how: str, events: list[Event]):
    """`__str__` reads a deferred field, which no refresh reads again."""
    Watched.objects.create(name="a")
    row = Watched.objects.only("number").get()
    row.number = 1
    if how == "save":
        row.save()
    else:
        audit_log.record("test.done", target=row)
    Watched.objects.filter(pk=row.pk).update(name="b")
    row.refresh_from_db()
    row.name = "a"
    row.save()
    assert (events[-1].changes or {})["name"] == [None, "a"]
    assert Redaction("changes.name.0", "not_loaded") in events[-1].redactions


@committed
def test_save_rolled_back_and_saved_again_is_recorded(events: list[Event]):
    row = Watched.objects.create(name="w", number=1)
    row.number = 2
    with transaction.atomic():
        row.save()
        transaction.set_rollback(True)
    row.save()
    assert events[-1].changes == {"number": [1, 2]}
    assert len(events) == 2


@rolled_back
def test_refresh_then_set_back_is_recorded(events: list[Event]):
    row = Watched.objects.create(name="w", number=1)
    Watched.objects.filter(pk=row.pk).update(number=5)
    row.refresh_from_db()
    row.number = 1
    row.save()
    assert events[-1].changes == {"number": [5, 1]}


@committed
def test_what_was_read_in_a_rolled_back_block_is_not_believed(events: list[Event]):
    """Loaded after our own write, which then was undone: to save it again is a change."""
    row = Watched.objects.create(name="w", number=1)
    other = Watched.objects.create(name="other")
    with transaction.atomic():
        row.number = 2
        row.save()
        loaded, refreshed = Watched.objects.get(pk=row.pk), Watched(pk=row.pk)
        refreshed.refresh_from_db()
        other = Watched.objects.get(pk=other.pk)
        transaction.set_rollback(True)
    del events[:]
    loaded.save()
    assert events[0].changes == {"name": [None, "w"], "number": [None, 2], "parent": [None, None]}
    assert {mark.rule for mark in events[0].redactions} == {"not_loaded"}
    Watched.objects.get(pk=row.pk)
    refreshed._state.adding = False
    refreshed.save()
    assert events[1].changes is not None
    other.save()
    assert len(events) == 2  # that row nobody had written


@committed
def test_what_was_read_before_a_savepoint_is_believed_after_it(events: list[Event]):
    row = Watched.objects.create(name="w", number=1)
    with transaction.atomic():
        row.number = 2
        row.save()
        sid = savepoint()
        loaded = Watched.objects.get(pk=row.pk)
        transaction.savepoint_rollback(sid)
        loaded.number = 3
        loaded.save()
    assert events[-1].changes == {"number": [2, 3]}


@committed
def test_parent_loaded_after_its_child_was_written_depends_on_it(events: list[Event]):
    """D4"""
    restaurant = Restaurant.objects.create(name="Inn")
    with transaction.atomic():
        restaurant.name = "Hotel"
        restaurant.save()
        place = Place.objects.get()
        transaction.set_rollback(True)
    place.save()
    assert events[-1].changes == {"name": [None, "Hotel"]}


@committed
def test_refresh_in_a_rolled_back_block_takes_back_what_was_believed_before(events: list[Event]):
    """Somebody else's change was read there, and is not undone."""
    row = Watched.objects.create(name="w", number=1)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE shop_watched SET number = 5")
    with transaction.atomic():
        other = Watched.objects.get()
        other.name = "v"
        other.save()
        row.refresh_from_db()
        transaction.set_rollback(True)
    row.name, row.number = "w", 1
    row.save()
    assert [event.action for event in events] == ["create", "update"]
    assert events[-1].changes == {"name": [None, "w"], "number": [None, 1]}


@rolled_back
def test_stale_instance_of_a_loaded_model_is_a_limit_that_we_state(events: list[Event]):
    """Old values are what this process had loaded; `before="database"` is exact."""
    row = Watched.objects.create(name="w", number=1)
    stale = Watched.objects.get()
    row.number = 2
    row.save()
    stale.name = "v"
    stale.save()  # writes number=1 back, and cannot know
    assert events[-1].changes == {"name": ["w", "v"]}


@rolled_back
@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy], ids=["copy", "deepcopy"])
def test_copy_of_an_instance_knows_what_it_knew(how: Callable[[Any], Any], events: list[Event]):
    row = Watched.objects.create(name="w", number=1)
    with transaction.atomic():
        row.number = 2
        row.save()
        twin = how(row)
        twin.number = 1
        twin.save()
    assert events[-1].changes == {"number": [2, 1]}


@committed
def test_pickle_leaves_out_what_its_transaction_may_undo(events: list[Event]):
    row = Watched.objects.create(name="w", number=1)
    assert _knows(_pickled(row)) == {"name", "number", "parent_id"}
    with transaction.atomic():
        row.number = 2
        row.save(update_fields=["number"])
        twin = _pickled(row)
        assert _knows(twin) == {"name", "parent_id"}
        transaction.set_rollback(True)
    twin.save()
    assert events[-1].changes == {"number": [None, 2]}


def _knows(row: models.Model) -> set[str]:
    plan = plan_of(type(row))
    assert plan is not None
    return set(snapshots.old_values(row, plan, "default")) & set(plan.by_attname)


@committed
def test_pickle_of_a_model_with_other_fields_is_not_believed(events: list[Event]):
    """A cache may outlive a migration."""
    Watched.objects.create(name="w", number=1)
    row = Watched.objects.get()
    row._state.audit_log = (row.pk, row.name, row.number)  # type: ignore[attr-defined]
    row.save()
    assert (events[-1].action, (events[-1].changes or {})["number"]) == ("update", [None, 1])


@committed
def test_every_kind_of_value_survives_a_pickle():
    Values.objects.create(raw=b"abc", extra={"a": [1]}, amount="1.10")
    row = _pickled(Values.objects.get())
    assert _knows(row) >= {"raw", "extra", "amount"}


@committed
def test_events_leave_with_the_transaction_that_commits_them(events: list[Event]):
    """Interleaved: atomic blocks, savepoints by hand, a callback that saves."""
    row = Watched.objects.create(name="w", number=0)
    with transaction.atomic():
        row.number = 1
        row.save()
        sid = savepoint()
        with transaction.atomic():
            row.number = 2
            row.save()
        transaction.savepoint_rollback(sid)
        row.number = 3
        row.save()
        transaction.savepoint_rollback(sid)
        transaction.savepoint_commit(sid)
        row.number = 4
        row.save()
    assert [(e.changes or {})["number"] for e in events[1:]] == [[0, 1], [1, 4]]


@rolled_back
def test_thousand_savepoints_do_not_slow_the_next_one_down():
    """One row saved in each: what is kept stays in proportion."""
    row = Watched.objects.create(name="w")
    for number in range(300):
        with transaction.atomic():
            row.number = number
            row.save()
    depth, layer = 0, row._state.audit_log  # type: ignore[attr-defined]
    while layer is not None:
        depth, layer = depth + 1, layer.previous
    assert depth <= 301
    assert pending.work_of(connection).marks[-1][1].rows


@rolled_back
def test_loading_keeps_the_row_by_reference(monkeypatch: pytest.MonkeyPatch):
    """No copy and no query for rows without mutable values, when nobody holds a mark."""
    Category.objects.create(name="c")
    work = pending.work_of(connection)
    work.settle()
    assert id(work) not in works.uncommitted
    # Not those of threads of tests before this one, whose connections nobody has collected yet.
    monkeypatch.setattr(saves, "uncommitted", set())
    monkeypatch.setattr(snapshots, "uncommitted", set())
    category = Category.objects.get()
    assert isinstance(category._state.audit_log, tuple | list)  # type: ignore[attr-defined]
    assert category._state.audit_log[1] is category.name  # type: ignore[attr-defined]
