"""Whose data a row is: by field, path or callable; users are their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth import get_user_model

from audit_log import registry
from audit_log.capture.plans import full_plan_of
from audit_log.events import Event
from audit_log.exceptions import ConfigurationError
from tests.shop.models import Category, Product, Review

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
    registry.conf.forget()


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
    assert event.subject == f"subject:{category.pk}"


def test_subject_is_a_name_or_a_callable():
    with pytest.raises(ConfigurationError, match="subject must name a field"):
        registry.register(Review, subject=7)  # type: ignore[arg-type]
