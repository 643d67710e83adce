"""What capture masks never leaves the process, by whatever way a value could."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

import audit_log
from audit_log.events import Event, encode_event
from audit_log.models import Outbox, Record
from audit_log.privacy.encryption import key_ring
from audit_log.reading.contents import contents
from audit_log.recording import outbox
from audit_log.testing import relay
from tests.shop.models import Person, Product, Tag

Only = Callable[..., list[Event]]
SECRET = "hunter2-hunter2"
CARD = "4111111111111111"


def _changes(event: Event) -> dict[str, list[Any]]:
    assert event.changes is not None
    return event.changes


def _person(**values: Any) -> Person:
    return Person.objects.create(nickname="nick", **values)


def test_a_creation_masks_secrets_and_keeps_null(events: list[Event]):
    """H1: the snapshot."""
    _person(password=SECRET, api_token=None, card_number=CARD, code_word=SECRET, noise=SECRET)
    changes = _changes(events[0])
    assert changes["password"] == [None, "[MASKED]"]
    assert changes["code_word"] == [None, "[MASKED]"]
    assert changes["card_number"] == [None, "**** **** **** 1111"]
    assert "api_token" not in changes
    assert "noise" not in changes
    assert SECRET.encode() not in encode_event(events[0])


def test_an_update_masks_old_and_new_and_is_still_an_event(events: list[Event]):
    """H1, H2"""
    person = _person(password=SECRET)
    person.password = "x"
    person.api_token = "another"
    person.save()
    event = events[-1]
    assert event.action == "update"
    assert _changes(event) == {
        "password": ["[MASKED]", "[MASKED]"],
        "api_token": [None, "[MASKED]"],
    }


def test_a_masked_field_that_becomes_null_says_so(events: list[Event]):
    """H1: null stays null."""
    person = _person(api_token=SECRET)
    person.api_token = None
    person.save()
    assert _changes(events[-1]) == {"api_token": ["[MASKED]", None]}


def test_a_deletion_masks_what_was_there(events: list[Event]):
    """H1"""
    _person(password=SECRET, card_number=CARD).delete()
    assert _changes(events[-1])["password"] == ["[MASKED]", None]
    assert SECRET.encode() not in encode_event(events[-1])
    assert CARD.encode() not in encode_event(events[-1])


def test_the_label_of_the_target_does_not_say_a_masked_value(events: list[Event]):
    """H1: `__str__` of the model prints the password."""
    person = _person(password=SECRET)
    assert SECRET in str(person)
    person.delete()
    for event in events:
        assert event.target is not None
        assert event.target.label == "nick [MASKED]"


def test_the_old_value_is_not_in_the_label_either(events: list[Event]):
    """H1"""
    person = _person(password=SECRET)
    Person.objects.get(pk=person.pk)
    person.password = "other-other"
    person.save()
    assert SECRET.encode() not in encode_event(events[-1])
    assert b"other-other" not in encode_event(events[-1])


def test_json_fields_are_masked_at_any_depth_and_in_lists(events: list[Event]):
    """H1: any letter case."""
    person = _person(extra={"a": [{"Api_Key": SECRET}], "PASSWORD": SECRET, "ok": 1})
    person.extra = {"a": {"b": {"sEcReT": SECRET}}, "token": None, "n": '{"pin": "1234"}'}
    person.save()
    assert _changes(events[-1])["extra"] == [
        {"a": [{"Api_Key": "[MASKED]"}], "PASSWORD": "[MASKED]", "ok": 1},
        {"a": {"b": {"sEcReT": "[MASKED]"}}, "token": None, "n": '{"pin": "[MASKED]"}'},
    ]
    assert SECRET.encode() not in b"".join(map(encode_event, events))


@pytest.mark.parametrize("value", ["x", 7, 7.5, True, ["y"], {"a": "y"}, b"z"])
def test_short_values_and_those_that_are_no_text_are_hidden_whole(events: list[Event], value: Any):
    """H1"""
    audit_log.record("tested", data={"password": value})
    assert events[0].data == {"password": "[MASKED]"}


def test_the_labels_of_many_to_many_members_are_masked_by_the_fields_name(events: list[Event]):
    """H1: and what a label says is sealed in any case."""
    product = Product.objects.create(name="thing")
    product.tags.add(Tag.objects.create(name="Bearer abcdefghijklmnop1234567890abcdefghij"))
    relay()
    record = Record.objects.get(action="m2m.add")
    assert "abcdefghijklmnop" not in str(contents(record))
    assert "labels" not in (record.data or {})


def test_a_password_that_changes_is_an_event_of_the_user(client: Client, anna: Any, only: Only):
    """H2: the hash is masked as well."""
    anna.set_password("new-new-new")
    anna.save()
    [event] = only("update")
    assert _changes(event) == {"password": ["[MASKED]", "[MASKED]"]}
    assert b"md5$" not in encode_event(event)


@pytest.mark.django_db(transaction=True)
def test_the_outbox_holds_nothing_clear(client: Client):
    """H3"""
    _person(password=SECRET, notes="private words", full_name="Nadja Quist")
    payloads = [bytes(row.payload) for row in Outbox.objects.all()]
    assert payloads
    for payload in payloads:
        for text in (SECRET, "private words", "Quist", "nick"):
            assert text.encode() not in payload
        opened = key_ring().decrypt(outbox.PURPOSE, payload)
        assert SECRET.encode() not in opened
        assert b"Quist" in opened  # sealed by the relay
    relay()


def test_sealed_fields_are_sealed_and_open_ones_open(db: None):
    """H1"""
    _person(full_name="Nadja Quist", email="n@example.com", notes="private words")
    relay()
    record = Record.objects.get(action="create")
    assert record.changes is not None
    assert record.changes["nickname"] == [None, "nick"]
    assert not {"full_name", "email", "notes", "extra", "noise"} & set(record.changes)
    opened = contents(record)["changes"]
    assert opened["full_name"] == [None, "Nadja Quist"]
    assert opened["email"] == [None, "n@example.com"]
    assert opened["notes"] == [None, "private words"]
