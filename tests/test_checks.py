"""Every system check by its id, with what it says to do."""

from __future__ import annotations

import base64
import sys
from hashlib import sha256
from types import SimpleNamespace

import pytest
from django.core import checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.test import override_settings

from audit_log import conf, registry
from audit_log.capture.callables import check_callables
from audit_log.checks import (
    check_archive,
    check_databases,
    check_fields,
    check_middleware,
    check_patterns,
    check_settings,
)
from audit_log.privacy.key_checks import check_keys, check_made_up_keys, check_wrapped_keys
from tests.shop.models import Category, Product, Tag

KEY = base64.b64encode(bytes(32)).decode()
OURS = "audit_log.middleware.AuditMiddleware"
OTHER = "django.middleware.common.CommonMiddleware"
CHECKS = (
    check_archive,
    check_settings,
    check_callables,
    check_fields,
    check_patterns,
    check_middleware,
    check_databases,
)


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


@pytest.mark.parametrize("key", sorted(conf.KEYS))
@pytest.mark.parametrize("value", [7.5, object()], ids=["number", "object"])
def test_wrong_type_of_any_setting_is_e001_and_named(key, value):
    """J5."""
    with override_settings(AUDIT_LOG={key: value}):
        (message,) = check_settings()
    assert message.id == "audit_log.E001"
    assert f'"{key}' in message.msg


@pytest.mark.parametrize(
    ("audit_log", "said"),
    [
        ({"TENANT": "tests.nowhere.tenant"}, "No module named"),
        ({"REQUEST_ID": "tests.settings.SECRET_KEY"}, "cannot be called"),
        ({"EXCLUDE_PATHS": ["/health", "favicon.ico"]}, "'favicon.ico'"),
        ({"TENANT": str, "EXCLUDE_PATHS": ["/x", bool]}, None),
        ({"REQUEST_ID": "builtins.id", "SERVIC": "x"}, None),  # which another check says
    ],
)
def test_dotted_path_that_leads_nowhere_is_e001(audit_log, said):
    """F12, G3, J5."""
    with override_settings(AUDIT_LOG=audit_log):
        found = check_callables()
    assert [message.id for message in found] == (["audit_log.E001"] if said else [])
    assert all(said in message.msg for message in found)


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


def _random(seed: bytes) -> str:
    return base64.b64encode(sha256(seed).digest()).decode()


def test_one_key_for_two_purposes_is_e010_for_deployment():
    keys = {"ENCRYPTION_KEYS": {"a": _random(b"a"), "b": _random(b"b")}, "INDEX_KEY": _random(b"b")}
    with override_settings(AUDIT_LOG=keys):
        (message,) = check_made_up_keys()
    assert (message.id, message.level) == ("audit_log.E010", checks.ERROR)
    assert "ENCRYPTION_KEYS.b" in message.msg
    assert "INDEX_KEY" in message.msg
    keys["INDEX_KEY"] = [_random(b"c"), _random(b"d")]
    with override_settings(AUDIT_LOG=keys):
        assert check_made_up_keys() == []


@pytest.mark.parametrize(
    "typed", [b"correct horse battery staple 123", bytes(32), b"\xff\x00" * 16]
)
def test_key_that_was_typed_is_w009_for_deployment(typed):
    with override_settings(AUDIT_LOG={"SIGNING_KEY": base64.b64encode(typed).decode()}):
        (message,) = check_made_up_keys()
    assert (message.id, message.level) == ("audit_log.W009", checks.WARNING)
    assert "SIGNING_KEY" in message.msg
    assert typed.decode("latin-1") not in message.msg


def test_wrapped_key_without_its_client_is_e009(monkeypatch):
    keys = {"ENCRYPTION_KEYS": {"a": "kms:AAAA", "b": _random(b"b")}}
    with override_settings(AUDIT_LOG=keys):
        assert check_wrapped_keys() == []
        monkeypatch.setattr("audit_log.privacy.key_checks.find_spec", lambda _name: None)
        (message,) = check_wrapped_keys()
    assert (message.id, message.level) == ("audit_log.E009", checks.ERROR)
    assert "[kms]" in (message.hint or "")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"ENCRYPTION_KEYS": {"a": "kms:?"}}, "begins with"),
        ({"ENCRYPTION_KEYS": {"a": "c2hvcnQ="}}, "must be 32 bytes in base64, not 5"),
        ({"INDEX_KEY": ["c2hvcnQ="]}, "INDEX_KEY.0"),
        ({"SIGNING_KEY": 7}, "SIGNING_KEY"),
    ],
    ids=["wrapped", "short", "list", "number"],
)
def test_key_that_is_none_is_e001(keys, said):
    with override_settings(AUDIT_LOG=keys):
        (message,) = check_settings()
    assert message.id == "audit_log.E001"
    assert said in message.msg


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


class _Keeps:
    """A project's router that keeps some of our tables out of some databases."""

    def __init__(self, *names: str, away_from: str) -> None:
        self.names = names
        self.alias = away_from

    def allow_migrate(self, db, app_label, model_name=None, **_):
        ours = app_label == "audit_log" and (not self.names or model_name in self.names)
        return False if ours and db == self.alias else None


APART = {"DATABASE": "other"}
ROUTER = "audit_log.router.AuditRouter"


@pytest.mark.parametrize(
    ("match", "said"),
    [
        ({"outcome": ["failure", "failed"]}, "outcome 'failed'"),
        ({"actor_type": "Admin"}, "actor_type 'Admin'"),
        ({"source": "sql*"}, "source 'sql*'"),
        ({"target_type": "shop.Customer"}, "target_type 'shop.Customer'"),
    ],
)
def test_rule_that_looks_for_what_no_record_has_is_e004(match, said):
    with override_settings(AUDIT_LOG={"ALERTS": [{"name": "mine", "match": match}]}):
        (message,) = check_patterns()
    assert (message.id, message.level) == ("audit_log.E004", checks.ERROR)
    assert f"mine: no record has the {said}" in message.msg


def test_rule_that_looks_for_what_there_can_be_is_clean():
    match = {"outcome": "f*", "actor_type": ["admin", "user"], "path": "/A*", "status": 500}
    with override_settings(AUDIT_LOG={"ALERTS": [{"name": "mine", "match": match}]}):
        assert check_patterns() == []


def test_ledger_apart_with_its_router_is_clean():
    """J5."""
    with override_settings(AUDIT_LOG=APART, DATABASE_ROUTERS=[ROUTER]):
        assert check_databases() == []


@pytest.mark.parametrize(
    ("routers", "said"),
    [
        ([], "is not in DATABASE_ROUTERS"),
        ([_Keeps(away_from="nowhere")], "is not in DATABASE_ROUTERS"),
        ([_Keeps("record", away_from="other"), ROUTER], "sends the tables of the log elsewhere"),
    ],
)
def test_ledger_apart_without_its_router_is_e007(routers, said):
    """J5."""
    with override_settings(AUDIT_LOG=APART, DATABASE_ROUTERS=routers):
        (message,) = check_databases()
    assert (message.id, message.level) == ("audit_log.E007", checks.ERROR)
    assert said in message.msg
    assert ROUTER in str(message.hint)


@pytest.mark.parametrize("audit_log", [{}, APART])
def test_database_whose_outbox_is_kept_away_is_w006(audit_log):
    """J5."""
    routers = [ROUTER, _Keeps(away_from="default")]
    with override_settings(AUDIT_LOG=audit_log, DATABASE_ROUTERS=routers):
        (message,) = check_databases()
    assert (message.id, message.level) == ("audit_log.W006", checks.WARNING)
    assert "'default'" in message.msg
    assert "'default'" in str(message.hint)


def test_database_without_audited_models_needs_no_outbox():
    elsewhere = SimpleNamespace(allow_migrate=lambda db, app_label, **_: db != "other")
    with override_settings(DATABASE_ROUTERS=[elsewhere]):
        assert check_databases() == []


@pytest.mark.parametrize(
    ("archive", "found"),
    [("s3://bucket/prefix", ["audit_log.E006"]), ("file:///var/archive", []), ("none", [])],
)
def test_a_bucket_without_boto3_is_e006(archive, found, monkeypatch):
    assert ids(check_archive()) == []
    with override_settings(AUDIT_LOG={"ARCHIVE": archive}):
        assert ids(check_archive()) == []
        monkeypatch.setitem(sys.modules, "boto3", None)  # as where it is not installed
        messages = check_archive()
    assert ids(messages) == found
    assert all("django-audit-ledger[s3]" in str(message.hint) for message in messages)
