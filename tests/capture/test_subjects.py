"""Whose data a row is: by field, path or callable; users are their own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.db import models
from django.test.utils import isolate_apps
from django.utils.functional import SimpleLazyObject

import audit_log
from audit_log import conf, registry
from audit_log.capture.plans import full_plan_of
from audit_log.events import Event, Target
from audit_log.exceptions import ConfigurationError
from audit_log.reading import persons
from audit_log.recording import subjects
from audit_log.recording.imported import imported as imported_event
from tests.shop.models import Category, Person, Place, Product, Restaurant, Review, Tag

pytestmark = pytest.mark.django_db


@pytest.fixture
def subject_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Register a model with a subject, and undo it."""
    registered: list[Any] = []

    def register(model: Any, subject: Any) -> Callable[[Any], str | None]:
        registry.register(model, subject=subject)
        registered.append(model)
        return lambda instance: full_plan_of(model).subject_of(instance)  # type: ignore[union-attr]

    yield register
    for model in registered:
        registry._registered.pop(model, None)
    conf.forget()


def test_users_are_their_own_subject(audit_events: list[Event]):
    user = get_user_model().objects.create(username="ann")
    user.email = "ann@example.com"
    user.save()
    created, updated = (e for e in audit_events if e.target and e.target.type == "auth.user")
    assert created.subject == updated.subject == f"auth.user:{user.pk}"


def test_field_path_and_callable(subject_of: Any, django_assert_num_queries: Any):
    category = Category.objects.create(name="c")
    product = Product.objects.create(name="p", category=category)
    assert subject_of(Product, "category")(product) == f"shop.category:{category.pk}"
    assert subject_of(Product, "category.name")(product) == "subject:c"
    assert subject_of(Product, lambda row: row.category)(product) == f"shop.category:{category.pk}"
    assert subject_of(Product, lambda row: None)(product) is None
    assert subject_of(Product, "name")(product) == "subject:p"
    fresh = Product.objects.get(pk=product.pk)
    with django_assert_num_queries(0):
        assert subject_of(Product, "category_id")(fresh) == f"shop.category:{category.pk}"


def test_subject_that_cannot_be_told_loses_nothing(subject_of: Any, audit_events: list[Event]):
    def broken(row: Any) -> Any:
        raise RuntimeError("broken")

    subject_of(Category, broken)
    Category.objects.create(name="c")
    (event,) = (e for e in audit_events if e.target and e.target.type == "shop.category")
    assert event.subject is None


def test_events_carry_the_subject_of_a_path(subject_of: Any, audit_events: list[Event]):
    subject_of(Product, "category.pk")
    category = Category.objects.create(name="c")
    Product.objects.create(name="p", category=category)
    (event,) = (e for e in audit_events if e.target and e.target.type == "shop.product")
    assert event.subject == f"shop.category:{category.pk}"  # who is erased by that name


def test_one_person_has_one_name(subject_of: Any, django_assert_num_queries: Any):
    """Whichever path, proxy or table leads to them, erasing them finds what is theirs."""
    category = Category.objects.create(name="c")
    product = Product.objects.get(pk=Product.objects.create(name="p", category=category).pk)
    for rule in ("category_id", "category.pk", "category.id", "category", lambda p: p.category):
        assert subject_of(Product, rule)(product) == f"shop.category:{category.pk}"
    review = Review(product=product)
    with django_assert_num_queries(0):
        assert subject_of(Review, "product.category_id")(review) == f"shop.category:{category.pk}"
    subject_of(Place, "pk")
    subject_of(Restaurant, "pk")
    restaurant = Restaurant(pk=5)
    assert subjects.subject_of(Restaurant).of(restaurant) == "shop.place:5"  # type: ignore[union-attr]
    assert persons.named("shop.Restaurant:5") == persons.named("shop.place:5") == "shop.place:5"
    assert persons.named("shop.CheapProduct:5") == "shop.product:5"
    lazy = SimpleLazyObject(lambda: category)
    assert subject_of(Product, lambda p: lazy)(product) == f"shop.category:{category.pk}"


def test_child_table_is_its_parents_person(subject_of: Any):
    subject_of(Place, "pk")
    assert full_plan_of(Restaurant).subject_of(Restaurant(pk=5)) == "shop.place:5"  # type: ignore[union-attr]


@isolate_apps("tests.shop")
def test_users_in_proxies_and_child_tables_are_users():
    class Customer(User):
        phone = models.CharField(max_length=20)

        class Meta:
            app_label = "shop"

    class Admin(User):
        class Meta:
            app_label = "shop"
            proxy = True

    for model in (Customer, Admin):
        found = subjects.subject_of(model)
        assert found is not None
        assert found.of(model(pk=7)) == "auth.user:7"
        assert subjects.person_type(model) == "auth.user"


@isolate_apps("tests.shop")
def test_foreign_key_to_another_column_leads_to_the_row(subject_of: Any):
    class Note(models.Model):  # noqa: DJ008
        country = models.ForeignKey(Person, models.CASCADE, to_field="id")
        category = models.ForeignKey(Tag, models.CASCADE, to_field="name")

        class Meta:
            app_label = "shop"

    tag = Tag(pk=3, name="x")
    assert subjects.Subject(Note, "category").of(Note(category=tag)) == "shop.tag:3"
    assert subjects.Subject(Note, "country_id").of(Note(country_id=4)) == "shop.person:4"


def test_what_is_recorded_about_a_person_is_theirs(audit_events: list[Event]):
    """By record(), by an import, by a row of theirs or by what stands for it."""
    ann = get_user_model().objects.create(username="ann")
    carl = Person.objects.create(nickname="carl")
    then = datetime.now(UTC) - timedelta(days=1)
    past = {"action": "old.event", "occurred_at": then}
    mapping = {"type": "Auth.User".lower(), "id": str(ann.pk), "label": "ann"}
    audit_log.record("a.note", target=ann, data={"text": "about Ann"})
    audit_log.record("a.note", target=Target("auth.user", str(ann.pk), "ann"))
    audit_log.record("a.note", target=carl)
    audit_log.record("a.note", target=Category(pk=1, name="c"))
    audit_log.record("a.note", target=Target("no.such", "1"))
    imported = [imported_event({**past, "target": target}) for target in (ann, mapping)]
    said = imported_event({**past, "target": ann, "subject": "subject:other"})
    notes = [event.subject for event in audit_events if event.action == "a.note"]
    user, person = f"auth.user:{ann.pk}", f"shop.person:{carl.pk}"
    assert notes == [user, user, person, None, None]
    assert [event.subject for event in imported] == [user, user]
    assert said.subject == "subject:other"


def test_subject_is_a_name_or_a_callable():
    with pytest.raises(ConfigurationError, match="subject must name a field"):
        registry.register(Review, subject=7)  # type: ignore[arg-type]
