"""Operations of the ORM in any order: some rows, the instances that hold them, open blocks."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final, TypeVar

from django.core.exceptions import ObjectDoesNotExist
from django.db import DatabaseError, connection, models, transaction
from django.db.models import F
from django.db.transaction import Atomic
from hypothesis import strategies as st

from tests.capture.folding import unseen
from tests.shop.models import Tag, Watched

# Some of them are the same to MariaDB.
NAMES: Final = ("a", "A", "a ", "b", "c", "d")
KEYS: Final = (1_000_001, 1_000_002, 1_000_003)  # no sequence gives these
HELD: Final = 3

_Model = TypeVar("_Model", bound=models.Model)


def begin_with(rows: int, tags: int) -> None:
    """What is there before the log looks."""
    with unseen():
        for model in (Watched, Tag):
            model._base_manager.all().delete()
        made = [Tag(name=f"t{n}") for n in range(tags)]
        Tag.objects.bulk_create(made)
        for n in range(rows):
            row = Watched.objects.create(pk=KEYS[n], name=NAMES[3 + n], number=n)
            row.tags.set(made[:n])


def _one_of(model: type[_Model], number: int) -> _Model:
    rows = list(model._default_manager.order_by("pk"))
    if not rows:
        raise ObjectDoesNotExist
    return rows[number % len(rows)]


class Machine:
    """Runs operations by name. `loaded`: no instance is saved whose row others wrote since."""

    def __init__(self, *, loaded: bool) -> None:
        self.loaded = loaded
        self.held = [*Watched.objects.order_by("pk"), *(Watched(name=name) for name in NAMES)][
            :HELD
        ]
        self.stale: set[int] = set()  # the places of instances that others wrote behind
        self.blocks: list[tuple[Atomic, set[int]]] = []

    def run(self, steps: list[tuple[Any, ...]]) -> None:
        try:
            for name, *arguments in steps:
                if connection.needs_rollback:
                    self.end(False)
                # Names taken, rows gone, parents gone by COMMIT, F() in an INSERT.
                with suppress(DatabaseError, ObjectDoesNotExist, ValueError):
                    getattr(self, name)(*arguments)
        finally:
            while self.blocks:
                self.end(True)

    # --- blocks --------------------------------------------------------------------------------

    def begin(self, savepoint: bool) -> None:
        block = transaction.atomic(savepoint=savepoint)
        block.__enter__()
        self.blocks.append((block, set(self.stale)))

    def end(self, good: bool) -> None:
        if self.blocks:
            block, stale = self.blocks.pop()
            error = None if good else ValueError()
            undone = not good or connection.needs_rollback
            try:
                block.__exit__(type(error) if error else None, error, None)
            except DatabaseError:  # COMMIT finds that a parent is gone
                undone = True
            if undone:
                self.stale = stale

    # --- instances -----------------------------------------------------------------------------

    def hold(self, place: int, row: Watched) -> None:
        self.held[place] = row
        self.stale.discard(place)

    def wrote(self, row: Watched | None = None) -> None:
        """All that hold the same row, or any, are behind."""
        self.stale |= {
            place
            for place, other in enumerate(self.held)
            if other is not row and (row is None or other.pk == row.pk)
        }

    def current(self, place: int) -> Watched:
        row = self.held[place]
        if self.loaded and place in self.stale and row.pk is not None:
            with suppress(ObjectDoesNotExist):  # then it is written anew
                row.refresh_from_db()
                self.stale.discard(place)
        return row

    def pick(self, number: int) -> Watched:
        return _one_of(Watched, number)

    def make(self, place: int, key: int | None, name: str, number: int) -> None:
        self.hold(place, Watched(pk=key, name=name, number=number))  # of a row that is there, even

    def load(self, place: int, number: int, only: str | None) -> None:
        row = self.pick(number)
        self.hold(place, Watched.objects.only(only).get(pk=row.pk) if only else row)

    def refresh(self, place: int, field: str | None) -> None:
        self.held[place].refresh_from_db(fields=[field] if field else None)
        if field is None:
            self.stale.discard(place)

    def assign(self, place: int, values: dict[str, Any]) -> None:
        for name, value in values.items():
            setattr(self.held[place], name, value)

    def adopt(self, place: int, number: int | None) -> None:
        self.held[place].parent = None if number is None else self.pick(number)

    def save(self, place: int, options: dict[str, Any]) -> None:
        row = self.current(place)
        row.save(**options)
        self.wrote(row)
        self.stale.discard(place)

    def write(self, place: int, values: dict[str, Any]) -> None:
        row = self.current(place)
        self.assign(place, values)
        row.save()
        self.wrote(row)
        self.stale.discard(place)

    def write_undone(self, place: int, values: dict[str, Any]) -> None:
        """The instance keeps what the row does not."""
        stale = set(self.stale)
        with transaction.atomic():
            self.write(place, values)
            transaction.set_rollback(True)
        self.stale = stale

    def delete(self, place: int) -> None:
        row, key = self.current(place), self.held[place].pk
        try:
            row.delete()
        finally:
            row.pk = key
        self.wrote()  # children as well

    # --- by managers and query sets ------------------------------------------------------------

    def create(self, place: int, key: int | None, name: str, number: int) -> None:
        row = Watched.objects.create(pk=key, name=name, number=number)
        self.wrote(row)  # others may hold the row that had this key before
        self.hold(place, row)

    def get_or_create(self, place: int, name: str, number: int) -> None:
        self.hold(place, Watched.objects.get_or_create({"number": number}, name=name)[0])

    def update_or_create(self, place: int, name: str, number: int) -> None:
        row, _ = Watched.objects.update_or_create({"number": number}, name=name)
        self.wrote(row)
        self.hold(place, row)

    def delete_some(self, condition: dict[str, Any]) -> None:
        Watched.objects.filter(**condition).delete()
        self.wrote()

    def update(self, condition: dict[str, Any], values: dict[str, Any]) -> None:
        Watched.objects.filter(**condition).update(**values)
        self.wrote()

    def bulk_create(self, rows: list[tuple[int | None, str, int]], mode: str) -> None:
        options: dict[str, Any] = {}
        if mode == "ignore":
            options = {"ignore_conflicts": True}
        elif mode == "update":
            options = {"update_conflicts": True, "update_fields": ["number"]}
            if connection.features.supports_update_conflicts_with_target:
                options["unique_fields"] = ["name"]
        made = Watched.objects.bulk_create(
            [Watched(pk=key, name=name, number=number) for key, name, number in rows], **options
        )
        self.wrote()
        for place, row in enumerate(made[:HELD]):
            if row.pk is not None:
                self.hold(place, row)
                if mode == "update" and len(rows) > 1:
                    self.stale.add(place)  # another one of them may have met the same row

    def bulk_update(self, places: list[int], values: list[Any], names: list[str]) -> None:
        rows = [self.held[place] for place in places]
        for row, value in zip(rows, values, strict=False):
            row.number = value
        behind = {place for place in places if place in self.stale}
        Watched.objects.bulk_update(rows, names)
        self.wrote()
        # What was written they know; of two instances of one row, one is behind.
        if len({row.pk for row in rows}) == len(rows):
            self.stale -= set(places) - behind

    # --- many-to-many --------------------------------------------------------------------------

    def members(self, number: int, verb: str, tags: list[int]) -> None:
        manager: Any = self.pick(number).tags
        known = list(Tag.objects.order_by("pk"))
        chosen = [known[n] for n in tags if n < len(known)]
        if verb == "clear":
            manager.clear()
        elif verb == "set":
            manager.set(chosen)
        else:
            getattr(manager, verb)(*chosen)

    def owners(self, number: int, verb: str) -> None:
        """The same from the other side, which has no name of its own."""
        tag, row = _one_of(Tag, number), self.pick(number)
        manager: Any = tag.watched_set
        if verb == "set":
            manager.set([row])
        elif verb == "clear":
            manager.clear()
        else:
            getattr(manager, verb)(row)

    def new_member(self, number: int) -> None:
        self.pick(number).tags.create(name="made")

    def delete_member(self, number: int) -> None:
        _one_of(Tag, number).delete()


def _operations() -> dict[str, list[st.SearchStrategy[Any]]]:
    place, number = st.sampled_from([0, 0, 0, 1, 2]), st.integers(0, 3)
    name = st.sampled_from(NAMES)
    key: st.SearchStrategy[int | None] = st.sampled_from([None, *KEYS])
    plus: st.SearchStrategy[Any] = st.just(F("number") + 1)
    values = st.fixed_dictionaries({"number": number | plus}, optional={"name": name})
    some: st.SearchStrategy[dict[str, Any]] = st.one_of(
        st.fixed_dictionaries({"pk__in": st.lists(key.filter(bool), max_size=3)}),
        st.fixed_dictionaries({"number__lte": number}),
        st.fixed_dictionaries({"parent__number": number}),
        st.fixed_dictionaries({"tags__name": st.sampled_from(["t0", "t1", "made"])}),
    )
    verb = st.sampled_from(["add", "remove", "set", "clear"])
    options = st.sampled_from(
        [
            *[{}] * 6,
            {"update_fields": ["number"]},
            {"update_fields": ["name", "number"]},
            {"update_fields": []},
            {"force_update": True},
            {"force_insert": True},
        ]
    )
    rows = st.lists(st.tuples(key, name, number), max_size=3)
    fields = st.sampled_from([["number"], ["number", "name"], ["name", "parent"]])
    return {
        "begin": [st.sampled_from([True, True, True, False])],
        "end": [st.sampled_from([True, True, False])],
        "make": [place, key, name, number],
        "load": [place, number, st.sampled_from([None, None, "name", "number"])],
        "refresh": [place, st.sampled_from([None, "name", "number"])],
        "assign": [place, values],
        "adopt": [place, st.none() | number],
        "save": [place, options],
        "write": [place, values],
        "write_undone": [place, values],
        "delete": [place],
        "create": [place, key, name, number],
        "get_or_create": [place, name, number],
        "update_or_create": [place, name, number],
        "delete_some": [some],
        "update": [st.just({}) | some, values],
        "bulk_create": [rows, st.sampled_from(["plain", "ignore", "update"])],
        "bulk_update": [
            st.lists(place, min_size=1, max_size=HELD),
            st.lists(number | plus, max_size=HELD),
            fields,
        ],
        "members": [number, verb, st.lists(st.integers(0, 2), max_size=3)],
        "owners": [number, verb],
        "new_member": [number],
        "delete_member": [number],
    }


_MORE: Final = {"write": 5, "write_undone": 2, "save": 5, "load": 3, "assign": 2, "members": 2}


def steps() -> st.SearchStrategy[list[tuple[Any, ...]]]:
    """Operations as `Machine.run` takes them: the name and the arguments of each."""
    each = [
        st.tuples(st.just(name), *arguments)
        for name, arguments in _operations().items()
        for _ in range(_MORE.get(name, 1))
    ]
    # Lists of lists: hypothesis makes single ones short.
    some = st.lists(st.one_of(each), min_size=1, max_size=8)
    parts = st.lists(st.one_of(some, st.builds(_block, some, st.booleans())), max_size=10)
    return parts.map(lambda parts: [step for part in parts for step in part])


def _block(inside: list[tuple[Any, ...]], good: bool) -> list[tuple[Any, ...]]:
    return [("begin", True), *inside, ("end", good)]
