"""Which models are audited."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.models import Session
from django.db.migrations.recorder import MigrationRecorder
from django.db.migrations.state import ModelState, ProjectState
from django.test import override_settings

import audit_log
from audit_log import registry
from audit_log.exceptions import ConfigurationError
from audit_log.models import Outbox, Record
from tests.shop.models import CheapProduct, Person, Product, Unlisted


@pytest.mark.parametrize("model", [User, Group, Product, Person])
def test_all_models_are_audited_by_default(model: type) -> None:
    assert registry.options_for(model) is not None


@pytest.mark.parametrize(
    "model", [Record, Outbox, Session, ContentType, LogEntry, MigrationRecorder.Migration]
)
def test_bookkeeping_is_never_audited(model: type) -> None:
    """A15."""
    assert registry.options_for(model) is None


def test_an_unregistered_model_is_not_audited_whatever_the_settings_say() -> None:
    with override_settings(AUDIT_LOG={"MODELS": ["shop.Unlisted"]}):
        assert registry.options_for(Unlisted) is None


def test_a_proxy_is_its_model() -> None:
    assert registry.options_for(CheapProduct) == registry.options_for(Product)


def test_a_table_that_fields_make_by_themselves_is_not_audited_as_a_model() -> None:
    assert registry.options_for(Product.tags.through) is None


def test_a_historical_model_of_a_migration_is_not_audited() -> None:
    state = ProjectState()
    state.add_model(ModelState.from_model(Product))
    state.add_model(ModelState.from_model(Product._meta.get_field("category").related_model))
    state.add_model(ModelState.from_model(Product._meta.get_field("tags").related_model))
    assert registry.options_for(state.apps.get_model("shop", "Product")) is None


@override_settings(AUDIT_LOG={"MODELS": ["shop.*"]})
def test_patterns_choose_models() -> None:
    assert registry.options_for(Product) is not None
    assert registry.options_for(User) is None


@override_settings(AUDIT_LOG={"EXCLUDE_MODELS": ["auth.*"]})
def test_patterns_exclude_models() -> None:
    assert registry.options_for(Product) is not None
    assert registry.options_for(User) is None


@override_settings(AUDIT_LOG={"MODELS": ["*", {"auth.User": {"open": ["username"]}}]})
def test_options_may_come_from_the_settings() -> None:
    options = registry.options_for(User)
    assert options is not None
    assert options.open == {"username"}


@override_settings(AUDIT_LOG={"MODELS": ["*", {"auth.User": {"opened": ["username"]}}]})
def test_an_unknown_option_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="no option opened"):
        registry.options_for(User)


def test_an_unknown_before_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="one of loaded, database"):
        audit_log.register(Unlisted, before="later")
    assert registry.options_for(Unlisted) is None
