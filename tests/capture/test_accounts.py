"""What happens to an account, said beside the changes of its row: docs/who.md."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group, Permission, User
from django.contrib.auth.tokens import default_token_generator
from django.db import connections, transaction
from django.test import Client, override_settings
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

import audit_log
from audit_log.events import Actor, Event, encode_event
from audit_log.models import Record
from audit_log.testing import capture_events, relay
from tests.capture.folding import folded, row_of
from tests.capture.statements import statements

ADMIN = Actor(type="admin", id="9", label="root")
NEW = "a much better password 7"
UPGRADING = [
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
    "django.contrib.auth.hashers.MD5PasswordHasher",
]


@pytest.fixture
def anna(db: None) -> User:
    return User.objects.create_user("anna", "anna@example.com", "correct horse")


@pytest.fixture
def editors(db: None) -> Group:
    group = Group.objects.create(name="Editors")
    group.permissions.set(Permission.objects.filter(codename="change_product"))
    return group


def _actions(events: list[Event]) -> list[str]:
    return [event.action for event in events if event.action != "request"]


def _data(event: Event) -> dict[str, Any]:
    assert event.data is not None
    return event.data


# --- passwords ---


def test_a_changed_password_is_said_beside_the_change_and_no_hash_is_anywhere(anna: User):
    with capture_events() as events, audit_log.acting(ADMIN):
        anna.set_password(NEW)
        anna.save()
    assert _actions(events) == ["update", "password.changed"]
    change, said = events
    assert said.data == {"usable": True, "change": str(change.id)}
    assert (said.source, said.outcome, said.changes) == ("auth", "success", None)
    assert (said.actor, said.target) == (ADMIN, change.target)
    everything = b"".join(map(encode_event, events))
    hashed = anna.password.rpartition("$")[2]
    assert hashed.encode() not in everything
    assert NEW.encode() not in everything


def test_a_password_made_unusable_says_so(anna: User):
    with capture_events() as events:
        anna.set_unusable_password()
        anna.save()
    assert _actions(events) == ["update", "password.changed"]
    assert _data(events[1])["usable"] is False


@override_settings(PASSWORD_HASHERS=UPGRADING)
def test_one_made_unusable_while_hashes_grow_stronger_is_changed_all_the_same(anna: User):
    with capture_events() as events:
        anna.set_unusable_password()
        anna.save()
    assert _actions(events) == ["update", "password.changed"]


def test_a_hash_that_is_assigned_is_a_changed_password(anna: User):
    anna = User.objects.get(pk=anna.pk)
    with capture_events() as events:
        anna.password = make_password(NEW)
        anna.save(update_fields=["password"])
    assert _actions(events) == ["update", "password.changed"]


@override_settings(PASSWORD_HASHERS=UPGRADING)
def test_the_same_password_under_a_stronger_hash_is_not_a_changed_one(client: Client, anna: User):
    """Nothing invented: Django hashes it anew at a log-in."""
    old = anna.password
    with capture_events() as events:
        assert client.login(username="anna", password="correct horse")
    assert User.objects.get(pk=anna.pk).password != old
    assert _actions(events) == ["update", "login"]


@override_settings(PASSWORD_HASHERS=UPGRADING)
def test_a_password_that_is_set_while_hashes_grow_stronger_is_a_changed_one(anna: User):
    anna.set_password(NEW)
    with capture_events() as events:
        anna.save()
    assert _actions(events) == ["update", "password.changed"]


def test_a_password_whose_old_value_is_not_known_may_be_the_same(anna: User):
    other = User(pk=anna.pk, password=make_password(NEW))
    with capture_events() as events:
        other.save(update_fields=["password"])
    assert [event.outcome for event in events] == ["success", "unknown"]


@pytest.mark.urls("tests.capture.account_urls")
def test_a_password_set_by_the_link_of_a_mail_is_a_reset(client: Client, anna: User):
    uid = urlsafe_base64_encode(force_bytes(anna.pk))
    token = default_token_generator.make_token(anna)
    page = client.get(f"/reset/{uid}/{token}/").headers["Location"]
    with capture_events() as events:
        response = client.post(page, {"new_password1": NEW, "new_password2": NEW})
    assert response.status_code == 302
    assert _actions(events) == ["update", "password.reset"]
    said = events[1]
    assert said.actor == Actor(type="anonymous")
    assert said.target is not None
    assert said.target.label == "anna"
    everything = b"".join(map(encode_event, events))
    assert token.encode() not in everything


@pytest.mark.urls("tests.capture.account_urls")
def test_a_password_changed_on_its_own_page_is_no_reset(client: Client, anna: User):
    client.force_login(anna)
    with capture_events() as events:
        client.post(
            "/password/",
            {"old_password": "correct horse", "new_password1": NEW, "new_password2": NEW},
        )
    assert "password.changed" in _actions(events)
    said = next(event for event in events if event.action == "password.changed")
    assert said.actor is not None
    assert said.actor.label == "anna"


# --- activation, staff, superusers ---


@pytest.mark.parametrize(
    ("field", "value", "action"),
    [
        ("is_active", False, "user.deactivated"),
        ("is_staff", True, "permission.granted"),
        ("is_superuser", True, "permission.granted"),
    ],
)
@pytest.mark.parametrize("way", ["save", "update", "bulk_update"])
def test_a_flag_of_a_user_is_said_beside_the_change(
    anna: User, field: str, value: bool, action: str, way: str
):
    setattr(anna, field, value)
    with capture_events() as events:
        if way == "save":
            anna.save()
        elif way == "update":
            User.objects.filter(pk=anna.pk).update(**{field: value})
        else:
            User.objects.bulk_update([anna], [field])
    assert _actions(events) == ["update", action]
    change, said = events
    assert change.changes == {field: [not value, value]}
    assert _data(said)["change"] == str(change.id)
    assert said.target == change.target


def test_a_password_that_a_query_set_writes_is_a_changed_one(anna: User):
    with capture_events() as events:
        User.objects.filter(pk=anna.pk).update(password=make_password(NEW))
    assert _actions(events) == ["update", "password.changed"]


def test_a_user_that_is_let_in_again_is_activated(anna: User):
    User.objects.filter(pk=anna.pk).update(is_active=False)
    anna.refresh_from_db()
    anna.is_active = True
    with capture_events() as events:
        anna.save()
    assert _actions(events) == ["update", "user.activated"]


def test_superuser_and_staff_are_sentences(anna: User):
    anna.is_superuser = anna.is_staff = True
    with capture_events() as events:
        anna.save()
    found = [_data(event) for event in events if event.action == "permission.granted"]
    assert sorted((data["field"], *data["sentences"]) for data in found) == [
        ("is_staff", "May sign in to the admin"),
        ("is_superuser", "Has every permission"),
    ]
    anna.is_superuser = False
    with capture_events() as events:
        anna.save()
    assert _actions(events) == ["update", "permission.revoked"]


def test_a_new_superuser_has_been_granted_everything_and_a_new_user_nothing(db: None):
    with capture_events() as events:
        User.objects.create_user("bert", password=NEW)
    assert _actions(events) == ["create"]
    with capture_events() as events:
        User.objects.create_superuser("root", password=NEW)
    assert _actions(events) == ["create", "permission.granted", "permission.granted"]


def test_other_fields_of_a_user_are_no_event_of_the_account(anna: User):
    anna.first_name = "Anna"
    with capture_events() as events:
        anna.save()
    assert _actions(events) == ["update"]


def test_a_flag_that_the_project_masks_is_not_said_otherwise(anna: User):
    with override_settings(AUDIT_LOG={"MASK_FIELDS": ["auth.user.is_active"]}):
        anna = User.objects.get(pk=anna.pk)
        anna.is_active = False
        with capture_events() as events:
            anna.save()
    assert _actions(events) == ["update"]


# --- groups and permissions ---

Change = Callable[[User, Group], object]


@pytest.mark.parametrize(
    ("change", "action"),
    [
        (lambda anna, editors: anna.groups.add(editors), "m2m.add"),
        (lambda anna, editors: editors.user_set.add(anna), "m2m.add"),
        (lambda anna, editors: anna.groups.set([editors]), "m2m.add"),
    ],
    ids=["add", "reverse", "set"],
)
def test_joining_a_group_grants_a_permission(
    anna: User, editors: Group, change: Change, action: str
):
    with capture_events() as events:
        change(anna, editors)
    assert _actions(events) == [action, "permission.granted"]
    plain, said = events
    assert said.data == {
        "field": "groups",
        "groups": [str(editors.pk)],
        "sentences": ["Member of Editors"],
        "change": str(plain.id),
    }
    assert said.sealed == ("data.sentences",)
    assert (said.target, said.affected) == (plain.target, 1)


@pytest.mark.parametrize(
    ("change", "action"),
    [
        (lambda anna, editors: anna.groups.remove(editors), "m2m.remove"),
        (lambda anna, editors: editors.user_set.remove(anna), "m2m.remove"),
        (lambda anna, editors: anna.groups.clear(), "m2m.clear"),
    ],
    ids=["remove", "reverse", "clear"],
)
def test_leaving_a_group_revokes_it(anna: User, editors: Group, change: Change, action: str):
    anna.groups.add(editors)
    with capture_events() as events:
        change(anna, editors)
    assert _actions(events) == [action, "permission.revoked"]
    assert _data(events[1])["sentences"] == ["Member of Editors"]


def test_a_group_that_is_deleted_revokes_its_memberships(anna: User, editors: Group):
    anna.groups.add(editors)
    with capture_events() as events:
        editors.delete()
    [said] = [event for event in events if event.action == "permission.revoked"]
    assert said.target is not None
    assert (said.target.label, len(_data(said)["groups"])) == ("anna", 1)


def test_a_user_who_is_deleted_is_not_said_to_lose_permissions(anna: User, editors: Group):
    anna.groups.add(editors)
    with capture_events() as events:
        anna.delete()
    assert "m2m.remove" in _actions(events)
    assert "permission.revoked" not in _actions(events)


@pytest.mark.parametrize("of", ["user", "group"])
def test_permissions_are_codenames_and_sentences(anna: User, editors: Group, of: str):
    found = Permission.objects.filter(codename__in=["add_product", "delete_product"])
    manager = anna.user_permissions if of == "user" else editors.permissions
    with capture_events() as events:
        manager.add(*found)
    assert _actions(events) == ["m2m.add", "permission.granted"]
    data = _data(events[1])
    assert data["permissions"] == ["shop.add_product", "shop.delete_product"]
    assert data["sentences"] == ["Can add product", "Can delete product"]
    assert events[1].sealed == ()


def test_the_groups_of_something_else_are_no_permission(anna: User, db: None):
    from tests.shop.models import Category, Product, Tag

    product = Product.objects.create(name="p", category=Category.objects.create(name="c"))
    with capture_events() as events:
        product.tags.add(Tag.objects.create(name="t"))
    assert "permission.granted" not in _actions(events)


@pytest.mark.django_db(transaction=True)
def test_a_change_of_permissions_costs_two_reads_however_many():
    """E3: the members before, as of any many-to-many field, and what they are called."""
    anna = User.objects.create_user("anna")
    one, *many = Permission.objects.all()[:21]
    counts = []
    for members in ([one], many):
        with statements() as sent:
            anna.user_permissions.add(*members)
        counts.append(sum(sql.startswith("SELECT") for sql in sent))
    own = int(not connections["default"].features.supports_ignore_conflicts)
    assert counts == [2 + own, 2 + own]


# --- with the change, or not at all ---


@pytest.mark.django_db(transaction=True)
def test_they_fall_with_the_change():
    anna = User.objects.create_user("anna")
    anna.is_active = False
    with capture_events() as events, transaction.atomic():
        anna.save()
        anna.groups.add(Group.objects.create(name="g"))
        transaction.set_rollback(True)
    assert events == []


@pytest.mark.django_db(transaction=True)
def test_a_save_of_a_user_sends_no_statement_more():
    anna = User.objects.create_user("anna")
    with audit_log.suspended():
        pass
    anna.first_name = "Anna"
    with transaction.atomic(), statements() as plain:
        anna.save()
    anna.is_active = False
    anna.set_password(NEW)
    with transaction.atomic(), statements() as both:
        anna.save()
    assert len(both) == len(plain)


@pytest.mark.django_db(transaction=True)
def test_the_changes_fold_into_the_row_all_the_same():
    anna = User.objects.create_user("anna", password="first")
    anna.set_password(NEW)
    anna.is_staff = True
    anna.save()
    User.objects.filter(pk=anna.pk).update(is_active=False)
    relay()
    assert folded(anna) == row_of(anna)
    record = Record.objects.get(action="user.deactivated")
    assert (record.target_type, record.target_id) == ("auth.user", str(anna.pk))
