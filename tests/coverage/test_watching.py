"""How each model is watched, and why."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.test import override_settings

from audit_log import registry
from audit_log.capture.plans import plan_of
from audit_log.coverage.watching import KINDS, STATES, Watched, watched
from audit_log.privacy.policies import Policy


def look(label: str) -> Watched:
    return next(each for each in watched() if each.label == label)


def test_every_model_is_there_once():
    labels = [each.label for each in watched()]
    known = apps.get_models(include_auto_created=True)
    assert labels == sorted(model._meta.label for model in known)
    assert {each.kind for each in watched()} <= set(KINDS)
    assert {each.state for each in watched()} <= set(STATES)


@pytest.mark.parametrize("enabled", [True, False])
def test_audited_are_those_that_are_captured(enabled):
    with override_settings(AUDIT_LOG={"ENABLED": enabled, "EXCLUDE_MODELS": ["shop.w*"]}):
        found = [each for each in watched() if each.kind in {"concrete", "proxy"}]
        assert {each.label for each in found if each.state == "audited"} == {
            each.label for each in found if plan_of(each.model) is not None
        }


@pytest.mark.parametrize(
    ("label", "kind", "state", "rule", "named", "through"),
    [
        ("shop.Product", "concrete", "audited", "MODELS", "*", None),
        ("shop.CheapProduct", "proxy", "audited", "MODELS", "*", "shop.Product"),
        ("shop.Product_tags", "through", "audited", "through", None, "shop.Product.tags"),
        ("shop.Membership", "concrete", "audited", "MODELS", "*", None),
        ("shop.Person", "concrete", "audited", "register", "shop.Person", None),
        ("shop.Registered", "concrete", "audited", "register", "shop._Registered", None),
        ("shop.Unlisted", "concrete", "excluded", "unregister", "shop.Unlisted", None),
        ("shop.Unwatched_tags", "through", "excluded", "through", None, "shop.Unwatched.tags"),
        ("sessions.Session", "concrete", "bookkeeping", "bookkeeping", "sessions.*", None),
        ("audit_log.Record", "concrete", "own", "bookkeeping", "audit_log.*", None),
    ],
)
def test_state_says_what_and_rule_says_why(label, kind, state, rule, named, through):
    found = look(label)
    assert (found.kind, found.state, found.rule, found.named, found.through) == (
        *(kind, state, rule, named, through),
    )
    assert not found.unwatched


@override_settings(
    AUDIT_LOG={
        "MODELS": ["shop.T*", {"shop.Category": {"open": ["name"]}}],
        "EXCLUDE_MODELS": ["shop.thing", "shop.member"],
    }
)
def test_settings_are_named_by_their_patterns():
    tag, category, thing = look("shop.Tag"), look("shop.Category"), look("shop.Thing")
    assert (tag.state, tag.rule, tag.named) == ("audited", "MODELS", "shop.T*")
    assert (category.state, category.named) == ("audited", "shop.category")
    assert [field.rule for field in category.fields if field.name == "name"] == ["model:open"]
    assert (thing.state, thing.rule, thing.named) == ("excluded", "EXCLUDE_MODELS", "shop.thing")
    assert look("shop.Member").state == "excluded"
    product = look("shop.Product")
    assert (product.state, product.rule, product.named) == ("unwatched", "MODELS", None)
    assert product.unwatched
    assert not look("shop.CheapProduct").unwatched
    assert not look("shop.Product_tags").unwatched
    assert look("sessions.Session").unwatched


@override_settings(AUDIT_LOG={"ENABLED": False, "EXCLUDE_MODELS": ["shop.thing"]})
def test_switched_off_nothing_is_watched():
    assert (look("shop.Product").state, look("shop.Product").rule) == ("unwatched", "ENABLED")
    assert look("shop.Product").fields == ()
    assert look("shop.Product").unwatched
    assert look("shop.Thing").state == "excluded"
    assert look("shop.Unlisted").state == "excluded"


def test_decision_is_what_is_audited():
    for model in apps.get_models(include_auto_created=True):
        assert registry.decide(model).options == registry.options_for(model)


def test_fields_are_as_they_are_captured():
    for each in watched():
        plan = plan_of(each.model)
        if each.state != "audited" or each.through is not None or plan is None:
            continue
        columns = {f.name for f in each.model._meta.concrete_fields}
        found = {f.name: f for f in each.fields}
        assert found.keys() >= columns
        captured = {item.name: (str(item.policy), item.rule) for item in plan.fields}
        looked_at = {
            name: (field.policy, field.rule)
            for name, field in found.items()
            if name in columns and field.policy not in {"key", Policy.EXCLUDED}
        }
        assert looked_at == captured, each.label


def test_each_policy_says_by_which_rule():
    fields = {field.name: (field.policy, field.rule) for field in look("shop.Person").fields}
    assert fields == {
        "id": ("key", "target"),
        "nickname": ("open", "model:open"),
        "full_name": ("sealed", "name:contact"),
        "email": ("sealed", "name:contact"),
        "password": ("masked", "name:secret"),
        "api_token": ("masked", "name:secret"),
        "card_number": ("masked", "name:card"),
        "code_word": ("masked", "model:masked"),
        "noise": ("excluded", "model:excluded"),
        "notes": ("sealed", "type:TextField"),
        "extra": ("sealed", "type:JSONField"),
    }


@override_settings(AUDIT_LOG={"MASK_FIELDS": ["*.name"], "EXCLUDE_FIELDS": ["shop.club.members"]})
def test_settings_of_fields_are_rules_too():
    fields = {field.name: (field.policy, field.rule) for field in look("shop.Club").fields}
    assert fields["name"] == ("masked", "setting:MASK_FIELDS")
    assert fields["members"] == ("open", "members:labels sealed")  # no policy takes members away


def test_keys_and_generated_fields_say_what_they_are():
    assert [f.policy for f in look("shop.Shelf").fields if f.name in {"room", "number"}] == [
        *("key", "key"),
    ]
    doubled = next(f for f in look("shop.Values").fields if f.name == "doubled")
    assert (doubled.policy, doubled.rule) == ("excluded", "generated")
    link = next(f for f in look("shop.Restaurant").fields if f.name == "place_ptr")
    assert link.policy == "key"
