"""Snapshots of what was there before the log."""

from __future__ import annotations

import threading
import tracemalloc
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from django.db import DatabaseError, connection, connections, models, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import audit_log
from audit_log import context, testing
from audit_log.capture import baseline
from audit_log.capture.baseline import Counted, run
from audit_log.capture.tables import Table
from audit_log.delivery.relay import relay
from audit_log.events import Event
from audit_log.exceptions import RecordingFailed
from audit_log.ledger.verification import verify
from audit_log.models import Outbox, Record
from audit_log.privacy.redaction import MASK
from audit_log.recording import losses, outbox, pending
from tests.capture.folding import folded, ids, row_of, unseen, waiting
from tests.capture.statements import statements
from tests.shop.models import (
    Broken,
    Category,
    CheapProduct,
    Country,
    Device,
    Hidden,
    Passport,
    Person,
    Place,
    Product,
    Rebuilt,
    Restaurant,
    Shelf,
    Stamp,
    Unlisted,
    Values,
    Wordy,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _warn_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "_warned", {})  # else once in half a minute a process


def categories(count: int, first: int = 1) -> list[Category]:
    """Made before the log was there."""
    made = [Category(pk=n, name=f"Category {n}") for n in range(first, first + count)]
    with context.changed(suspended=True):
        return Category.objects.bulk_create(made)


def only(found: dict[str, Counted], model: type[models.Model]) -> Counted:
    assert list(found) == [model._meta.label_lower]
    return found[model._meta.label_lower]


# --- what it says ------------------------------------------------------------------------------


def _a_product() -> Product:
    category = Category.objects.create(name="Pots")
    return Product.objects.create(
        name="Kettle", price=Decimal("1.5"), attributes={"a": [1, None]}, category=category
    )


def _a_person() -> Person:
    return Person.objects.create(
        nickname="ada",
        full_name="Ada Lovelace",
        password="hunter2-secret",
        api_token="t0ken-t0ken",
        card_number="4111111111111111",
        code_word="swordfish",
        noise="noise",
        notes="long",
        extra={"password": "x", "n": 1},
    )


def _values() -> Values:
    return Values.objects.create(
        title="nul\0" if connection.vendor != "postgresql" else "no nul",
        amount=Decimal("1.005"),
        ratio=0.1,
        big=2**60,
        day=date(2026, 1, 2),
        moment=datetime(2026, 1, 2, tzinfo=UTC),
        period=timedelta(days=1, microseconds=1),
        reference=uuid.UUID(int=7),
        address="192.0.2.1",
        raw=b"\0\xff",
        document="documents/a.txt",
        size=Values.Size.LARGE,
        extra={"b": 1, "a": [True]},
        encoded={"for": timedelta(seconds=3)},
    )


def _a_stamp() -> Stamp:
    country = Country.objects.create(code="a_b/c", name="X")
    passport = Passport.objects.create(country=country)
    return Stamp.objects.create(
        passport=passport, place=Place.objects.create(name="here"), note="n"
    )


MAKERS: dict[str, Callable[[], models.Model]] = {
    "relation": _a_product,
    "policies": _a_person,
    "every kind": _values,
    "labels": _a_stamp,
    "child": lambda: Restaurant.objects.create(name="Inn", stars=3),
    "key is a relation": lambda: _a_stamp().passport,
    "uuid": lambda: Device.objects.create(name="d"),
    "two keys": lambda: Shelf.objects.create(room="r/1", number=2, label="x"),
    "soft deleted": lambda: Hidden.objects.create(name="h", deleted=True),
    "no name": lambda: Broken.objects.create(name="b"),
    "its own from_db": lambda: Rebuilt.objects.create(name="r"),
    "words": lambda: Wordy.objects.create(words=["a", "b"]),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=list(MAKERS))
def test_snapshot_says_what_a_create_says(make: Callable[[], models.Model]):
    """J3: values, policies, marks, labels and subject."""
    with testing.capture_events() as events:
        instance = make()
    created = next(e for e in events if e.target and e.target.type == instance._meta.label_lower)
    Outbox.objects.all().delete()  # as if it had been made before the log
    assert only(run([type(instance)]), type(instance)).written == 1
    (snapshot,) = waiting()
    names = ("target", "changes", "labels", "redactions", "sealed", "subject", "data", "outcome")
    said = msgspec.structs.asdict(created)
    assert {name: getattr(snapshot, name) for name in names} == {name: said[name] for name in names}
    relay()
    assert folded(instance) == row_of(instance)
    assert verify().ok


def test_secrets_leave_the_process_masked():
    """H1, H3."""
    _a_person()
    Outbox.objects.all().delete()
    run([Person])
    (snapshot,) = waiting()
    text = repr(snapshot)
    for secret in ("hunter2", "t0ken", "411111111111", "swordfish", "noise"):
        assert secret not in text
    assert snapshot.changes is not None
    assert snapshot.changes["code_word"] == [None, MASK]


def test_who_and_why_are_those_of_the_context():
    categories(1)
    with audit_log.acting(actor="installer", reason="switched on", tenant="acme"):
        run([Category])
    relay()
    record = Record.objects.get(action="snapshot")
    assert (record.actor_id, record.tenant, record.source) == ("installer", "acme", "command")
    assert audit_log.contents(record)["reason"] == "switched on"


# --- which objects -----------------------------------------------------------------------------


def test_objects_with_a_record_are_left_alone():
    """J3: in the ledger, or on its way there."""
    categories(4)
    Category.objects.create(pk=10, name="created")
    relay()
    Category.objects.create(pk=11, name="waits")
    Category.objects.get(pk=2).delete()
    changed = Category.objects.get(pk=3)
    changed.name = "changed"
    changed.save()
    assert run([Category]) == {"shop.category": Counted("default", written=2, known=3)}
    assert ids(waiting()) == ["1", "4"]
    assert only(run([Category]), Category).known == 5
    relay()
    assert only(run([Category]), Category).written == 0
    assert Record.objects.filter(action="snapshot").count() == 2


def test_objects_whose_beginning_is_not_in_the_log_get_one_where_asked_for():
    categories(2)
    Category.objects.create(pk=3, name="created")
    for pk in (2, 3):
        changed = Category.objects.get(pk=pk)
        changed.name = "changed"
        changed.save()
    assert only(run([Category]), Category).written == 1
    assert only(run([Category], incomplete=True), Category).written == 1
    assert only(run([Category], incomplete=True), Category).written == 0
    relay()
    assert only(run([Category], incomplete=True), Category).written == 0
    assert [folded(c) for c in Category.objects.order_by("pk")] == [
        {"name": "Category 1"},
        {"name": "changed"},
        {"name": "changed"},
    ]


@pytest.mark.parametrize("in_between", [relay, lambda: None], ids=["ledger", "outbox"])
def test_row_with_the_key_of_a_deleted_object_is_another_one(in_between: Callable[[], object]):
    """A7."""
    for _ in range(2):
        Category.objects.create(pk=1, name="first").delete()
    Category.objects.create(pk=2, name="second").delete()
    Category.objects.create(pk=2, name="again")
    in_between()
    categories(1)
    assert run([Category])["shop.category"] == Counted("default", written=1, known=1)
    in_between()
    assert only(run([Category]), Category).written == 0
    relay()
    assert folded(Category(pk=1)) == {"name": "Category 1"}


def test_last_table_makes_the_event():
    """D3, D4: parents and proxies."""
    with unseen():
        place = Place.objects.create(name="field")
        inn = Restaurant.objects.create(name="Inn", stars=3)
        product = Product.objects.create(name="Kettle")
    found = run([Place, Restaurant, CheapProduct, Product])
    assert {kind: counted.written for kind, counted in found.items()} == {
        "shop.place": 1,
        "shop.product": 1,
        "shop.restaurant": 1,
    }
    relay()
    for instance in (place, inn, product):
        assert folded(instance) == row_of(instance)
    assert Record.objects.filter(action="snapshot").count() == 3


def test_parent_of_a_child_that_is_not_audited_is_an_object():
    with unseen():
        Restaurant.objects.create(name="Inn", stars=3)
    with context.changed():
        audit_log.unregister(Restaurant)
        try:
            assert only(run([Place, Restaurant]), Place).written == 1
        finally:
            from audit_log import conf, registry

            registry._registered.pop(Restaurant)
            conf.forget()


def test_models_that_are_not_audited_have_no_snapshot():
    Unlisted.objects.create(name="x")
    assert run([Unlisted, Record, Outbox]) == {}
    assert waiting() == []


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_every_kind_of_key_is_gone_through(size: int):
    """D1, D2: in its order, a few at a time."""
    with unseen():
        for n in range(7):
            key = uuid.UUID(int=n * 2**120 + n)
            Device.objects.create(pk=key, name=f"{n}")
            country = Country.objects.create(code=f"a_{'Bb'[n % 2]}/{n} ü%", name="X")
            Passport.objects.create(country=country)
            Restaurant.objects.create(pk=-n - 1, name=f"{n}", stars=n)
            Shelf.objects.create(room=f"r{n % 3}", number=-n, label=f"{n}")
    found = run([Device, Country, Passport, Restaurant, Shelf], batch=size)
    assert {counted.written for counted in found.values()} == {7}
    assert Counter(Outbox.objects.values_list("event_count", flat=True))[size] >= 5
    relay()
    counts = Counter(Record.objects.values_list("action", "target_type", "target_id"))
    assert set(counts.values()) == {1}
    for model in (Device, Country, Passport, Restaurant, Shelf):
        for instance in model._base_manager.all():
            assert folded(instance) == row_of(instance)
    assert run([Shelf], batch=size)["shop.shelf"].known == 7


def test_rows_that_come_in_meanwhile_are_not_run_after():
    categories(3)

    def more(kind: str, counted: Counted) -> None:
        categories(2, first=100 * (counted.written + 1))

    assert only(run([Category], batch=1, progress=more), Category).written == 3
    assert ids(waiting()) == ["1", "2", "3"]


def test_object_created_meanwhile_has_its_own_event():
    categories(3, first=10)

    def create(kind: str, counted: Counted) -> None:
        if counted.written == 1 and not Category.objects.filter(pk=20).exists():
            Category.objects.create(pk=20, name="behind the last")
            with unseen():
                Category.objects.get(pk=11).delete()
            Category.objects.create(pk=11, name="ahead")

    assert run([Category], batch=1, progress=create)["shop.category"] == Counted(
        "default", written=2, known=1
    )
    assert ids(waiting()) == ["10", "12"]


def _rename(model: type[models.Model], old: str, new: str) -> None:
    with connection.schema_editor() as editor:
        editor.alter_db_table(model, old, new)


def test_table_that_is_not_there_holds_up_no_other():
    categories(1)
    _rename(Broken, "shop_broken", "shop_elsewhere")
    try:
        found = run([Broken, Category])
    finally:
        _rename(Broken, "shop_elsewhere", "shop_broken")
    assert (found["shop.broken"].has_table, found["shop.category"].written) == (False, 1)


def test_nothing_is_done_in_a_dry_run():
    categories(3)
    Category.objects.create(pk=9, name="known")
    before = Outbox.objects.count()
    counted = only(run([Category], batch=2, dry_run=True), Category)
    assert (counted.written, counted.known) == (3, 1)
    assert Outbox.objects.count() == before


def test_batch_that_cannot_be_read_holds_nothing_up(caplog: pytest.LogCaptureFixture):
    """K6."""
    outbox.insert(connection, [outbox.Row(1, b"poison")])
    categories(2)
    assert only(run([Category], batch=1), Category).written == 2
    assert "is unread" in caplog.text


# --- how it is done ----------------------------------------------------------------------------


def test_number_of_statements_does_not_grow_with_the_rows():
    """What the rows refer to is loaded once, though each prints itself by it."""

    def asked(count: int) -> int:
        with unseen():
            country = Country.objects.create(code=f"c{count}", name="X")
            passport = Passport.objects.create(country=country)
            for n in range(count):
                place = Place.objects.create(name=f"place {n}")
                Stamp.objects.create(passport=passport, place=place, note=f"{n}")
        with statements() as seen:
            assert only(run([Stamp]), Stamp).written == count
        assert not any(" OFFSET " in text for text in seen)
        labels = {event.target.label for event in waiting() if event.target}
        assert labels == {f"{n} in place {n}" for n in range(count)}
        relay()
        return len(seen)

    few = asked(2)
    assert asked(30) == few


def test_memory_does_not_grow_with_the_rows():
    def peak(count: int) -> int:
        with transaction.atomic():
            categories(count)
            pending.write_early(connection)
            tracemalloc.start()
            try:
                assert only(run([Category], batch=100), Category).written == count
                found = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            transaction.set_rollback(True)
        return found

    peak(10)
    assert peak(2_000) < 1.5 * peak(500)


def test_that_it_was_done_is_on_record():
    categories(3)
    with unseen():
        Place.objects.create(name="x")
    with audit_log.acting(actor="installer"):
        run([Category, Place, Device])
        run([Category, Place, Device])  # nothing was done, so there is nothing to say
    relay()
    record = Record.objects.get(action=baseline.ACTION)
    assert (record.stream, record.outcome, record.actor_id) == ("audit_log", "success", "installer")
    assert record.data == {"count": 4, "models": {"shop.category": 3, "shop.place": 1}}


def test_batch_whose_outbox_refuses_it_is_no_snapshot(monkeypatch: pytest.MonkeyPatch):
    """What was done before it stands, and is on record as a failure; the rest is done again."""
    categories(5)
    insert, calls = outbox.insert, []

    def refusing(*args: Any) -> None:
        calls.append(args)
        insert(*args)
        if len(calls) == 2:
            raise DatabaseError("no room")

    monkeypatch.setattr(outbox, "insert", refusing)
    with pytest.raises(DatabaseError, match="no room"):
        run([Category], batch=2)
    monkeypatch.undo()
    assert ids(waiting()) == ["1", "2"]
    (said,) = waiting(baseline.ACTION)
    assert (said.outcome, said.data) == ("failure", {"count": 2, "models": {"shop.category": 2}})
    assert only(run([Category], batch=2), Category).written == 3
    relay()
    assert Record.objects.filter(action="snapshot").count() == 5


def _fails_for(monkeypatch: pytest.MonkeyPatch, pk: int) -> None:
    event_of = baseline._Objects._event

    def failing(self: Any, instance: models.Model) -> Event:
        if instance.pk == pk:
            raise RuntimeError("somebody else's code")
        return event_of(self, instance)

    monkeypatch.setattr(baseline._Objects, "_event", failing)


def test_object_that_cannot_be_captured_is_counted_and_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    categories(3)
    _fails_for(monkeypatch, 2)
    counted = only(run([Category]), Category)
    assert (counted.written, counted.failed) == (2, 1)
    assert "capture_failed" in caplog.text


def test_object_that_cannot_be_captured_ends_it_with_block(
    monkeypatch: pytest.MonkeyPatch, settings: Any
):
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "ON_FAILURE": "block"}
    categories(3)
    _fails_for(monkeypatch, 2)
    with pytest.raises(RecordingFailed, match="could not be captured"):
        run([Category])
    assert waiting() == []


# --- others at work ----------------------------------------------------------------------------


@pytest.fixture
def holder() -> Any:
    """Holds the row of a category in another thread's transaction, until it is told to let go."""
    if not connection.features.has_select_for_update:
        pytest.skip("SQLite locks the database, not rows.")
    let_go, threads = threading.Event(), []

    def hold(pk: int) -> threading.Event:
        held = threading.Event()

        def work() -> None:
            try:
                with transaction.atomic(), context.changed(suspended=True):
                    Category.objects.filter(pk=pk).update(name="held")
                    held.set()
                    let_go.wait(300)
            finally:
                connections.close_all()

        threads.append(threading.Thread(target=work))
        threads[-1].start()
        assert held.wait(300)
        return let_go

    yield hold
    let_go.set()
    for thread in threads:
        thread.join(300)


def test_row_that_others_hold_is_not_waited_for(holder: Any, monkeypatch: pytest.MonkeyPatch):
    """Nobody deadlocks with it; what it left out is done the next time."""
    monkeypatch.setattr(baseline, "_PAUSES", (0, 0.01))
    categories(4)
    let_go = holder(2)
    counted = only(run([Category], batch=2), Category)
    assert (counted.written, counted.locked) == (3, 1)
    let_go.set()
    monkeypatch.undo()
    assert run([Category])["shop.category"] == Counted("default", written=1, known=3)
    relay()
    assert folded(Category(pk=2)) == {"name": "held"}


def test_row_that_others_let_go_of_is_read_as_they_left_it(
    holder: Any, monkeypatch: pytest.MonkeyPatch
):
    categories(3)
    let_go = holder(2)
    locked = Table.locked

    def locked_and_let_go(self: Table, keys: Any) -> list[models.Model]:
        found = locked(self, keys)
        let_go.set()
        return found

    monkeypatch.setattr(Table, "locked", locked_and_let_go)
    counted = only(run([Category]), Category)
    assert (counted.written, counted.locked) == (3, 0)
    relay()
    assert folded(Category(pk=2)) == {"name": "held"}


def test_row_that_is_gone_by_then_is_passed_over(monkeypatch: pytest.MonkeyPatch):
    categories(3)
    locked = Table.locked

    def gone_by_then(self: Table, keys: Any) -> list[models.Model]:
        with unseen():
            Category.objects.filter(pk=2).delete()
        return locked(self, keys)

    monkeypatch.setattr(Table, "locked", gone_by_then)
    assert run([Category]) == {"shop.category": Counted("default", written=2)}


# --- whatever happens --------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["create", "create unseen", "change", "delete", "relay", "baseline"]),
        st.integers(1, 4),
        st.sampled_from(["", "a", "ü\0", "b" * 40]) | st.text(max_size=5),
        st.none() | st.integers(-(2**31), 2**31 - 1),
    ),
    max_size=12,
)


def _step(action: str, pk: int, text: str, number: int | None) -> None:
    text = text.replace("\0", "") if connection.vendor == "postgresql" else text
    there = Values.objects.filter(pk=pk).first()
    if action == "relay":
        testing.relay()
    elif action == "baseline":
        pending.write_early(connection)
        run([Values], batch=abs(pk), incomplete=True)
    elif action == "delete":
        if there is not None:
            there.delete()
    elif there is None and action == "create":
        Values.objects.create(pk=pk, title=text, big=number, text=None)
    elif there is None and action == "create unseen":
        with unseen():
            Values.objects.create(pk=pk, title=text, big=number, extra={"n": number})
    elif there is not None and action == "change":
        there.title, there.big, there.text = text, number, text or None
        there.save()


@pytest.mark.django_db
@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(before=STEPS, after=STEPS)
def test_after_a_baseline_the_records_fold_to_the_rows(before: Any, after: Any):
    """Whatever happened before it, seen or not, and whatever was seen after it."""
    with transaction.atomic():
        for step in before:
            _step(*step)
        _step("baseline", 2, "", None)
        for step in after:
            if step[0] != "create unseen":
                _step(*step)
        testing.relay()
        for instance in Values.objects.all():
            assert folded(instance) == row_of(instance)
        gone = set(range(1, 5)) - set(Values.objects.values_list("pk", flat=True))
        assert all(folded(Values(pk=pk)) is None for pk in gone)
        known = Record.objects.filter(action="snapshot").values_list("target_id", flat=True)
        assert only(run([Values], incomplete=True), Values).written == 0
        assert set(known) <= {"1", "2", "3", "4"}
        transaction.set_rollback(True)
