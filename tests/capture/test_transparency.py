"""Golden: a scenario on an audited model and on one of the same shape that is not; equal traces."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core import serializers
from django.db import IntegrityError, connection, transaction
from django.db.models import F
from django.db.models.signals import (
    m2m_changed,
    post_delete,
    post_save,
    pre_delete,
    pre_save,
)
from django.test import TestCase
from django.test.utils import CaptureQueriesContext

from audit_log.capture import installation
from tests.capture.statements import savepoint
from tests.shop.models import Category, Tag, Unwatched, Watched

pytestmark = pytest.mark.django_db(transaction=True)

Model = Any  # Watched or Unwatched: to the scenarios they are one


class Trace:
    """What the project can see, in order."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def note(self, *what: Any) -> None:
        self.seen.append(
            (
                *what,
                connection.in_atomic_block,
                connection.get_autocommit(),
                connection.needs_rollback,
                len(connection.run_on_commit),
            )
        )

    @contextmanager
    def catching(self, *what: Any) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, both must raise it
            self.note(*what, type(error).__name__)
        else:
            self.note(*what, None)

    def later(self, *what: Any, then: Callable[[], object] | None = None) -> None:
        def call() -> None:
            self.note("on_commit", *what)
            if then is not None:
                then()

        transaction.on_commit(call)


def fail() -> None:
    raise ValueError


Scenario = Callable[[Model, Trace], None]
SCENARIOS: list[Scenario] = []


def scenario(function: Scenario) -> Scenario:
    SCENARIOS.append(function)
    return function


@contextmanager
def receiving(signal: Any, sender: Model, receiver: Callable[..., None]) -> Iterator[None]:
    signal.connect(receiver, sender=sender)
    try:
        yield
    finally:
        signal.disconnect(receiver, sender=sender)


@scenario
def saves_and_deletes_in_autocommit(model: Model, trace: Trace) -> None:
    row = model.objects.create(name="a")
    trace.note("created", row.pk is not None, row._state.adding)
    row.number = 1
    trace.note("saved", row.save())
    trace.note("saved unchanged", row.save())
    trace.note("partly", row.save(update_fields=["number"]))
    result = row.delete()
    trace.note("deleted", result[0], list(result[1].values()), row.pk)


@scenario
def integrity_error_in_autocommit(model: Model, trace: Trace) -> None:
    model.objects.create(name="a")
    with trace.catching("duplicate"):
        model.objects.create(name="a")
    row = model.objects.create(name="b")
    row.name = "a"
    with trace.catching("duplicate update"):
        row.save()
    trace.note(model.objects.count())


@scenario
def integrity_error_caught_outside_a_savepoint(model: Model, trace: Trace) -> None:
    with trace.catching("outer"), transaction.atomic():
        model.objects.create(name="a")
        with trace.catching("inner"), transaction.atomic():
            model.objects.create(name="b")
            model.objects.create(name="a")
        trace.note(model.objects.count())
        model.objects.create(name="c")
    trace.note(sorted(model.objects.values_list("name", flat=True)))


@scenario
def integrity_error_caught_inside_a_block(model: Model, trace: Trace) -> None:
    model.objects.create(name="a")
    with trace.catching("outer"), transaction.atomic():
        with trace.catching("duplicate"):
            model.objects.create(name="a")
        with trace.catching("query after it"):
            model.objects.count()
    trace.note(model.objects.count())


@scenario
def failure_in_a_block_without_savepoint(model: Model, trace: Trace) -> None:
    with trace.catching("outer"), transaction.atomic():
        model.objects.create(name="a")
        with trace.catching("inner"), transaction.atomic(savepoint=False):
            model.objects.create(name="b")
            fail()
        with trace.catching("after"):
            model.objects.create(name="c")
    trace.note(model.objects.count())


@scenario
def on_commit_keeps_its_order_and_its_moment(model: Model, trace: Trace) -> None:
    trace.later("at once")
    with transaction.atomic():
        trace.later("first")
        model.objects.create(name="a")
        trace.later("second", then=lambda: model.objects.create(name="by a callback"))
        with trace.catching("inner"), transaction.atomic():
            trace.later("dropped")
            model.objects.create(name="b")
            fail()
        trace.later("third", then=lambda: trace.note(model.objects.count()))
    trace.note("after", model.objects.count())


@scenario
def on_commit_that_raises(model: Model, trace: Trace) -> None:
    with trace.catching("block"), transaction.atomic():
        trace.later("first", then=fail)
        model.objects.create(name="a")
        trace.later("second")
    trace.note(model.objects.count())
    model.objects.create(name="b")
    trace.note(model.objects.count())


@scenario
def receivers_see_the_connection_as_it_is(model: Model, trace: Trace) -> None:
    def receive(signal: Any, instance: Any, **options: Any) -> None:
        name = {pre_save: "pre", post_save: "post"}[signal]
        trace.note(name, instance.pk is None, options.get("created"), model.objects.count())
        trace.later(name)

    with receiving(pre_save, model, receive), receiving(post_save, model, receive):
        row = model.objects.create(name="a")
        row.number = 2
        row.save()
        row.save()
        with transaction.atomic():
            row.number = 3
            row.save()


@scenario
def receiver_that_raises_after_the_save(model: Model, trace: Trace) -> None:
    def receive(**_: Any) -> None:
        raise LookupError

    with receiving(post_save, model, receive):
        with trace.catching("autocommit"):
            model.objects.create(name="stays")
        with trace.catching("block"), transaction.atomic():
            model.objects.create(name="goes")
        with transaction.atomic():
            with trace.catching("caught in the block"):
                model.objects.create(name="stays too")
            trace.note("and goes on")
    trace.note(sorted(model.objects.values_list("name", flat=True)))


@scenario
def receiver_that_raises_before_the_save(model: Model, trace: Trace) -> None:
    def receive(**_: Any) -> None:
        raise LookupError

    with receiving(pre_save, model, receive):
        with trace.catching("autocommit"):
            model.objects.create(name="a")
        with trace.catching("block"), transaction.atomic():
            model.objects.create(name="b")
    trace.note(model.objects.count())


@scenario
def receiver_that_saves_others(model: Model, trace: Trace) -> None:
    def receive(instance: Any, created: bool, **_: Any) -> None:
        if created and instance.number < 3:
            model.objects.create(name=f"{instance.name}+", number=instance.number + 1)
            Category.objects.create(name="by a receiver")
            with transaction.atomic(durable=not connection.in_atomic_block):
                trace.note("durable", instance.number)

    with receiving(post_save, model, receive):
        model.objects.create(name="a")
        with transaction.atomic():
            model.objects.create(name="b", number=2)
    trace.note(model.objects.count(), Category.objects.count())


@scenario
def receiver_that_begins_a_durable_block(model: Model, trace: Trace) -> None:
    def receive(**_: Any) -> None:
        with transaction.atomic(durable=True):
            trace.note("durable")

    with receiving(post_save, model, receive), receiving(post_delete, model, receive):
        with trace.catching("save"):
            model.objects.create(name="a")
        with trace.catching("delete"):
            model.objects.get().delete()
        with trace.catching("block"), transaction.atomic():
            model.objects.create(name="b")
    trace.note(model.objects.count())


@scenario
def durable_blocks(model: Model, trace: Trace) -> None:
    with transaction.atomic(durable=True):
        model.objects.create(name="a")
        with trace.catching("nested"), transaction.atomic(durable=True):
            pass
    trace.note(model.objects.count())


@scenario
def autocommit_off(model: Model, trace: Trace) -> None:
    transaction.set_autocommit(False)
    try:
        row = model.objects.create(name="a")
        trace.note("created")
        transaction.commit()
        trace.note("committed", model.objects.count())
        row.delete()
        trace.note("deleted", row.pk)
        transaction.rollback()
        trace.note("rolled back", model.objects.count())
        with trace.catching("block"), transaction.atomic():
            model.objects.create(name="b")
            fail()
        trace.note("after a block", model.objects.count())
        with trace.catching("without savepoint"), transaction.atomic(savepoint=False):
            model.objects.create(name="c")
            fail()
        trace.note("needs rollback?")
        transaction.rollback()
        with trace.catching("on_commit"):
            trace.later("refused")
        model.objects.create(name="d")
        with trace.catching("on with work open"):  # commits, or is refused
            transaction.set_autocommit(True)
    finally:
        if not transaction.get_autocommit():
            transaction.rollback()
            transaction.set_autocommit(True)
    trace.note("on again", sorted(model.objects.values_list("name", flat=True)))


@scenario
def integrity_error_with_autocommit_off(model: Model, trace: Trace) -> None:
    model.objects.create(name="a")
    transaction.set_autocommit(False)
    try:
        model.objects.create(name="b")
        with trace.catching("duplicate"):
            model.objects.create(name="a")
        trace.note("needs rollback?")
        transaction.rollback()
        trace.note(model.objects.count())
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)


@scenario
def manual_savepoints(model: Model, trace: Trace) -> None:
    with transaction.atomic():
        model.objects.create(name="a")
        first = savepoint()
        model.objects.create(name="b")
        second = savepoint()
        model.objects.create(name="c")
        transaction.savepoint_rollback(second)
        trace.note(model.objects.count())
        model.objects.create(name="d")
        transaction.savepoint_rollback(first)
        trace.note(model.objects.count())
        transaction.savepoint_commit(first)
        model.objects.create(name="e")
    trace.note(sorted(model.objects.values_list("name", flat=True)))


@scenario
def rollback_by_flag(model: Model, trace: Trace) -> None:
    with transaction.atomic():
        model.objects.create(name="a")
        trace.later("dropped")
        transaction.set_rollback(True)
    trace.note(model.objects.count())


@scenario
def deletes_with_receivers_and_callbacks(model: Model, trace: Trace) -> None:
    top = model.objects.create(name="top")
    for name in ("x", "y"):
        model.objects.create(name=name, parent=top)

    def receive(signal: Any, instance: Any, **_: Any) -> None:
        name = {pre_delete: "pre", post_delete: "post"}[signal]
        trace.note(name, instance.name, instance.pk is None, model.objects.count())
        trace.later(name, then=lambda: trace.note("key", instance.pk is None))

    with receiving(pre_delete, model, receive), receiving(post_delete, model, receive):
        result = top.delete()
    trace.note(result[0], sorted(result[1].values()), top.pk)


@scenario
def delete_whose_receiver_raises(model: Model, trace: Trace) -> None:
    row = model.objects.create(name="a")

    def receive(**_: Any) -> None:
        raise LookupError

    with receiving(post_delete, model, receive):
        with trace.catching("autocommit"):
            row.delete()
        trace.note(row.pk is None, model.objects.count())
        with transaction.atomic():
            with trace.catching("block"):
                model.objects.all().delete()
            trace.note("needs rollback?")
            transaction.set_rollback(True)
    trace.note(model.objects.count())


@scenario
def query_set_deletes(model: Model, trace: Trace) -> None:
    for name in "abc":
        model.objects.create(name=name)
    trace.note(sorted(model.objects.filter(name="a").delete()[1].values()))
    trace.note(sorted(model.objects.order_by("name").delete()[1].values()))
    trace.note(model.objects.all().delete()[0])


@scenario
def relations(model: Model, trace: Trace) -> None:
    row, other = model.objects.create(name="a"), model.objects.create(name="b")
    tags = [Tag.objects.create(name=name) for name in "xyz"]

    def receive(action: str, pk_set: Any, **_: Any) -> None:
        trace.note(action, pk_set and len(pk_set))
        trace.later(action)

    def work() -> None:
        row.tags.add(*tags)
        row.tags.add(tags[0])
        row.tags.remove(tags[0])
        row.tags.remove()
        row.tags.set(tags[:2])
        row.tags.set(tags, clear=True)
        trace.note([tag.name for tag in row.tags.order_by("name")])
        reverse = getattr(tags[0], f"{model._meta.model_name}_set")
        reverse.set([other])
        reverse.clear()
        row.tags.clear()

    work()
    with receiving(m2m_changed, model.tags.through, receive):
        work()
        with transaction.atomic():
            work()
    with trace.catching("wrong type"):
        row.tags.add(row)
    with trace.catching("wrong type in a block"), transaction.atomic():
        row.tags.remove("x")


@scenario
def loading_and_refreshing(model: Model, trace: Trace) -> None:
    model.objects.create(name="a", number=1)
    row = model.objects.only("name").get()
    trace.note(sorted(row.get_deferred_fields()))
    row.name = "b"
    row.save()
    trace.note(sorted(row.get_deferred_fields()), row.number)
    row.refresh_from_db(fields=["number"])
    row.refresh_from_db()
    row.number = F("number") + 1
    row.save()
    trace.note(type(row.number).__name__)
    row.refresh_from_db()
    trace.note(row.number)
    model.objects.all().delete()
    with trace.catching("gone"):
        row.refresh_from_db()
    with trace.catching("forced"):
        row.save(force_update=True)
    with trace.catching("partly"):
        row.save(update_fields=["name"])
    whole = model(pk=row.pk, name="c")
    whole._state.adding = False
    trace.note("inserted", whole.save(), model.objects.count())


@scenario
def fixtures(model: Model, trace: Trace) -> None:
    data = [{"model": model._meta.label_lower, "pk": 7, "fields": {"name": "a", "tags": []}}]

    def receive(instance: Any, raw: bool, **_: Any) -> None:
        trace.note("post", raw, instance.pk)

    with receiving(post_save, model, receive):
        for item in serializers.deserialize("python", data):
            item.save()
    trace.note(list(model.objects.values_list("pk", "name")))


@scenario
def attempts_to_get_or_create(model: Model, trace: Trace) -> None:
    trace.note(model.objects.get_or_create(name="a")[1])
    trace.note(model.objects.get_or_create(name="a")[1])
    trace.note(model.objects.update_or_create(name="a", defaults={"number": 2})[1])
    trace.note(model.objects.update_or_create(name="b")[1])
    with transaction.atomic():
        trace.note(model.objects.update_or_create(name="b", defaults={"number": 3})[1])


@scenario
def bulk_operations_in_autocommit(model: Model, trace: Trace) -> None:
    rows = [model(name=name) for name in "abc"]
    made = model.objects.bulk_create(rows)
    trace.note("created", made == rows, [row._state.adding for row in made])
    trace.note("keys", sum(row.pk is not None for row in made))
    trace.note("none", model.objects.bulk_create([]), len(model.objects.bulk_create(iter(()))))
    trace.note("batches", len(model.objects.bulk_create([model(name=n) for n in "def"], 2)))
    with_keys = [model(pk=90_001, name="g"), model(name="h")]
    trace.note("mixed", len(model.objects.bulk_create(with_keys)))
    trace.note("updated", model.objects.filter(name__in="ab").update(number=3))
    trace.note("nothing", model.objects.none().update(number=3))
    trace.note("none there", model.objects.filter(name="x").update(number=3))
    trace.note("joined", model.objects.filter(parent__name="x").update(number=3))
    trace.note("expression", model.objects.order_by("-name").update(number=F("number") + 1))
    loaded = list(model.objects.order_by("name"))
    for row in loaded:
        row.number = len(row.name) + 7
    trace.note("in bulk", model.objects.bulk_update(loaded, ["number"]))
    trace.note("in batches", model.objects.bulk_update(iter(loaded), ["number"], batch_size=3))
    trace.note("none of it", model.objects.bulk_update([], ["number"]))
    trace.note(sorted(model.objects.values_list("name", "number")))


@scenario
def bulk_operations_in_a_block(model: Model, trace: Trace) -> None:
    with transaction.atomic():
        rows = model.objects.bulk_create([model(name=name) for name in "abc"])
        trace.later("after")
        with trace.catching("inner"), transaction.atomic():
            model.objects.update(number=5)
            model.objects.bulk_create([model(name="a")])
        trace.note(model.objects.filter(number=5).count())
        for row in model.objects.all():
            row.number = 9
            model.objects.bulk_update([row], ["number"])
        trace.note(len(rows), model.objects.filter(number=9).count())
    trace.note(model.objects.count())


@scenario
def bulk_operations_that_fail(model: Model, trace: Trace) -> None:
    model.objects.create(name="a")
    model.objects.create(name="b")
    rows = list(model.objects.all())
    with trace.catching("duplicate"):
        model.objects.bulk_create([model(name="c"), model(name="a")])
    with trace.catching("duplicate in the second batch"):
        model.objects.bulk_create([model(name="c"), model(name="a")], batch_size=1)
    with trace.catching("update"):
        model.objects.update(name="same")
    with trace.catching("block"), transaction.atomic():
        with trace.catching("update in a block"):
            model.objects.update(name="same")
        with trace.catching("query after it"):
            model.objects.count()
    calls: dict[str, Callable[[], Any]] = {
        "size": lambda: model.objects.bulk_create(rows, batch_size=-1),
        "both": lambda: model.objects.bulk_create(rows, None, True, True),
        "slice": lambda: model.objects.all()[:1].update(number=1),
        "union": lambda: model.objects.union(model.objects.all()).update(number=1),
        "field": lambda: model.objects.update(nothing=1),
        "relation": lambda: model.objects.update(tags=1),
        "value": lambda: model.objects.update(number="x"),
        "no fields": lambda: model.objects.bulk_update(rows, []),
        "key": lambda: model.objects.bulk_update(rows, ["id"]),
        "unsaved": lambda: model.objects.bulk_update([model(name="x")], ["name"]),
        "not iterable": lambda: model.objects.bulk_update(None, ["name"]),
    }
    for what, call in calls.items():
        with trace.catching(what):
            call()
    trace.note(sorted(model.objects.values_list("name", "number")))


@scenario
def bulk_creation_with_conflicts(model: Model, trace: Trace) -> None:
    model.objects.create(name="a", number=1)
    rows = [model(name=name, number=2) for name in "ab"]
    made = model.objects.bulk_create(rows, ignore_conflicts=True)
    trace.note("ignored", [(row.pk is None, row._state.adding) for row in made])
    by_target = connection.features.supports_update_conflicts_with_target
    made = model.objects.bulk_create(
        [model(name=name, number=3) for name in "abc"],
        update_conflicts=True,
        update_fields=["number"],
        unique_fields=["name"] if by_target else None,
    )
    trace.note("updated", [(row.pk is None, row._state.adding) for row in made])
    trace.note(sorted(model.objects.values_list("name", "number")))


@scenario
def closing_within_a_block(model: Model, trace: Trace) -> None:
    with trace.catching("block"), transaction.atomic():
        model.objects.create(name="a")
        connection.close()
        with trace.catching("after"):
            model.objects.create(name="b")
    trace.note(model.objects.count())


def _run(run: Scenario, model: Model) -> list[Any]:
    for each in (Watched, Unwatched, Category, Tag):
        each._default_manager.all().delete()
    trace = Trace()
    with CaptureQueriesContext(connection) as queries:
        run(model, trace)
    trace.seen += [("query", _plain(query["sql"] or "")) for query in queries]
    return trace.seen


def _plain(sql: str) -> str:
    sql = re.sub(r"shop_(un)?watched", "shop_model", sql)
    sql = re.sub(r'["`](un)?watched(_id)?["`]', r'"model\2"', sql)
    sql = re.sub(r"(shop_model_tags)_\w+", r"\1", sql)
    sql = re.sub(r"s\d+_x\d+", "savepoint", sql)
    return re.sub(r"\b\d+\b", "N", sql)


@pytest.mark.parametrize("run", SCENARIOS, ids=lambda run: run.__name__)
def test_project_sees_the_same_audited_or_not(run: Scenario):
    """A11, A12, A14: and the query log of the project is the same."""
    assert _run(run, Watched) == _run(run, Unwatched)


@pytest.mark.parametrize("run", SCENARIOS, ids=lambda run: run.__name__)
def test_project_sees_the_same_with_or_without_the_app(run: Scenario):
    """L10: also where nothing is installed at all."""
    with_us = _run(run, Watched)
    installation.uninstall()
    try:
        without = _run(run, Watched)
    finally:
        installation.install()
    assert with_us == without


def test_host_test_case_counts_no_callback_of_ours():
    """L1"""
    calls: list[str] = []
    with transaction.atomic():
        with TestCase.captureOnCommitCallbacks(execute=True) as callbacks:
            Watched.objects.create(name="a")
            transaction.on_commit(lambda: calls.append("mine"))
        transaction.set_rollback(True)
    assert len(callbacks) == len(calls) == 1


def test_error_of_the_database_is_of_the_same_type():
    Watched.objects.create(name="a")
    with pytest.raises(IntegrityError) as caught:
        Watched.objects.create(name="a")
    assert type(caught.value) is IntegrityError
