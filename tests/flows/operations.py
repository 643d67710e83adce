"""What a project does with its database, step by step, for counting what each step sends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F
from django.test import Client

import audit_log
from audit_log.delivery.relay import relay
from audit_log.ledger import checkpoints
from audit_log.recording import buffer
from tests.shop.models import Category, Person, Product, Stock, Tag


class World:
    """Rows to work on, and somebody who is logged in."""

    def __init__(self) -> None:
        self.category = Category.objects.create(name="Books")
        self.tags = [Tag.objects.create(name=f"tag {n}") for n in range(3)]
        self.user = User.objects.create_superuser("anna", password="right")
        self.log_in()

    def log_in(self) -> None:
        """A client keeps the middleware of its first request."""
        self.client = Client()
        self.client.force_login(self.user)

    def product(self, n: int = 0) -> Product:
        made = Product(name=f"product {n}", category=self.category, attributes={"pages": n})
        made.save()
        return Product.objects.get(pk=made.pk)

    def products(self, count: int) -> list[Product]:
        rows = [Product(name=f"product {n}", category=self.category) for n in range(count)]
        Product.objects.bulk_create(rows)
        return list(Product.objects.all()[:count])


Operation = Callable[[], object]
Preparation = Callable[[World], Operation]
OPERATIONS: dict[str, Preparation] = {}
OURS: set[str] = set()


def operation(name: str, *, ours: bool = False) -> Callable[[Preparation], Preparation]:
    """`prepare(world)` is not counted, what it returns is. `ours` is only there with the app."""

    def register(prepare: Preparation) -> Preparation:
        OPERATIONS[name] = prepare
        if ours:
            OURS.add(name)
        return prepare

    return register


# Writes


@operation("create")
def _(world: World) -> Operation:
    return Product(name="new", category=world.category).save


@operation("update")
def _(world: World) -> Operation:
    product = world.product()
    product.name, product.price = "changed", 12
    return product.save


@operation("update of two fields by name")
def _(world: World) -> Operation:
    product = world.product()
    product.name, product.stock = "changed", 12
    return lambda: product.save(update_fields=["name", "stock"])


@operation("update by an expression")
def _(world: World) -> Operation:
    product = world.product()
    product.stock = F("stock") + 1
    return product.save


@operation('update, before="database"')
def _(world: World) -> Operation:
    stock = Stock.objects.create(name="s")
    stock.amount = 7
    return stock.save


@operation("save that changes nothing")
def _(world: World) -> Operation:
    return world.product().save


@operation("delete")
def _(world: World) -> Operation:
    return world.product().delete


@operation("delete, nothing refers to it")
def _(world: World) -> Operation:
    return Person.objects.create(nickname="p").delete


@operation("10 updates in a transaction")
def _(world: World) -> Operation:
    products = world.products(10)

    def update() -> None:
        with transaction.atomic():
            for product in products:
                product.name = "changed"
                product.save()

    return update


@operation("100 creates in a transaction")
def _(world: World) -> Operation:
    def create() -> None:
        with transaction.atomic():
            for n in range(100):
                Product(name=f"new {n}", category=world.category).save()

    return create


@operation("load of 1,000 rows")
def _(world: World) -> Operation:
    world.products(1_000)
    return lambda: list(Product.objects.all())


@operation("bulk_create of 50 rows")
def _(world: World) -> Operation:
    rows = [Product(name=f"new {n}", category=world.category) for n in range(50)]
    return lambda: Product.objects.bulk_create(rows)


@operation("QuerySet.update of 1,000 rows")
def _(world: World) -> Operation:
    world.products(1_000)
    return lambda: Product.objects.update(stock=3)


@operation("QuerySet.update by an expression")
def _(world: World) -> Operation:
    world.products(100)
    return lambda: Product.objects.update(stock=F("stock") + 1)


@operation("QuerySet.update of more rows than BULK_ROWS")
def _(world: World) -> Operation:
    world.products(1_001)
    return lambda: Product.objects.update(stock=3)


@operation("bulk_update of 50 rows")
def _(world: World) -> Operation:
    products = world.products(50)
    for product in products:
        product.stock = 7
    return lambda: Product.objects.bulk_update(products, ["stock"])


@operation("bulk_create of 50 rows, conflicts ignored")
def _(world: World) -> Operation:
    rows = [Product(pk=1_000_000 + n, name=f"new {n}") for n in range(50)]
    return lambda: Product.objects.bulk_create(rows, ignore_conflicts=True)


@operation("QuerySet.delete of 50 rows")
def _(world: World) -> Operation:
    world.products(50)
    return lambda: Product.objects.all().delete()


@operation("add of 2 to many-to-many")
def _(world: World) -> Operation:
    product = world.product()
    return lambda: product.tags.add(*world.tags[:2])


@operation("clear of many-to-many")
def _(world: World) -> Operation:
    product = world.product()
    product.tags.add(*world.tags)
    return product.tags.clear


@operation("explicit record()", ours=True)
def _(world: World) -> Operation:
    return lambda: audit_log.record("book.read", target=world.category, data={"pages": 3})


@operation("explicit viewed()", ours=True)
def _(world: World) -> Operation:
    return lambda: audit_log.viewed(world.category)


# Requests, through every middleware; their own event waits for the flush below


@operation("GET, user never read")
def _(world: World) -> Operation:
    return lambda: _answered(world.client.get("/plain/"))


@operation("GET, user read")
def _(world: World) -> Operation:
    return lambda: _answered(world.client.get("/reads-user/"))


@operation("POST that creates a row")
def _(world: World) -> Operation:
    return lambda: _answered(world.client.post("/create/"))


@operation("POST that writes nothing")
def _(world: World) -> Operation:
    return lambda: _answered(world.client.post("/echo/"))


@operation("login")
def _(world: World) -> Operation:
    data = {"username": "anna", "password": "right"}
    return lambda: _answered(Client().post("/admin/login/?next=/plain/", data), 302)


def _answered(response: Any, status: int = 200) -> None:
    assert response.status_code == status, response.content


@operation("page of an object in the admin")
def _(world: World) -> Operation:
    url = f"/alone/shop/category/{world.category.pk}/change/"
    return lambda: _answered(world.client.get(url))


# What there is only with the app


@operation("flush of 20 requests", ours=True)
def _(world: World) -> Operation:
    for _ in range(20):
        world.client.post("/echo/")
    return buffer.flush


@operation("relay of nothing", ours=True)
def _(world: World) -> Operation:
    return relay


@operation("relay of 20 batches", ours=True)
def _(world: World) -> Operation:
    for n in range(20):
        Category.objects.create(name=f"category {n}")
    return relay


@operation("checkpoint", ours=True)
def _(world: World) -> Operation:
    Category.objects.create(name="new")
    relay()
    return checkpoints.sign_all


@operation("list of records in the admin", ours=True)
def _(world: World) -> Operation:
    _some_records(world)
    return lambda: _answered(world.client.get("/alone/audit_log/record/"))


@operation("list of records in the API", ours=True)
def _(world: World) -> Operation:
    _some_records(world)
    return lambda: _answered(world.client.get("/audit/v1/records/"))


def _some_records(world: World) -> None:
    for n in range(30):
        with audit_log.acting(world.user):
            Category.objects.create(name=f"category {n}")
    relay()
