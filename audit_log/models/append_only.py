"""What makes a table append-only as far as Django's ORM reaches.

Whoever goes behind the ORM is found by `verify`, not stopped here.
"""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar

from django.db import models

from audit_log.exceptions import ImmutableRecord

_M = TypeVar("_M", bound=models.Model)


def _refuse(what: str) -> NoReturn:
    raise ImmutableRecord(
        f"{what} is refused: the log is append-only. Rows leave by retention only."
    )


class AppendOnlyQuerySet(models.QuerySet[_M]):
    """Reads, and inserts in bulk; nothing else."""

    def update(self, **kwargs: Any) -> NoReturn:
        _refuse("update()")

    def delete(self) -> NoReturn:
        _refuse("delete()")

    def bulk_update(self, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse("bulk_update()")

    # Django binds these at class creation; without them the originals would still be reachable.
    async def aupdate(self, **kwargs: Any) -> NoReturn:
        _refuse("aupdate()")

    async def adelete(self) -> NoReturn:
        _refuse("adelete()")

    async def abulk_update(self, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse("abulk_update()")


class AppendOnly(models.Model):
    """A row that is inserted once and never changed."""

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            _refuse("Changing a saved row")
        kwargs["force_insert"] = True
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse("Deleting a row")
