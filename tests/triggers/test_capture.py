"""What is written behind the ORM is recorded, and what is written through it is not twice."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction

import audit_log
from audit_log import testing
from audit_log.models import Outbox, Record
from audit_log.models.outbox import Form
from tests.shop.models import Category, Club, Member, Membership, Product, Review, Shelf, Tag
from tests.triggers import seen
from tests.triggers.seen import sql

pytestmark = pytest.mark.postgres


@contextmanager
def elsewhere() -> Iterator[Any]:
    """A connection of another program's."""
    settings = connection.settings_dict
    with psycopg.connect(
        host=settings["HOST"],
        port=settings["PORT"],
        user=settings["USER"],
        password=settings["PASSWORD"] or None,
        dbname=settings["NAME"],
        application_name="elsewhere",
    ) as other:
        yield other


def test_raw_sql_is_recorded(triggers):
    triggers(Category, open=["name"])
    sql("INSERT INTO shop_category (name) VALUES ('books')")
    sql("UPDATE shop_category SET name = 'maps'")
    sql("UPDATE shop_category SET name = name")
    sql("UPDATE shop_category SET name = 'none' WHERE id = -1")
    sql("DELETE FROM shop_category")
    key = seen.told(seen.events())[0][2]
    assert [(e.action, e.target.id, e.changes, e.source) for e in seen.events()] == [
        ("create", key, {"name": [None, "books"]}, "trigger"),
        ("update", key, {"name": ["books", "maps"]}, "trigger"),
        ("delete", key, {"name": ["maps", None]}, "trigger"),
    ]


@pytest.mark.skipif(shutil.which("psql") is None, reason="There is no psql.")
def test_psql_is_recorded_by_its_role(triggers):
    triggers(Category)
    settings = connection.settings_dict
    subprocess.run(
        [
            *("psql", "-h", settings["HOST"], "-p", settings["PORT"], "-U", settings["USER"]),
            *("-d", settings["NAME"], "-c", "INSERT INTO shop_category (name) VALUES ('x')"),
        ],
        check=True,
        capture_output=True,
    )
    (event,) = seen.events()
    assert event.action == "create"
    assert (event.actor.type, event.actor.label) == ("service", settings["USER"])
    assert event.data["application"] == "psql"
    assert "data.application" in event.sealed


def test_another_program_is_recorded(triggers):
    triggers(Category)
    with elsewhere() as other:
        other.execute("INSERT INTO shop_category (name) VALUES ('x'), ('y')")
    events = seen.events()
    assert [e.action for e in events] == ["create", "create"]
    assert {e.data["application"] for e in events} == {"elsewhere"}
    assert [e.id for e in events] == sorted(e.id for e in events)


def test_copy_of_many_rows_is_few_batches(triggers):
    triggers(Category)
    statement = "COPY shop_category (name) FROM STDIN"
    with elsewhere() as other, other.cursor() as cursor, cursor.copy(statement) as copy:
        for number in range(1234):
            copy.write_row([f"category {number}"])
    assert list(Outbox.objects.order_by("id").values_list("form", "event_count")) == [
        *((Form.ROWS, 500), (Form.ROWS, 500), (Form.ROWS, 234)),
    ]
    events = seen.events()
    names = [event.changes["name"][1] for event in events]
    assert names == [f"category {number}" for number in range(1234)]
    assert len({event.id for event in events}) == 1234


def test_batches_are_bounded_by_their_size_as_well(triggers):
    triggers(Product)
    sql(
        "INSERT INTO shop_product (name, description, price, stock, active, status, attributes,"
        " updated_at) SELECT 'x', repeat('y', 30000), 1, 0, true, 'draft', '{}', now()"
        " FROM generate_series(1, 90)"
    )
    sizes = [len(bytes(p)) for p in Outbox.objects.values_list("payload", flat=True)]
    assert len(sizes) == 3
    assert max(sizes) < 1_100_000
    assert len(seen.events()) == 90


def test_updates_of_many_rows_pair_old_and_new(triggers):
    triggers(Category)
    sql("INSERT INTO shop_category (name) SELECT g::text FROM generate_series(1, 700) g")
    seen.forget()
    sql("UPDATE shop_category SET name = name || '!' WHERE name::int % 2 = 0")
    events = seen.events()
    assert len(events) == 350
    assert all(new == f"{old}!" for event in events for old, new in event.changes.values())


def test_a_key_that_changes_is_told_beside_the_old_one(triggers):
    triggers(Category)
    sql("INSERT INTO shop_category (id, name) VALUES (1, 'a'), (2, 'b')")
    seen.forget()
    sql("UPDATE shop_category SET id = id + 10")
    sql("UPDATE shop_category SET id = 20, name = 'c' WHERE id = 12")
    assert [(e.target.id, e.data["key"], e.changes) for e in seen.events()] == [
        ("1", ["1", "11"], None),
        ("2", ["2", "12"], None),
        ("12", ["12", "20"], {"name": ["b", "c"]}),
    ]


def test_composite_keys_are_told_as_our_hooks_tell_them(triggers):
    triggers(Shelf)
    shelf = Shelf.objects.create(room="north", number=4, label="maps")
    (event,) = seen.events()
    assert event.target.id == '["north", 4]'
    shelf.delete()
    assert [e.action for e in seen.events()] == ["create", "delete"]


def test_upserts_are_told_as_what_they_did(triggers):
    triggers(Category)
    sql("INSERT INTO shop_category (id, name) VALUES (1, 'a')")
    seen.forget()
    sql(
        "INSERT INTO shop_category (id, name) VALUES (1, 'b'), (2, 'c') "
        "ON CONFLICT (id) DO UPDATE SET name = excluded.name"
    )
    assert sorted(seen.told(seen.events())) == [
        ("create", "shop.category", "2"),
        ("update", "shop.category", "1"),
    ]


def test_truncate_is_one_event(triggers):
    triggers(Review)
    sql("TRUNCATE shop_review")
    (event,) = seen.events()
    assert (event.action, event.target.type, event.target.id) == ("delete", "shop.review", None)
    assert event.data["truncated"] is True


def test_truncate_of_members_is_a_clear(triggers):
    triggers(Product)
    sql("TRUNCATE shop_product_tags")
    (event,) = seen.events()
    assert (event.action, event.target.type) == ("m2m.clear", "shop.product")
    assert event.data["field"] == "tags"


def test_cascades_in_the_database_are_recorded(triggers):
    triggers(Review)
    product = Product.objects.create(name="x")
    Review.objects.bulk_create([Review(product=product, text=str(n)) for n in range(3)])
    sql(
        "ALTER TABLE shop_review ADD CONSTRAINT by_database FOREIGN KEY (product_id) "
        "REFERENCES shop_product (id) ON DELETE CASCADE"
    )
    try:
        seen.forget()
        sql("DELETE FROM shop_product")
        assert [e.action for e in seen.events()] == ["delete"] * 3
    finally:
        sql("ALTER TABLE shop_review DROP CONSTRAINT by_database")


@transaction.atomic
def _undone(name: str) -> None:
    sql("INSERT INTO shop_category (name) VALUES (%s)", [name])
    raise ZeroDivisionError


def test_what_rolls_back_is_not_recorded(triggers):
    triggers(Category)
    with transaction.atomic():
        Category.objects.create(name="kept")
        with pytest.raises(ZeroDivisionError):
            _undone("in a savepoint")
    with pytest.raises(ZeroDivisionError):
        _undone("in a transaction")
    assert [e.changes["name"] for e in seen.events()] == [[None, "kept"]]


def test_nothing_is_recorded_twice(triggers):
    triggers(Product, Category)
    with testing.capture_events() as captured:
        category = Category.objects.create(name="c")
        product = Product.objects.create(name="a", category=category)
        product.name = "b"
        product.save()
        product.save()
        Product.objects.bulk_create([Product(name="x"), Product(name="y")])
        Product.objects.filter(name__in=["x", "y"]).update(stock=3)
        rows = list(Product.objects.filter(stock=3).order_by("pk"))
        for row in rows:
            row.stock = 4
        Product.objects.bulk_update(rows, ["stock"])
        Product.objects.bulk_create(
            [Product(pk=product.pk, stock=7)],
            update_conflicts=True,
            unique_fields=["id"],
            update_fields=["stock"],
        )
        with transaction.atomic():
            Product.objects.filter(stock=4).delete()
            category.delete()
    assert [e.action for e in captured] == []
    actions = [(e.action, e.target.type.partition(".")[2]) for e in seen.events()]
    assert actions == [
        ("create", "category"),
        *[("create", "product"), ("update", "product")],
        *[("create", "product")] * 2,
        *[("update", "product")] * 5,
        *[("delete", "product")] * 2,
        ("delete", "category"),  # PostgreSQL looks at references when the transaction ends
        ("delete", "product"),
    ]


def test_members_are_recorded_once_as_their_owners(triggers):
    triggers(Product)
    product, tags = Product.objects.create(name="a"), [Tag.objects.create(name=n) for n in "xyz"]
    seen.forget()
    with testing.capture_events() as captured:
        product.tags.add(*tags)
        product.tags.remove(tags[0])
        tags[1].products.clear()
        product.tags.set([tags[0]])
        product.delete()
    assert [e.action for e in captured] == []
    members = [e for e in seen.events() if e.action.startswith("m2m")]
    assert [(e.action, sorted(e.data["ids"])) for e in members] == [
        ("m2m.add", sorted(str(tag.pk) for tag in tags)),
        ("m2m.remove", [str(tags[0].pk)]),
        ("m2m.remove", [str(tags[1].pk)]),
        ("m2m.remove", [str(tags[2].pk)]),
        ("m2m.add", [str(tags[0].pk)]),
        ("m2m.remove", [str(tags[0].pk)]),
    ]
    assert {e.target.type for e in members} == {"shop.product"}
    assert len({e.target.id for e in members}) == 1


def test_other_models_are_captured_by_the_hooks_as_before(triggers):
    triggers(Category)
    with testing.capture_events() as captured:
        product = Product.objects.create(name="a", category=Category.objects.create(name="c"))
        product.tags.add(Tag.objects.create(name="t"))
    assert [e.action for e in captured] == ["create", "create", "m2m.add"]
    assert [e.target.type for e in seen.events() if e.source == "trigger"] == ["shop.category"]


def test_through_models_of_ones_own_are_models(triggers):
    triggers(Membership)
    club, member = Club.objects.create(name="c"), Member.objects.create(name="m")
    seen.forget()
    club.members.add(member)
    assert [(e.action, e.target.type) for e in seen.events() if e.source == "trigger"] == [
        ("create", "shop.membership")
    ]


def test_it_all_reaches_the_ledger(triggers):
    triggers(Category, open=["name"])
    sql("INSERT INTO shop_category (name) VALUES ('a'), ('b')")
    moved = testing.relay()
    assert (moved.events, moved.failed, moved.parked) == (2, 0, 0)
    assert not Outbox.objects.exists()
    records = Record.objects.filter(target_type="shop.category")
    assert [r.source for r in records] == ["trigger"] * 2
    category = Category.objects.get(name="a")
    assert audit_log.history(category).get().changes == {"name": [None, "a"]}


def test_a_row_read_twice_is_stored_once(triggers):
    triggers(Category)
    sql("INSERT INTO shop_category (name) VALUES ('a'), ('b')")
    assert [e.id for e in seen.events()] == [e.id for e in seen.events()]
    row = Outbox.objects.values().get()
    moved = testing.relay()
    sql("ALTER TABLE audit_log_outbox DISABLE TRIGGER USER")  # to leave it as a kill would
    Outbox.objects.create(**row)
    sql("ALTER TABLE audit_log_outbox ENABLE TRIGGER USER")
    again = testing.relay()
    assert (moved.events, again.events, again.repeated) == (2, 0, 2)
