from __future__ import annotations

import datetime
import uuid
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import models
from django.test import override_settings
from django.test.utils import isolate_apps

from audit_log import registry
from audit_log.privacy.policies import (
    FieldPolicy,
    Policy,
    data_policy,
    decide,
    decide_data,
    field_policy,
    key_kind,
)

LABELS = ("shop.payment",)


@dataclass(frozen=True)
class Rules:
    open_fields: tuple[str, ...] = ()
    sealed_fields: tuple[str, ...] = ()
    mask_fields: tuple[str, ...] = ()
    exclude_fields: tuple[str, ...] = ()
    mask_keys: tuple[str, ...] = ()
    safe_keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Declared:
    open: frozenset[str] = field(default_factory=frozenset)
    sealed: frozenset[str] = field(default_factory=frozenset)
    masked: frozenset[str] = field(default_factory=frozenset)
    excluded: frozenset[str] = field(default_factory=frozenset)
    maskers: tuple[tuple[str, Any], ...] = ()


def named(name: str, kind: type[models.Field[Any, Any]] = models.TextField, **options: Any) -> Any:
    made = kind(**options)
    made.set_attributes_from_name(name)
    return made


def model(
    name: str, app: str, bases: tuple[type[models.Model], ...] = (models.Model,), **fields: Any
) -> type[models.Model]:
    meta = type("Meta", (), {"app_label": app})
    return type(name, bases, {"__module__": __name__, "Meta": meta, **fields})


def policy_of(made: Any, declared: Declared | None = None, **rules: tuple[str, ...]) -> FieldPolicy:
    return decide(made, LABELS, () if declared is None else (declared,), Rules(**rules))


@pytest.mark.parametrize(
    ("made", "policy"),
    [
        (named("amount", models.DecimalField), Policy.OPEN),
        (named("n", models.PositiveSmallIntegerField), Policy.OPEN),
        (named("ratio", models.FloatField), Policy.OPEN),
        (named("active", models.BooleanField), Policy.OPEN),
        (named("day", models.DateField), Policy.OPEN),
        (named("made", models.DateTimeField), Policy.OPEN),
        (named("hour", models.TimeField), Policy.OPEN),
        (named("span", models.DurationField), Policy.OPEN),
        (named("ref", models.UUIDField), Policy.OPEN),
        (named("state", models.CharField, choices=[("a", "A")]), Policy.OPEN),
        (named("state", models.CharField, choices=lambda: [("a", "A")]), Policy.OPEN),
        (named("code", models.CharField, primary_key=True), Policy.OPEN),
        (named("note", models.TextField), Policy.SEALED),
        (named("title", models.CharField), Policy.SEALED),
        (named("extra", models.JSONField), Policy.SEALED),
        (named("scan", models.FileField), Policy.SEALED),
        (named("origin", models.GenericIPAddressField), Policy.SEALED),
        (named("blob", models.BinaryField), Policy.SEALED),
        (named("odd", models.Field), Policy.SEALED),
    ],
)
def test_the_type_decides_when_nothing_else_does(made: Any, policy: Policy):
    assert policy_of(made) == FieldPolicy(policy, f"type:{type(made).__name__}")


def test_a_generated_field_is_what_it_generates():
    options: dict[str, Any] = {"expression": models.F("a"), "db_persist": True}
    number = named("total", models.GeneratedField, output_field=models.IntegerField(), **options)
    text = named("full", models.GeneratedField, output_field=models.TextField(), **options)
    assert policy_of(number).policy is Policy.OPEN
    assert policy_of(text).policy is Policy.SEALED


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("api_token", FieldPolicy(Policy.MASKED, "name:secret")),
        ("cvv", FieldPolicy(Policy.MASKED, "name:card_secret")),
        ("card_number", FieldPolicy(Policy.MASKED, "name:card", keep_last4=True)),
        ("iban", FieldPolicy(Policy.SEALED, "name:bank")),
        ("passport", FieldPolicy(Policy.SEALED, "name:identity")),
        ("diagnosis", FieldPolicy(Policy.SEALED, "name:health")),
        ("email", FieldPolicy(Policy.SEALED, "name:contact")),
    ],
)
@pytest.mark.parametrize("kind", [models.TextField, models.IntegerField, models.DateField])
def test_the_name_decides_before_the_type(
    name: str, expected: FieldPolicy, kind: type[models.Field[Any, Any]]
):
    assert policy_of(named(name, kind)) == expected


def test_a_settings_pattern_decides_before_the_name():
    made = named("token")
    assert policy_of(made, open_fields=("*.token",)) == FieldPolicy(
        Policy.OPEN, "setting:OPEN_FIELDS"
    )
    assert policy_of(made, sealed_fields=("Shop.Payment.Tok*",)).policy is Policy.SEALED
    assert policy_of(made, open_fields=("shop.refund.token",)).policy is Policy.MASKED


def test_the_strictest_settings_pattern_wins():
    every = ("*.note",)
    rules: dict[str, tuple[str, ...]] = {"open_fields": every}
    for setting, policy in (
        ("sealed_fields", Policy.SEALED),
        ("mask_fields", Policy.MASKED),
        ("exclude_fields", Policy.EXCLUDED),
    ):
        rules[setting] = every
        assert policy_of(named("note"), None, **rules).policy is policy


def test_the_models_own_options_decide_first():
    declared = Declared(open=frozenset({"token"}), masked=frozenset({"note", "card_number"}))
    assert policy_of(named("token"), declared, exclude_fields=("*",)) == FieldPolicy(
        Policy.OPEN, "model:open"
    )
    assert policy_of(named("note"), declared) == FieldPolicy(Policy.MASKED, "model:masked")
    assert policy_of(named("card_number"), declared).keep_last4


def test_key_lists_count_for_fields_too():
    assert policy_of(named("nickname"), mask_keys=("nickname",)) == FieldPolicy(
        Policy.MASKED, "setting:MASK_KEYS"
    )
    assert policy_of(named("pin", models.IntegerField), safe_keys=("pin",)).policy is Policy.OPEN


@isolate_apps("django.contrib.sessions")
def test_a_relation_is_open_unless_the_key_it_holds_tells_something():
    def to(target: Any, kind: Any = models.ForeignKey, **options: Any) -> Any:
        return kind(target, on_delete=models.CASCADE, related_name="+", **options)

    visit = model(
        "Visit",
        "sessions",
        user=to(User),
        users=models.ManyToManyField(User, related_name="+"),
        session=to(Session),
        visit=to("self"),
    )
    twin = model("Twin", "sessions", session=to(Session, models.OneToOneField, primary_key=True))
    through = model("Through", "sessions", twin=to(twin))

    policies = {f.name: policy_of(f) for f in (*visit._meta.fields, *visit._meta.many_to_many)}
    assert {name: made.policy for name, made in policies.items()} == {
        "id": Policy.OPEN,
        "user": Policy.OPEN,
        "users": Policy.OPEN,
        "visit": Policy.OPEN,
        "session": Policy.MASKED,
    }
    assert policy_of(through._meta.get_field("twin")).policy is Policy.MASKED
    own = model("Own", "sessions", up=to("self", models.OneToOneField, primary_key=True))
    assert policy_of(own._meta.get_field("up")).policy is Policy.OPEN
    assert key_kind(visit) is None
    assert key_kind(twin) == "secret"


def test_a_foreign_key_to_an_address_by_mail_holds_the_address():
    class Options:
        related_name = "+"

    target = named("email", models.EmailField)
    relation = named("customer", models.CharField)
    relation.remote_field = Options()
    relation.target_field = target
    assert policy_of(relation) == FieldPolicy(Policy.SEALED, "name:contact")


def test_djangos_user_is_treated_as_expected():
    """H1."""
    fields = [*User._meta.concrete_fields, *User._meta.many_to_many]
    policies = {field.name: field_policy(User, field).policy for field in fields}
    assert policies == {
        "id": Policy.OPEN,
        "password": Policy.MASKED,
        "last_login": Policy.OPEN,
        "is_superuser": Policy.OPEN,
        "username": Policy.SEALED,
        "first_name": Policy.SEALED,
        "last_name": Policy.SEALED,
        "email": Policy.SEALED,
        "is_staff": Policy.OPEN,
        "is_active": Policy.OPEN,
        "date_joined": Policy.OPEN,
        "groups": Policy.OPEN,
        "user_permissions": Policy.OPEN,
    }


def test_a_policy_is_found_once():
    username = User._meta.get_field("username")
    assert field_policy(User, username) is field_policy(User, username)


def test_a_policy_follows_the_settings_in_force():
    username = User._meta.get_field("username")
    assert field_policy(User, username).policy is Policy.SEALED
    with override_settings(AUDIT_LOG={"OPEN_FIELDS": ["auth.user.username"]}):
        assert field_policy(User, username).policy is Policy.OPEN
    assert field_policy(User, username).policy is Policy.SEALED


def test_a_policy_follows_the_registration(monkeypatch: pytest.MonkeyPatch):
    username = User._meta.get_field("username")
    options = registry.Options(excluded=frozenset({"username"}))
    assert field_policy(User, username).policy is Policy.SEALED
    monkeypatch.setattr(registry, "options_for", lambda model: options)
    assert field_policy(User, username) == FieldPolicy(Policy.EXCLUDED, "model:excluded")


@isolate_apps("django.contrib.auth")
def test_a_child_keeps_what_its_parent_declared(monkeypatch: pytest.MonkeyPatch):
    parent = model("Parent", "auth", note=models.TextField(), token=models.TextField())
    child = model("Child", "auth", (parent,))
    declared = {parent: registry.Options(masked=frozenset({"note"}))}
    monkeypatch.setattr(registry, "options_for", declared.get)
    assert field_policy(child, child._meta.get_field("note")).rule == "model:masked"
    with override_settings(AUDIT_LOG={"OPEN_FIELDS": ["auth.parent.token"]}):
        assert field_policy(child, child._meta.get_field("token")).policy is Policy.OPEN


def test_the_key_of_a_session_is_shown_as_a_fingerprint_unless_declared_safe():
    assert key_kind(User) is None
    assert key_kind(Session) == "secret"
    with override_settings(AUDIT_LOG={"SAFE_KEYS": ["session_key"]}):
        assert key_kind(Session) is None
    with override_settings(AUDIT_LOG={"MASK_FIELDS": ["auth.user.id"]}):
        assert key_kind(User) == "key"


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("password", "x", FieldPolicy(Policy.MASKED, "name:secret")),
        ("cardNumber", "x", FieldPolicy(Policy.MASKED, "name:card", keep_last4=True)),
        ("email", "x", FieldPolicy(Policy.MASKED, "name:contact")),
        ("iban", None, FieldPolicy(Policy.MASKED, "name:bank")),
        ("gateway", "x", FieldPolicy(Policy.SEALED, "type:str")),
        ("items", [1], FieldPolicy(Policy.SEALED, "type:list")),
        ("extra", {}, FieldPolicy(Policy.SEALED, "type:dict")),
        ("thing", object(), FieldPolicy(Policy.SEALED, "type:object")),
        ("count", 3, FieldPolicy(Policy.OPEN, "type:int")),
        ("ratio", 0.5, FieldPolicy(Policy.OPEN, "type:float")),
        ("ok", True, FieldPolicy(Policy.OPEN, "type:bool")),
        ("none", None, FieldPolicy(Policy.OPEN, "type:NoneType")),
        ("price", Decimal(1), FieldPolicy(Policy.OPEN, "type:Decimal")),
        ("day", datetime.date(2026, 1, 1), FieldPolicy(Policy.OPEN, "type:date")),
        ("ref", uuid.UUID(int=0), FieldPolicy(Policy.OPEN, "type:UUID")),
    ],
)
def test_data_follows_names_then_types(key: str, value: Any, expected: FieldPolicy):
    assert decide_data(key, value) == data_policy(key, value) == expected


def test_data_follows_the_projects_key_lists():
    with override_settings(AUDIT_LOG={"MASK_KEYS": ["gateway"], "SAFE_KEYS": ["email"]}):
        assert data_policy("gateway", 1).policy is Policy.MASKED
        assert data_policy("email", "x").policy is Policy.SEALED
