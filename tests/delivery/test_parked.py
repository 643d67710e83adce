"""Batches that were set aside: an operator sees which, and says what becomes of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from audit_log.delivery import parked
from audit_log.delivery.relay import relay
from audit_log.exceptions import ParkedRefused
from audit_log.models import Outbox, Record
from audit_log.reading.contents import contents
from tests.shop.models import Category

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


def _park(name: str, using: str = "default") -> int:
    """A batch that was set aside."""
    before = set(Outbox.objects.using(using).values_list("pk", flat=True))
    Category.objects.using(using).create(name=name)
    rows = Outbox.objects.using(using).exclude(pk__in=before)
    rows.update(parked_at=datetime.now(UTC), parked_reason="UnknownKey: no", attempts=10)
    return int(rows.get().pk)


def _targets() -> int:
    return Record.objects.filter(target_type="shop.category").count()


def test_parked_batches_are_listed_with_their_reasons():
    first, second = _park("a"), _park("b", "other")
    found = list(parked.batches())
    assert [(each.database, each.id) for each in found] == [("default", first), ("other", second)]
    assert (found[0].events, found[0].attempts, found[0].reason) == (1, 10, "UnknownKey: no")
    assert [each.id for each in parked.batches("other")] == [second]


def test_what_is_shown_says_nothing_of_anybody():
    id_ = _park("Ann Smith")
    (event,) = parked.events_of("default", id_)
    said = parked.summary(event)
    assert set(said) == {"id", "time", "action", "actor", "type", "target"} - {"actor"}
    assert (said["action"], said["type"]) == ("create", "shop.category")
    with pytest.raises(ParkedRefused, match="No parked batch 999"):
        parked.events_of("default", 999)


def test_retried_batch_is_stored_once_its_cause_is_gone():
    first, second = _park("a"), _park("b")
    relay()
    assert _targets() == 0
    assert parked.retry("default", [first]) == 1
    relay()
    assert _targets() == 1
    assert [each.id for each in parked.batches()] == [second]
    assert parked.retry("default") == 1
    relay()
    assert _targets() == 2


def test_unknown_batch_changes_nothing():
    id_ = _park("a")
    with pytest.raises(ParkedRefused, match="No parked batch 999"):
        parked.retry("default", [id_, 999])
    with pytest.raises(ParkedRefused, match="No parked batch 999"):
        parked.discard("default", [id_, 999], "reason")
    assert [each.id for each in parked.batches()] == [id_]


def test_discarded_batch_is_on_record_with_what_it_held():
    id_ = _park("a")
    (event,) = parked.events_of("default", id_)
    with pytest.raises(ParkedRefused, match="needs a reason"):
        parked.discard("default", [id_], " ")
    assert parked.discard("default", [id_], "forged") == 1
    assert not Outbox.objects.filter(pk=id_).exists()
    relay()
    record = Record.objects.get(action="audit_log.discarded")
    assert record.data is not None
    assert (record.data["batch"], record.data["events"]) == (id_, 1)
    assert [held["id"] for held in record.data["held"]] == [str(event.id)]
    assert record.data["parked_because"] == "UnknownKey: no"
    assert contents(record)["reason"] == "forged"
    assert _targets() == 0


def test_record_of_a_large_discarded_batch_fits_and_says_what_it_was():
    with transaction.atomic():
        for n in range(500):
            Category.objects.create(name=f"category {n}")
    Outbox.objects.update(parked_at=datetime.now(UTC), parked_reason="why", attempts=10)
    row = Outbox.objects.get()
    parked.discard("default", [row.pk], "forged")
    relay()
    record = Record.objects.get(action="audit_log.discarded")
    assert record.data is not None
    assert (record.data["batch"], record.data["events"]) == (row.pk, 500)
    assert 100 < len(record.data["held"]) < 500
    assert not [mark for mark in record.redactions or [] if mark["rule"].startswith("cut")]


def test_unreadable_batch_can_be_discarded():
    id_ = _park("a")
    Outbox.objects.filter(pk=id_).update(payload=b"\x01" + bytes(200))
    parked.discard("default", [id_], "noise")
    relay()
    record = Record.objects.get(action="audit_log.discarded")
    assert record.data is not None
    assert "held" not in record.data
    assert len(record.data["sha256"]) == 64


def test_discarding_and_its_record_are_one():
    """Neither without the other."""
    id_ = _park("a")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("audit_log.recording.outbox.insert", _fail)
        with pytest.raises(RuntimeError):
            parked.discard("default", [id_], "reason")
    assert Outbox.objects.filter(pk=id_).exists()


def _fail(*_: Any) -> None:
    raise RuntimeError("the disk is full")


# The verb.


def _verb(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    call_command("audit_log", "parked", *words, "--json")
    return json.loads(capsys.readouterr().out)


def test_verb_in_full(capsys: pytest.CaptureFixture[str]):
    first, second = _park("a"), _park("b")
    assert [each["id"] for each in _verb(capsys, "list")["batches"]] == [first, second]
    shown = _verb(capsys, "show", str(first))["batches"][str(first)]
    assert [event["action"] for event in shown] == ["create"]
    assert _verb(capsys, "retry", str(first)) == {"action": "retry", "batches": 1}
    words = ["discard", str(second), "--reason", "forged"]
    with pytest.raises(CommandError, match="say --yes"):
        _verb(capsys, *words)
    assert _verb(capsys, *words, "--yes")["batches"] == 1
    assert _verb(capsys, "list") == {"batches": []}
    call_command("audit_log", "parked")
    assert "Nothing is parked" in capsys.readouterr().out


def test_verb_retries_all_of_all_databases(capsys: pytest.CaptureFixture[str]):
    _park("a")
    _park("b", "other")
    assert _verb(capsys, "retry", "--all")["batches"] == 2
    assert list(parked.batches()) == []


def test_verb_asks_which_database_where_two_have_that_number(capsys: pytest.CaptureFixture[str]):
    id_ = _park("a")
    Outbox.objects.using("other").create(
        pk=id_,
        created_at=datetime.now(UTC),
        event_count=1,
        payload=b"x",
        parked_at=datetime.now(UTC),
    )
    with pytest.raises(CommandError, match="--database"):
        call_command("audit_log", "parked", "retry", str(id_))
    assert _verb(capsys, "retry", str(id_), "--database", "other")["batches"] == 1


@pytest.mark.parametrize("words", [["show"], ["retry"], ["discard"], ["retry", "7"], ["show", "0"]])
def test_verb_says_what_it_needs(words: list[str]):
    with pytest.raises(CommandError, match=r"Say which|No parked batch|must be 1"):
        call_command("audit_log", "parked", *words)
