"""What models and their tables allow: overridden methods, unmanaged models, triggers, cascades."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.db import connection, connections, models
from django.db.models import deletion
from django.test.utils import isolate_apps

from audit_log.coverage import overrides, sources, tables
from audit_log.coverage.places import Place
from audit_log.coverage.watching import Watched, watched
from audit_log.models import Outbox
from tests.shop.models import Category, Product, Tag

HERE = Path(__file__).resolve()
PROJECT = sources.Project({}, {HERE: sources.parse(HERE, "here.py")})


def raw(statement: str) -> None:
    """Writes, but is no way of Django's."""


def line_of(text: str) -> int:
    return next(n for n, line in enumerate(HERE.read_text().splitlines(), 1) if text in line)


class Writing(models.QuerySet[Any]):
    def update(self, **values: Any) -> int:
        raw("UPDATE")
        return 0

    def bulk_create(self, objs: Any, **options: Any) -> Any:  # type: ignore[override]
        return super().bulk_create(objs, **options)

    def bulk_update(self, objs: Any, fields: Any, **options: Any) -> int:  # type: ignore[override]
        for obj in objs:
            obj.save()
        return 0

    def delete(self) -> Any:
        return self.filter(pk__gt=0).update(deleted=True)

    def create(self, **values: Any) -> Any:
        raise TypeError(f"Not {values}")


class Confusing(models.Manager[Any]):
    def bulk_create(  # type: ignore[override]
        self, objs: Any, **values: Any
    ) -> Any:  # audit: seen
        values.update(a=1)
        raw("INSERT")


def _overridden(model: type[models.Model]) -> list[Place]:
    return list(overrides.places(PROJECT, [model]))


@isolate_apps("tests.shop")
def test_query_set_that_replaces_update_is_listed_where_it_is():
    class Item(models.Model):
        objects = Writing.as_manager()

        class Meta:
            app_label = "shop"

    (place,) = _overridden(Item)
    assert place == Place(
        "override",
        "here.py",
        line_of("def update(self, **values"),
        "Writing.update() calls no writing method of Django's",
        "shop.Item",
        own=True,
    )
    assert place.unseen


@isolate_apps("tests.shop")
def test_manager_is_looked_at_and_a_comment_accepts_it():
    class Item(models.Model):
        objects = Confusing()
        others = Confusing.from_queryset(Writing)()

        class Meta:
            app_label = "shop"

    found = {place.what.split("(")[0]: place for place in _overridden(Item)}
    assert found.keys() == {"Confusing.bulk_create", "Writing.update"}
    assert found["Confusing.bulk_create"].accepted


@isolate_apps("tests.shop")
def test_model_that_writes_its_own_way_is_listed():
    class Item(models.Model):
        name = models.CharField(max_length=50)

        class Meta:
            app_label = "shop"

        def save(self, *args: Any, **options: Any) -> None:
            raw("INSERT")

        def delete(self, *args: Any, **options: Any) -> Any:
            self.name = "gone"
            models.Model.save(self)

    (place,) = _overridden(Item)
    assert place.what == "Item.save() calls no writing method of Django's"


def test_models_of_django_and_of_the_tests_replace_nothing():
    assert list(overrides.places(PROJECT, apps.get_models())) == []


def test_class_of_another_file_is_no_place_of_the_projects():
    empty = sources.Project({}, {})
    with isolate_apps("tests.shop"):

        class Item(models.Model):
            objects = Writing.as_manager()

            class Meta:
                app_label = "shop"

        (place,) = overrides.places(empty, [Item])
    assert place.path == __name__
    assert not place.unseen


def _watched(model: type[models.Model], state: str, kind: str) -> Watched:
    return Watched(model, kind, state, state, None, None, ())


class Legacy(models.Model):
    class Meta:
        apps = apps.__class__()
        app_label = "shop"
        managed = False
        db_table = "shop_product"


class Accepted(models.Model):
    # audit: seen, as another program's rows

    class Meta:
        apps = apps.__class__()
        app_label = "shop"
        managed = False


def test_unmanaged_models_are_listed_with_their_twins():
    known = [
        _watched(Product, "audited", "concrete"),
        _watched(Legacy, "unmanaged", "unmanaged"),
        _watched(Accepted, "unmanaged", "unmanaged"),
        _watched(Category, "excluded", "unmanaged"),
    ]
    legacy, accepted = tables.unmanaged(PROJECT, known)
    assert legacy.line == line_of("class Legacy")
    assert legacy.what == (
        "shop.Legacy writes to the table shop_product, which is also that of shop.Product"
    )
    assert legacy.unseen
    assert accepted.accepted


@pytest.mark.skipif(not hasattr(deletion, "DatabaseOnDelete"), reason="since Django 6.1")
def test_cascades_of_the_database_are_listed():
    with isolate_apps("tests.shop"):

        class Item(models.Model):
            category = models.ForeignKey(
                Category,
                on_delete=getattr(models, "DB_CASCADE"),  # noqa: B009 - Django 6.1
                related_name="+",
            )

            class Meta:
                app_label = "shop"

        (place,) = tables.cascades(PROJECT, [_watched(Item, "audited", "concrete")])
    assert place.what.startswith("shop.Item.category: ")
    assert "CASCADE" in place.what


def test_rows_of_a_through_table_by_themselves_are_not_captured(db, audit_events):
    """As docs/coverage.md says."""
    product, tag = Product.objects.create(name="Teapot"), Tag.objects.create(name="new")
    before = list(audit_events)
    Product.tags.through.objects.create(product=product, tag=tag)
    assert audit_events == before


def test_cascades_by_django_are_not():
    assert list(tables.cascades(PROJECT, watched())) == []


@pytest.mark.django_db(transaction=True)
def test_triggers_are_listed():
    assert tables.triggers("default") == []
    table = Category._meta.db_table
    body = "BEGIN DELETE FROM shop_tag; END"
    made = {
        "sqlite": [f"CREATE TRIGGER tidy AFTER INSERT ON {table} {body}"],
        "mysql": [f"CREATE TRIGGER tidy AFTER INSERT ON {table} FOR EACH ROW DELETE FROM shop_tag"],
        "postgresql": [
            f"CREATE FUNCTION tidy() RETURNS trigger AS $$ {body} $$ LANGUAGE plpgsql",
            f"CREATE TRIGGER tidy AFTER INSERT ON {table} EXECUTE FUNCTION tidy()",
        ],
    }
    dropped = {
        "sqlite": ["DROP TRIGGER tidy"],
        "mysql": ["DROP TRIGGER tidy"],
        "postgresql": [f"DROP TRIGGER tidy ON {table}", "DROP FUNCTION tidy"],
    }
    with connection.cursor() as cursor:
        for statement in made[connection.vendor]:
            cursor.execute(statement)
        try:
            (place,) = tables.triggers("default")
        finally:
            for statement in dropped[connection.vendor]:
                cursor.execute(statement)
    assert place == Place("trigger", None, None, f"tidy on {table} in 'default'", "shop.Category")


def _rename(alias: str, old: str, new: str) -> None:
    with connections[alias].schema_editor() as editor:
        editor.alter_db_table(Outbox, old, new)


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_database_with_audited_models_and_no_outbox_is_listed():
    assert tables.outboxes(watched()) == ([], {})
    _rename("other", "audit_log_outbox", "elsewhere")
    try:
        found, unasked = tables.outboxes(watched())
    finally:
        _rename("other", "elsewhere", "audit_log_outbox")
    assert [place.kind for place in found] == ["outbox"]
    assert "in 'other', which has no outbox" in found[0].what
    assert not found[0].unseen
    assert unasked == {}
