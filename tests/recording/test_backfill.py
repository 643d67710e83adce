"""backfill(): history of another system, imported as such."""

from __future__ import annotations

import tracemalloc
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction

import audit_log
from audit_log.delivery.relay import relay
from audit_log.events import VERSION, Actor, Event, Request, Target, emitter
from audit_log.ledger.verification import verify
from audit_log.models import Outbox, Record
from audit_log.privacy.redaction import MASK
from audit_log.recording import backfill as module
from tests.shop.models import Product

pytestmark = pytest.mark.django_db(transaction=True)

THEN = datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=UTC)


def an_event(n: int = 0, **values: Any) -> dict[str, Any]:
    return {"action": "invoice.sent", "occurred_at": THEN + timedelta(minutes=n), **values}


def stored() -> list[Record]:
    """The imported records, relayed."""
    relay()
    return list(Record.objects.filter(source="import").order_by("sequence"))


def announced() -> list[Record]:
    relay()
    return list(Record.objects.filter(action="audit_log.backfilled").order_by("sequence"))


# --- what is stored ----------------------------------------------------------------------------


def test_an_imported_event_is_a_record_like_any_other() -> None:
    product = Product.objects.create(name="Kettle")
    user = User.objects.create_user("alice", "alice@example.com", is_staff=True)
    given = an_event(
        action="update",
        outcome="failure",
        actor=user,
        target=product,
        tenant="acme",
        changes={"price": [Decimal("1.10"), Decimal("2.20")], "name": ["Pot", "Kettle"]},
        labels={"price": ["1.10 EUR", "2.20 EUR"]},
        affected=1,
        request={"id": "r-1", "method": "POST", "path": "/shop/", "status": 500, "ip": "192.0.2.7"},
        trace_id="trace",
        parent_id="parent",
        reason="repricing",
        data={"amount": 5, "gateway": "acme pay"},
    )
    assert audit_log.backfill([given]) == 1
    (record,) = stored()
    assert record.occurred_at == THEN
    assert record.recorded_at > THEN + timedelta(days=300)
    assert (record.action, record.outcome, record.source) == ("update", "failure", "import")
    assert (record.actor_type, record.actor_id) == ("admin", str(user.pk))
    assert (record.target_type, record.target_id) == ("shop.product", str(product.pk))
    assert (record.tenant, record.affected) == ("acme", 1)
    assert (record.request_id, record.method, record.path) == ("r-1", "POST", "/shop/")
    assert (record.status, record.trace_id, record.parent_id) == (500, "trace", "parent")
    assert record.changes == {"price": ["1.10", "2.20"]}
    assert record.data == {"amount": 5}
    opened = audit_log.contents(record)
    assert opened["changes"]["name"] == ["Pot", "Kettle"]
    assert opened["data"]["gateway"] == "acme pay"
    assert opened["labels"] == {"price": ["1.10 EUR", "2.20 EUR"]}
    assert opened["actor"]["label"] == "alice"
    assert opened["actor"]["ip"] == "192.0.2.7"
    assert opened["target_label"] == "Kettle"
    assert opened["reason"] == "repricing"
    assert verify().ok
    assert product.pk in {int(str(r.target_id)) for r in audit_log.history(product)}


def test_events_may_be_plain_words_or_events() -> None:
    id_ = emitter().id_for(THEN)
    audit_log.backfill(
        [
            an_event(
                actor={"type": "user", "id": "7", "label": "bob"}, target={"type": "old.thing"}
            ),
            an_event(actor="billing", target=Target("old.thing", "9", "Nine")),
            Event(
                version=VERSION,
                id=id_,
                occurred_at=THEN,
                action="invoice.sent",
                actor=Actor("user", "8", "carol"),
                request=Request(method="GET", path="/x/"),
                data={"amount": 5, "n": 6},
                sealed=("data.amount",),
            ),
        ]
    )
    first, second, third = stored()
    assert (first.actor_type, first.actor_id, first.target_type) == ("user", "7", "old.thing")
    assert (second.actor_type, second.actor_id, second.target_id) == ("service", "billing", "9")
    assert (third.id, third.actor_id, third.method) == (id_, "8", "GET")
    assert third.data == {"n": 6}  # more may be sealed than the policies say
    assert audit_log.contents(third)["data"]["amount"] == 5


def test_whoever_imports_is_not_who_did_it() -> None:
    with audit_log.acting(actor="importer", reason="migration of 2026", tenant="acme"):
        audit_log.backfill([an_event()])
    (record,) = stored()
    assert (record.actor_type, record.actor_id, record.tenant) == ("system", None, None)
    assert audit_log.contents(record)["reason"] is None
    (note,) = announced()
    assert note.actor_id == "importer"
    assert audit_log.contents(note)["reason"] == "migration of 2026"


def test_times_are_kept_to_the_microsecond_in_utc_and_ids_agree() -> None:
    there = THEN.astimezone(timezone(timedelta(hours=5, minutes=30)))
    audit_log.backfill([an_event(occurred_at=there)])
    (record,) = stored()
    assert record.occurred_at == THEN
    assert record.id.version == 7
    assert record.id.int >> 80 == int(THEN.timestamp() * 1000)


# --- policies ----------------------------------------------------------------------------------


def test_no_secret_is_imported_in_clear() -> None:
    secret = "s3cr3t-0f-th3-p4st"
    given = an_event(
        target={"type": "auth.user", "id": "5"},
        changes={
            "password": [secret, secret],
            "old_api_token": [None, secret],
            "username": ["al", "alice"],
        },
        labels={"password": [secret, secret]},
        request={
            "method": "POST",
            "query": f"page=2&token={secret}",
            "body": {"password": secret, "page": 2},
        },
        data={"nested": {"api_key": secret, "fine": 1}, "token": secret},
    )
    audit_log.backfill([given])
    (record,) = stored()
    opened = repr(audit_log.contents(record)) + repr(record.__dict__)
    assert secret not in opened
    assert audit_log.contents(record)["changes"]["password"] == [MASK, MASK]
    assert audit_log.contents(record)["changes"]["old_api_token"] == [None, MASK]
    assert audit_log.contents(record)["data"]["nested"] == {"api_key": MASK, "fine": 1}
    assert "changes.username" not in str(record.changes)
    assert {"path": "changes.password", "rule": "name:secret"} in (record.redactions or [])


def test_fields_of_a_model_follow_its_policies_and_others_their_types(settings: Any) -> None:
    settings.AUDIT_LOG = {
        **settings.AUDIT_LOG,
        "OPEN_FIELDS": ["shop.product.name"],
        "EXCLUDE_FIELDS": ["shop.product.stock"],
    }
    changes: dict[str, Any] = {
        "name": ["a", "b"],
        "stock": [1, 2],
        "gone_text": [None, "x"],
        "gone_number": [1, 2],
    }
    changes["gone_price"] = [Decimal("1.10"), None]
    target = {"type": "shop.Product", "id": 5}
    audit_log.backfill([an_event(action="update", target=target, changes=changes)])
    (record,) = stored()
    assert (record.target_type, record.target_id) == ("shop.product", "5")
    assert record.changes == {
        "name": ["a", "b"],
        "gone_number": [1, 2],
        "gone_price": ["1.10", None],
    }
    assert audit_log.contents(record)["changes"]["gone_text"] == [None, "x"]


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"action": "Invoice Sent"}, "is no action"),
        ({"action": "a" * 129}, "is no action"),
        ({"action": None}, "is no action"),
        ({"action": "audit_log.purged"}, "the log's own"),
        ({"occurred_at": None}, "occurred_at must be a datetime"),
        ({"occurred_at": "2024-02-29"}, "occurred_at must be a datetime"),
        ({"occurred_at": datetime(2024, 2, 29)}, "with a time zone"),  # noqa: DTZ001
        ({"occurred_at": datetime(1969, 12, 31, tzinfo=UTC)}, "from 1970 on"),
        ({"occurred_at": datetime.now(UTC) + timedelta(days=1)}, "in the past"),
        ({"outcome": "maybe"}, "outcome must be one of"),
        ({"actor": {"type": "robot"}}, "An actor's type is one of"),
        ({"actor": {"type": "user", "name": "x"}}, "is no actor: it has"),
        ({"target": {"id": "5"}}, "is no target: it has"),
        ({"target": 5}, "A target is"),
        ({"request": {"session": "abc"}}, "is no request: it has"),
        ({"request": {"status": "200"}}, "status must be a number"),
        ({"request": "GET /"}, "A request is"),
        ({"affected": -1}, "affected must be a number"),
        ({"affected": True}, "affected must be a number"),
        ({"tenant": 5}, "tenant must be text"),
        ({"changes": ["a"]}, "changes must be"),
        ({"changes": {"a": "ab"}}, r"a must be \[old, new\]"),
        ({"labels": 5}, "labels must be"),
        ({"data": ["a"]}, "data must be a mapping"),
        ({"id": uuid.uuid4()}, "UUID of version 7"),
        ({"id": emitter().id_for(THEN + timedelta(minutes=1))}, "of the moment"),
        ({"id": "x"}, "UUID"),
        ({"id": emitter().id_for(THEN), "key": "7"}, "an id or a key, not both"),
        ({"when": THEN}, "An event has no when; what it can have: action"),
    ],
)
def test_what_is_wrong_is_named_with_its_position(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"events\[1\]: .*{message}"):
        audit_log.backfill([an_event(), an_event() | values])
    assert not Outbox.objects.exists()
    with pytest.raises(ValueError, match=r"events\[0\]: An event is a mapping"):
        audit_log.backfill(["text"])  # type: ignore[list-item]


def test_batches_before_a_wrong_event_are_imported_and_that_is_recorded() -> None:
    events = [an_event(n) for n in range(module._BATCH + 7)]
    events[-1] = {"action": "?"}
    with pytest.raises(ValueError, match=rf"events\[{module._BATCH + 6}\]"):
        audit_log.backfill(events, reason="first try")
    assert len(stored()) == module._BATCH
    (note,) = announced()
    assert (note.outcome, (note.data or {})["count"]) == ("failure", module._BATCH)


# --- transactions, memory, repetition ----------------------------------------------------------


def test_an_import_is_recorded_with_count_span_and_reason() -> None:
    assert audit_log.backfill((an_event(n) for n in (5, 1, 9)), reason="old system") == 3
    (note,) = announced()
    assert note.stream == "audit_log"
    assert note.data == {
        "count": 3,
        "first": "2024-02-29T12:31:15.123456Z",
        "last": "2024-02-29T12:39:15.123456Z",
    }
    assert audit_log.contents(note)["reason"] == "old system"
    assert note.outcome == "success"


def test_nothing_imported_is_nothing_recorded(settings: Any) -> None:
    assert audit_log.backfill([]) == 0
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "ENABLED": False}
    assert audit_log.backfill([an_event()]) == 0
    assert not Outbox.objects.exists()


def test_each_batch_is_committed_by_itself() -> None:
    seen: list[tuple[int, int]] = []

    def note(count: int) -> None:
        connection.close()  # what is not committed is gone
        seen.append((count, sum(Outbox.objects.values_list("event_count", flat=True))))

    audit_log.backfill((an_event(n) for n in range(1200)), progress=note)
    assert seen == [(500, 500), (1000, 1000), (1200, 1200)]


def test_an_open_transaction_takes_all_of_it_or_nothing() -> None:
    with transaction.atomic():
        audit_log.backfill([an_event(n) for n in range(600)])
        assert Outbox.objects.count() >= 2
        transaction.set_rollback(True)
    assert not Outbox.objects.exists()
    with transaction.atomic():
        with transaction.atomic():
            audit_log.backfill([an_event()])
            transaction.set_rollback(True)
        audit_log.backfill([an_event(n) for n in range(600)])
    assert len(stored()) == 600
    assert len(announced()) == 1


def test_the_same_ids_or_keys_are_stored_once() -> None:
    ids = [emitter().id_for(THEN + timedelta(minutes=n)) for n in range(3)]

    def events() -> Iterator[dict[str, Any]]:
        yield from (an_event(n, id=ids[n]) for n in range(3))
        yield from (an_event(n, key=f"invoice {n}") for n in range(4))

    assert audit_log.backfill(events()) == 7
    assert len(stored()) == 7
    assert audit_log.backfill(events()) == 7
    assert len(stored()) == 7
    assert audit_log.backfill([an_event(0, key="invoice 1")]) == 1  # another moment, another event
    assert len(stored()) == 8
    assert len(announced()) == 3


def test_a_file_of_any_length_is_imported_in_constant_memory() -> None:
    def peak(count: int) -> int:
        with transaction.atomic():  # the harder case: nothing is committed on the way
            tracemalloc.start()
            try:
                audit_log.backfill(an_event(n, data={"text": f"{n}" * 200}) for n in range(count))
                found = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            transaction.set_rollback(True)
        return found

    peak(10)
    assert peak(4_000) < 2 * peak(1_000)
