from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

import audit_log
from audit_log import conf, registry, testing
from audit_log.capture import baseline
from audit_log.capture.fields import plan_field
from audit_log.events import Event, encode_event
from audit_log.exceptions import ConfigurationError
from audit_log.models import Outbox, Record
from audit_log.privacy import maskers
from audit_log.privacy.maskers import MAX_MASK, shown
from audit_log.privacy.policies import Policy, field_policy
from audit_log.privacy.redaction import MASK
from tests.shop.models import Person, Product, Tag

SECRET = "hunter2-hunter2"


def fails(value: Any) -> str:
    raise RuntimeError(value)


def last_two(value: Any) -> str:
    return f"…{str(value)[-2:]}"


@pytest.fixture(autouse=True)
def _unwarned() -> None:
    maskers._warned.clear()


@pytest.fixture
def asking() -> Iterator[Callable[..., None]]:
    """Registers options for a model; undone after the test."""
    held = dict(registry._registered)
    yield registry.register
    registry._registered.clear()
    registry._registered.update(held)
    conf.forget()


@pytest.fixture
def events(db: None) -> Iterator[list[Event]]:
    with testing.capture_events() as captured:
        yield captured


def changes(event: Event) -> dict[str, list[Any]]:
    assert event.changes is not None
    return event.changes


@pytest.mark.parametrize(
    ("value", "masker", "expected"),
    [
        (SECRET, last_two, "…r2"),
        (4711, last_two, "…11"),
        (["a", {"b": 1}], lambda value: f"{len(value)} items", "2 items"),
        (SECRET, lambda _: "x" * 999, "x" * MAX_MASK),
        (SECRET, lambda _: "", ""),
        (SECRET, lambda _: "a\0\ud800", "a\ufffd?"),
        ("7", lambda _: "one of 70", "one of 70"),
        (SECRET, lambda value: value[:4] + "…", "hunt…"),
    ],
    ids=range(8),
)
def test_what_a_masker_makes_stands_for_the_value(value: Any, masker: Any, expected: str):
    assert shown(value, "x", masker=masker) == expected


@pytest.mark.parametrize(
    "masker",
    [
        fails,
        lambda _: None,
        lambda _: 7,
        lambda value: value,
        lambda value: f"<{value.upper()} >",
        lambda value: value.encode(),
    ],
    ids=["raises", "none", "number", "value", "value in other letters", "bytes"],
)
def test_a_masker_that_fails_gives_the_plain_mask_and_one_warning(
    masker: Any, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.DEBUG):
        for _ in range(3):
            assert shown(SECRET, "changes.code", masker=masker) == MASK
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "changes.code" in caplog.text
    assert SECRET not in caplog.text.lower()


@pytest.mark.parametrize("value", ["7", "abc"])
def test_a_short_value_alone_is_not_shown(value: str):
    assert shown(value, "x", masker=lambda each: f" {each} ") == MASK


def test_a_long_value_is_not_shown_by_its_beginning():
    assert shown("y" * 500, "x", masker=lambda each: each) == MASK


def test_null_stays_null_and_no_masker_is_asked():
    assert shown(None, "x", masker=fails) is None


def test_options_with_maskers_are_values():
    def options() -> registry.Options:
        return registry._options({"masked": {"b": last_two, "a": None, "c": fails}})

    assert options() == options()
    assert hash(options()) == hash(options())
    assert options().masked == {"a", "b", "c"}
    assert dict(options().maskers) == {"b": last_two, "c": fails}
    assert registry._options({"masked": ["a"]}).maskers == ()


@pytest.mark.parametrize("masker", ["last_two", 7, ["x"]], ids=["text", "number", "list"])
def test_a_masker_that_cannot_be_called_is_refused_by_name(masker: Any):
    with pytest.raises(ConfigurationError, match="'code_word'"):
        registry._options({"masked": {"code_word": masker}})


def test_the_field_of_a_masker_is_masked_and_others_have_none(asking: Callable[..., None]):
    asking(Person, open=["nickname"], masked={"code_word": last_two, "card_number": None})
    named = {field.name: field_policy(Person, field) for field in Person._meta.concrete_fields}
    assert (named["code_word"].policy, named["code_word"].masker) == (Policy.MASKED, last_two)
    assert not named["code_word"].keep_last4
    assert (named["card_number"].masker, named["card_number"].keep_last4) == (None, True)
    assert [name for name, policy in named.items() if policy.masker] == ["code_word"]


def test_a_card_number_with_a_masker_shows_no_more_than_that(asking: Callable[..., None]):
    asking(Person, masked={"card_number": fails})
    field: Any = Person._meta.get_field("card_number")
    assert plan_field(Person, field).guard("4111111111111111")[0] == MASK


def test_it_stands_in_creations_updates_deletions_and_bulk_writes(
    asking: Callable[..., None], events: list[Event]
):
    asking(Person, open=["nickname"], masked={"code_word": last_two})
    person = Person.objects.create(nickname="n", code_word=SECRET)
    person.code_word = "other-other-er"
    person.save()
    Person.objects.update(code_word="bulk-bulk-lk")
    Person.objects.get().delete()
    assert [changes(event)["code_word"] for event in events] == [
        [None, "…r2"],
        ["…r2", "…er"],
        ["…er", "…lk"],
        ["…lk", None],
    ]
    assert SECRET.encode() not in b"".join(map(encode_event, events))


def test_two_values_with_one_mask_are_still_a_change(
    asking: Callable[..., None], events: list[Event]
):
    asking(Person, masked={"code_word": lambda _: "same"})
    person = Person.objects.create(nickname="n", code_word="one")
    person.code_word = "two"
    person.save()
    assert changes(events[-1]) == {"code_word": ["same", "same"]}


def test_it_stands_in_labels(asking: Callable[..., None], events: list[Event]):
    """`__str__` of the model prints the password."""
    asking(Person, masked={"password": last_two})
    person = Person.objects.create(nickname="nick", password=SECRET)
    person.delete()
    for event in events:
        assert event.target is not None
        assert event.target.label == "nick …r2"


def test_it_stands_in_labels_of_members(asking: Callable[..., None], events: list[Event]):
    asking(Tag, masked={"name": lambda value: f"a tag of {len(value)}"})
    product = Product.objects.create(name="thing")
    product.tags.add(Tag.objects.create(name=SECRET))
    assert SECRET.encode() not in b"".join(map(encode_event, events))
    assert b"a tag of 15" in encode_event(events[-1])


@pytest.mark.django_db(transaction=True)
def test_it_stands_in_snapshots_and_imports(asking: Callable[..., None]):
    asking(Person, masked={"code_word": last_two})
    person = Person.objects.create(nickname="n", code_word=SECRET)
    Outbox.objects.all().delete()
    baseline.run([Person])
    audit_log.backfill(
        [
            {
                "action": "update",
                "target": person,
                "occurred_at": datetime(2026, 1, 1, tzinfo=UTC),
                "changes": {"code_word": [SECRET, "new-new-ew"]},
            }
        ]
    )
    testing.relay()
    snapshot = Record.objects.get(action="snapshot")
    assert snapshot.changes is not None
    assert snapshot.changes["code_word"] == [None, "…r2"]
    imported = Record.objects.get(source="import", action="update")
    assert imported.changes == {"code_word": ["…r2", "…ew"]}


def test_a_masker_that_fails_stops_no_save(asking: Callable[..., None], events: list[Event]):
    asking(Person, masked={"code_word": fails, "password": fails})
    person = Person.objects.create(nickname="n", code_word=SECRET, password=SECRET)
    assert Person.objects.get().code_word == SECRET
    assert changes(events[0])["code_word"] == [None, MASK]
    assert events[0].target is not None
    assert events[0].target.label == f"n {MASK}"
    assert person.pk
