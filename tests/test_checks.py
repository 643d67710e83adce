"""Every system check by its id, with what it says to do."""

from __future__ import annotations

import base64

import pytest
from django.core import checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.test import override_settings

from audit_log import registry
from audit_log.checks import (
    check_fields,
    check_keys,
    check_middleware,
    check_patterns,
    check_settings,
)
from tests.shop.models import Category, Product, Tag

KEY = base64.b64encode(bytes(32)).decode()
OURS = "audit_log.middleware.AuditMiddleware"
OTHER = "django.middleware.common.CommonMiddleware"
CHECKS = (check_settings, check_fields, check_patterns, check_middleware, check_keys)


def ids(found) -> list[str]:
    return [message.id for message in found]


@pytest.fixture
def registered():
    """Registers options for a model; undone after the test."""
    before = dict(registry._registered)

    def register(model, **options):
        registry.register(model, **options)

    yield register
    registry._registered.clear()
    registry._registered.update(before)
    registry._resolved.clear()


def test_these_settings_are_clean():
    """J5."""
    for check in CHECKS:
        assert [m.id for m in check() if m.id != "audit_log.W003"] == []


@pytest.mark.django_db(databases=["default", "other"])
def test_all_checks_are_registered_and_clean():
    """J5."""
    call_command("check", fail_level="WARNING")
    ours = [message.id for message in checks.run_checks(include_deployment_checks=True)]
    assert "audit_log.W003" in ours


@pytest.mark.parametrize(
    ("audit_log", "said"),
    [
        ({"SERVIC": "x"}, 'no key "SERVIC". Did you mean "SERVICE"?'),
        ({"ENABLED": "yes"}, "must be True or False"),
        ({"REQUESTS": "some"}, "'notable', 'all', 'off'"),
        ({"ENCRYPTION_KEYS": {"a": "short"}}, "ENCRYPTION_KEYS.a"),
        ({"SIGNING_KEY": base64.b64encode(b"x").decode()}, "32 bytes"),
        (["SERVICE"], "must be a dict"),
    ],
)
def test_wrong_setting_is_e001_and_named(audit_log, said):
    """J5."""
    with override_settings(AUDIT_LOG=audit_log):
        (message,) = check_settings()
        assert (message.id, message.level) == ("audit_log.E001", checks.ERROR)
        assert said in message.msg
        assert check_fields() == check_patterns() == check_keys() == []


def test_wrong_option_of_a_model_in_the_settings_is_e001_and_names_the_model():
    """A18."""
    with override_settings(AUDIT_LOG={"MODELS": [{"shop.Tag": {"opne": ["name"]}}]}):
        (message,) = check_fields()
    assert (message.id, message.obj) == ("audit_log.E001", Tag)
    assert "opne" in message.msg
    assert "shop.Tag" in message.msg


@pytest.mark.django_db(databases=["default", "other"])
def test_wrong_setting_fails_manage_py_check():
    """J5."""
    with override_settings(AUDIT_LOG={"SERVIC": "x"}), pytest.raises(SystemCheckError) as caught:
        call_command("check")
    assert "audit_log.E001" in str(caught.value)


@override_settings(USE_TZ=False)
def test_no_time_zones_is_e002():
    """L8."""
    (message,) = check_settings()
    assert (message.id, message.level) == ("audit_log.E002", checks.ERROR)
    assert "time zone" in message.msg
    assert "USE_TZ = True" in (message.hint or "")


@pytest.mark.parametrize("policy", ["open", "sealed", "masked", "excluded"])
def test_policy_for_a_field_that_is_not_there_is_e003(registered, policy):
    registered(Category, **{policy: ["nmae"]})
    (message,) = check_fields()
    assert (message.id, message.obj) == ("audit_log.E003", Category)
    assert "'nmae'" in message.msg
    assert "name" in (message.hint or "")


def test_subject_that_is_not_there_is_e003(registered):
    registered(Category, subject="owner")
    (message,) = check_fields()
    assert (message.id, message.obj) == ("audit_log.E003", Category)
    assert "'owner'" in message.msg


def test_fields_and_attributes_that_are_there_are_fine(registered):
    registered(Tag, open=["name"], subject="id")
    registered(Category, open=["product"], subject="product_set")
    registered(Product, masked=["category_id"])
    assert check_fields() == []


@pytest.mark.parametrize(
    ("key", "pattern", "what"),
    [
        ("MODELS", "shp.*", "model"),
        ("EXCLUDE_MODELS", "shop.Nothing", "model"),
        ("OPEN_FIELDS", "*.prize", "field"),
        ("SEALED_FIELDS", "shop.category.nothing", "field"),
        ("MASK_FIELDS", "nothing", "field"),
        ("EXCLUDE_FIELDS", "shop.category", "field"),
    ],
)
def test_pattern_that_matches_nothing_is_e004(key, pattern, what):
    with override_settings(AUDIT_LOG={key: [pattern]}):
        (message,) = check_patterns()
    assert (message.id, message.level) == ("audit_log.E004", checks.ERROR)
    assert key in message.msg
    assert repr(pattern) in message.msg
    assert f"no {what}" in message.msg


def test_every_pattern_that_matches_nothing_is_named():
    with override_settings(AUDIT_LOG={"MODELS": ["a.*", "shop.*"], "MASK_FIELDS": ["b.*"]}):
        assert ids(check_patterns()) == ["audit_log.E004"] * 2


def test_patterns_that_match_are_fine():
    options = {
        "MODELS": ["*", "shop.Category", {"shop.Tag": {"open": ["name"]}}],
        "EXCLUDE_MODELS": ["Shop.*"],
        "OPEN_FIELDS": ["*.price", "shop.Product.stock"],
    }
    with override_settings(AUDIT_LOG=options):
        assert check_patterns() == []


@override_settings(MIDDLEWARE=[OTHER])
def test_middleware_that_is_missing_is_w001():
    (message,) = check_middleware()
    assert (message.id, message.level) == ("audit_log.W001", checks.WARNING)
    assert OURS in (message.hint or "")


@override_settings(MIDDLEWARE=[OTHER, OURS])
def test_middleware_that_is_not_the_first_is_w002():
    (message,) = check_middleware()
    assert (message.id, message.level) == ("audit_log.W002", checks.WARNING)
    assert "top" in (message.hint or "")


@override_settings(AUDIT_LOG={"INDEX_KEY": KEY, "SIGNING_KEY": KEY})
def test_no_encryption_keys_is_e005_for_deployment():
    (message,) = check_keys()
    assert (message.id, message.level) == ("audit_log.E005", checks.ERROR)
    assert "SECRET_KEY" in message.msg


@pytest.mark.parametrize("missing", ["INDEX_KEY", "SIGNING_KEY"])
def test_no_key_of_its_own_is_w003_for_deployment(missing):
    keys = {"ENCRYPTION_KEYS": {"a": KEY}, "INDEX_KEY": KEY, "SIGNING_KEY": KEY}
    del keys[missing]
    with override_settings(AUDIT_LOG=keys):
        (message,) = check_keys()
    assert (message.id, message.level) == ("audit_log.W003", checks.WARNING)
    assert missing in message.msg


@override_settings(AUDIT_LOG={})
def test_keys_are_asked_for_at_deployment_only():
    plain = ids(checks.run_checks(tags=[checks.Tags.security]))
    deployed = ids(checks.run_checks(tags=[checks.Tags.security], include_deployment_checks=True))
    assert "audit_log.E005" not in plain
    assert "audit_log.E005" in deployed


def test_every_message_says_what_to_do(registered):
    registered(Category, open=["nothing"])
    broken = override_settings(
        AUDIT_LOG={"MODELS": ["nothing.*"]}, MIDDLEWARE=[OTHER, OURS], USE_TZ=False
    )
    with broken:
        found = [
            message
            for check in (
                check_settings,
                check_fields,
                check_patterns,
                check_middleware,
                check_keys,
            )
            for message in check()
        ]
    assert {message.id for message in found} == {
        "audit_log.E002",
        "audit_log.E003",
        "audit_log.E004",
        "audit_log.E005",
        "audit_log.W002",
        "audit_log.W003",
    }
    assert [message.id for message in found if not message.hint] == []
