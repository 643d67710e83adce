"""The operations themselves: what is prepared untimed, and what is timed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any, Final, NamedTuple

from django.db import transaction

from benchmarks.catalog.contents import item_values, part_values
from benchmarks.catalog.models import Item, Part
from benchmarks.client import Client

_SEEDS: Final = 1000
_BATCH: Final = 10
_CREATED: Final = 100


class Prepared(NamedTuple):
    """An operation of this process. Where `writes`, peers that need a block around get one."""

    prepare: Callable[[], Any]
    run: Callable[[Any], object]
    writes: bool = True


class Operations:
    """All of them, over 1,000 rows of each model that are there from the beginning."""

    def __init__(self, client: Client) -> None:
        Item.objects.bulk_create([Item(**item_values()) for _ in range(_SEEDS)])
        Part.objects.bulk_create([Part(**part_values()) for _ in range(_SEEDS)])
        self.keys = list(Item.objects.order_by("pk").values_list("pk", flat=True)[:_SEEDS])
        self._turn: Iterator[int] = cycle(self.keys)
        self._client = client

    def by_name(self) -> dict[str, Prepared]:
        """As `plan` names them."""
        return {
            "create": Prepared(item_values, _create),
            "update": Prepared(self._changed, _save),
            "noop": Prepared(self._loaded, _save),
            "delete": Prepared(_made, _delete),
            "update_10_in_tx": Prepared(self._ten_changed, _save_together),
            "create_100_in_tx": Prepared(_hundred_values, _create_together),
            "load_1000": Prepared(_nothing, lambda _: _load(Part), writes=False),
            "load_1000_json": Prepared(_nothing, lambda _: _load(Item), writes=False),
            "bulk_create_1000": Prepared(_thousand_items, Item.objects.bulk_create),
            "bulk_update_1000": Prepared(self._thousand_changed, _update_together),
            "qs_update_1000": Prepared(_new_status, self._update_all),
            "get": Prepared(_nothing, lambda _: self._client.get("/plain/"), writes=False),
            "get_user": Prepared(_nothing, lambda _: self._client.get("/user/"), writes=False),
            "post": Prepared(_form, self._post, writes=False),
        }

    def _loaded(self) -> Item:
        return Item.objects.get(pk=next(self._turn))

    def _changed(self) -> Item:
        return _change(self._loaded())

    def _ten_changed(self) -> list[Item]:
        keys = [next(self._turn) for _ in range(_BATCH)]
        return [_change(item) for item in Item.objects.filter(pk__in=keys)]

    def _thousand_changed(self) -> list[Item]:
        return [_change(item) for item in Item.objects.filter(pk__in=self.keys)]

    def _update_all(self, status: str) -> int:
        return Item.objects.filter(pk__range=(self.keys[0], self.keys[-1])).update(status=status)

    def _post(self, form: dict[str, str]) -> None:
        self._client.post("/save/", form)


def _nothing() -> None:
    return None


def _create(values: dict[str, Any]) -> None:
    Item.objects.create(**values)


def _made() -> Item:
    return Item.objects.create(**item_values())


def _change(item: Item) -> Item:
    fresh = item_values()
    item.name, item.price = fresh["name"], fresh["price"]
    return item


def _save(item: Item) -> None:
    item.save()


def _delete(item: Item) -> None:
    item.delete()


def _save_together(items: list[Item]) -> None:
    with transaction.atomic():
        for item in items:
            item.save()


def _hundred_values() -> list[dict[str, Any]]:
    return [item_values() for _ in range(_CREATED)]


def _create_together(rows: list[dict[str, Any]]) -> None:
    with transaction.atomic():
        for row in rows:
            Item.objects.create(**row)


def _load(model: type[Item | Part]) -> None:
    list(model._default_manager.order_by("pk")[:_SEEDS])


def _thousand_items() -> list[Item]:
    return [Item(**item_values()) for _ in range(_SEEDS)]


def _update_together(items: list[Item]) -> None:
    Item.objects.bulk_update(items, ["name"])


def _new_status() -> str:
    return str(item_values()["sku"])


def _form() -> dict[str, str]:
    return {"name": str(item_values()["name"])}
