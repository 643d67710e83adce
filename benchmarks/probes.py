"""What each subject records and what not: found by looking into its tables, not by reading."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from django.db import DataError, connection

from benchmarks import stored
from benchmarks.catalog import peers
from benchmarks.catalog.contents import item_values
from benchmarks.catalog.models import Item, Order, Tag
from benchmarks.client import ADDRESS, AGENT, USER_ID, USER_NAME, Client
from benchmarks.subjects import Subject

_OLD: Final = "Old-Name-7261"
_NEW: Final = "New-Name-4417"
_SECRET: Final = "pbkdf2-secret-9931"  # noqa: S105 - to be looked for
_EMAIL: Final = "nobody.special@example.org"
_STRANGER: Final = "stranger-5150"
_TOO_LONG: Final = 1000


class Probes:
    """Does something, and looks at the rows that came."""

    def __init__(self, subject: Subject, client: Client) -> None:
        self._subject = subject
        self._client = client

    def all(self) -> dict[str, bool]:
        """`{what: whether it is recorded}`."""
        post = self._new_rows(lambda: self._client.post("/save/", {"name": _NEW}), unit="")
        return {
            "old and new value together": self._old_and_new(),
            "many-to-many changes": self._many_to_many(),
            "`QuerySet.delete()`": bool(self._new_rows(self._delete_many)),
            "`QuerySet.update()`": bool(self._new_rows(self._update_many)),
            "`bulk_create()`": bool(self._new_rows(self._bulk_create)),
            "SQL behind the ORM": bool(self._new_rows(self._raw_sql)),
            "the actor of a request": _holds(post, str(USER_ID), USER_NAME),
            "the client's address": _holds(post, ADDRESS),
            "the user agent": _holds(post, AGENT),
            "the path of a request that wrote": _holds(post, "/save/"),
            "requests that failed, without a write": self._failed_request(),
            "each reading request": self._read_request(),
            "failed log-ins": self._failed_login(),
            "nothing of a failed save": not self._new_rows(self._failing_save),
            "no password in clear": self._masks(),
            "personal values encrypted": self._encrypts(),
        }

    def _new_rows(self, call: Callable[[], object], *, unit: str | None = None) -> set[str]:
        before = stored.rows(self._subject) | stored.opened(self._subject)
        with peers.unit(self._subject.name if unit is None else unit):
            call()
        return (stored.rows(self._subject) | stored.opened(self._subject)) - before

    def _old_and_new(self) -> bool:
        item = Item.objects.create(**item_values(name=_OLD))

        def rename() -> None:
            found = Item.objects.get(pk=item.pk)
            found.name = _NEW
            found.save()

        rows = self._new_rows(rename)
        return _holds(rows, _OLD) and _holds(rows, _NEW)

    def _order(self) -> None:
        Order.objects.create(name="order", password=_SECRET, email=_EMAIL)

    def _masks(self) -> bool:
        rows = self._new_rows(self._order)
        half = len(_SECRET) // 2
        return bool(rows) and not _holds(rows, _SECRET[:half], _SECRET[half:])

    def _encrypts(self) -> bool:
        before = stored.rows(self._subject)
        with peers.unit(self._subject.name):
            self._order()
        raw = stored.rows(self._subject) - before
        return _holds(stored.opened(self._subject), _EMAIL) and not _holds(raw, _EMAIL)

    def _many_to_many(self) -> bool:
        order = Order.objects.create(name="order", password="", email="")
        tag = Tag.objects.create(name="tag")
        return bool(self._new_rows(lambda: order.tags.add(tag)))

    def _delete_many(self) -> None:
        Item.objects.filter(pk__in=_keys(2)).delete()

    def _update_many(self) -> None:
        Item.objects.filter(pk__in=_keys(2)).update(name=_NEW)

    def _bulk_create(self) -> None:
        Item.objects.bulk_create([Item(**item_values()), Item(**item_values())])

    def _raw_sql(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("UPDATE catalog_item SET name = 'raw' WHERE id = %s", _keys(1))

    def _failed_request(self) -> bool:
        rows = self._new_rows(lambda: self._client.post("/missing/", {}, expect=404), unit="")
        return _holds(rows, "/missing/")

    def _read_request(self) -> bool:
        return _holds(self._new_rows(lambda: self._client.get("/user/"), unit=""), "/user/")

    def _failed_login(self) -> bool:
        form = {"username": _STRANGER, "password": "wrong"}
        rows = self._new_rows(lambda: self._client.post("/login/", form, expect=403), unit="")
        return _holds(rows, _STRANGER)

    def _failing_save(self) -> None:
        item = Item.objects.get(pk=_keys(1)[0])
        item.name = "x" * _TOO_LONG
        try:
            item.save()
        except DataError:
            connection.needs_rollback = False
        else:
            raise RuntimeError("The save was meant to fail.")


def _keys(count: int) -> list[Any]:
    return list(Item.objects.order_by("-pk").values_list("pk", flat=True)[:count])


def _holds(rows: Iterable[str], *needles: str) -> bool:
    return any(needle in row for row in rows for needle in needles)
