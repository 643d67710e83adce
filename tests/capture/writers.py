"""Writers that get in each other's way: random operations on the same few rows, by seed."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any, Final

from django.core.exceptions import ObjectDoesNotExist
from django.db import DatabaseError, connection, models, transaction
from django.db.models import F

from tests.capture.folding import unseen
from tests.shop.models import Restaurant, Stock

ROWS: Final = 3
_TRIES: Final = 3

# One of one table, one of two. Each has a text of `name` and a number.
NUMBERS: Final[dict[type[models.Model], str]] = {Stock: "amount", Restaurant: "stars"}


def begin() -> None:
    """The rows that all of them write, from before the log."""
    with unseen():
        for model in NUMBERS:
            model._base_manager.all().delete()
            for n in range(ROWS):
                model._default_manager.create(name=f"row {n}")


class Writer:
    """One of several at once, each in a thread of its own.

    `returning`: rows that were deleted are saved again under the same key. Then no query set
    updates or deletes: a row that its statement finds, and that was not there when we looked, is
    counted and not named (docs/bulk.md). For that reason no condition is on what others change.
    """

    def __init__(self, seed: str, *, returning: bool) -> None:
        self.random = random.Random(seed)
        self.returning = returning
        self.held: list[Any] = []
        self.done = 0

    def run(self, turns: int) -> int:
        """How many operations came through."""
        try:
            if connection.vendor == "postgresql":
                with connection.cursor() as cursor:  # sooner than its look for deadlocks
                    cursor.execute("SET lock_timeout = '50ms'")
            for _ in range(turns):
                self._turn()
        finally:
            connection.close()
        return self.done

    def _turn(self) -> None:
        for _ in range(_TRIES):
            # A deadlock, a lock that takes too long, a row that is gone.
            with suppress(DatabaseError, ObjectDoesNotExist, _Undone):
                if self.random.random() < 0.5:
                    self._operation()
                    self.done += 1
                else:
                    self.done += self._transaction()
                return

    def _transaction(self) -> int:
        count = self.random.randint(1, 4)
        with transaction.atomic():
            for _ in range(count):
                if self.random.random() < 0.7:
                    self._operation()
                    continue
                with suppress(_Undone, DatabaseError, ObjectDoesNotExist), transaction.atomic():
                    self._operation()
                    self._perhaps_undone()
            self._perhaps_undone()
        return count

    def _perhaps_undone(self) -> None:
        if self.random.random() < 0.25:
            raise _Undone

    def _operation(self) -> None:
        model = self.random.choice([*NUMBERS])
        operations = [self._save, self._save, self._save_stale, self._save_some, self._save_sum]
        operations += [self._delete, self._create]
        if not self.returning:
            operations += [self._update, self._update_sum, self._bulk_update, self._delete_some]
        self.random.choice(operations)(model)

    def _keys(self, model: type[models.Model]) -> list[Any]:
        keys = list(model._default_manager.order_by("pk").values_list("pk", flat=True))
        return self.random.sample(keys, min(len(keys), self.random.randint(1, 3)))

    def _loaded(self, model: type[models.Model]) -> Any:
        keys = self._keys(model)
        row = model._default_manager.get(pk=keys[0] if keys else None)
        self.held = [*self.held[-3:], row]
        return row

    def _changed(self, row: Any) -> Any:
        setattr(row, NUMBERS[type(row)], self.random.randint(0, 5))
        row.name = f"name {self.random.randint(0, 3)}"
        return row

    def _written(self, row: Any) -> None:
        """A save of all fields, which brings a row back that is gone, or of the fields by name."""
        row.save(update_fields=None if self.returning else ["name", NUMBERS[type(row)]])

    def _save(self, model: type[models.Model]) -> None:
        self._written(self._changed(self._loaded(model)))

    def _save_stale(self, model: type[models.Model]) -> None:
        """Of a row that was loaded some time ago."""
        if self.held:
            self._written(self._changed(self.random.choice(self.held)))

    def _save_some(self, model: type[models.Model]) -> None:
        self._changed(self._loaded(model)).save(update_fields=[NUMBERS[model]])

    def _save_sum(self, model: type[models.Model]) -> None:
        row, name = self._loaded(model), NUMBERS[model]
        setattr(row, name, F(name) + 1)
        row.save(update_fields=[name])
        row.refresh_from_db()

    def _update(self, model: type[models.Model]) -> None:
        values = {NUMBERS[model]: self.random.randint(0, 5), "name": "updated"}
        model._default_manager.filter(pk__in=self._keys(model)).update(**values)

    def _update_sum(self, model: type[models.Model]) -> None:
        name = NUMBERS[model]
        model._default_manager.filter(pk__in=self._keys(model)).update(**{name: F(name) + 1})

    def _bulk_update(self, model: type[models.Model]) -> None:
        rows = list(model._default_manager.filter(pk__in=self._keys(model)))
        model._default_manager.bulk_update(
            [self._changed(row) for row in rows], ["name", NUMBERS[model]]
        )

    def _create(self, model: type[models.Model]) -> None:
        self.held.append(model._default_manager.create(name=f"made {self.random.randint(0, 3)}"))

    def _delete(self, model: type[models.Model]) -> None:
        row = self._loaded(model)
        key = row.pk
        row.delete()
        row.pk = key

    def _delete_some(self, model: type[models.Model]) -> None:
        model._default_manager.filter(pk__in=self._keys(model)[:1]).delete()


class _Undone(Exception):
    """Rolls a block back."""
