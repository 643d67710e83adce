"""The steps of an event's way that need no database, each a context manager that gives a call.

Settings are those of `benchmarks.relay_settings`: the bank's kind of model, SQLite in memory,
in which nothing is written.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any, Final, NamedTuple
from unittest import mock

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.db import connection, models, transaction

from audit_log import context
from audit_log.capture import saves
from audit_log.conf import get_settings
from audit_log.events import JSON, Actor, Event, Request, Target, encode_batch
from audit_log.ledger.entries import SALT_BYTES, EntryTemplate, canonical
from audit_log.ledger.merkle import TILE_WIDTH, Frontier, leaf_hash
from audit_log.models import Record
from audit_log.privacy.detectors import scrub
from audit_log.privacy.encryption import fingerprint, key_ring, place_of, seal
from audit_log.privacy.redaction import redact
from audit_log.recording import outbox
from audit_log.recording.values import encode_bounded
from benchmarks.workload.models import Order

Call = Callable[[], object]
_NOW: Final = datetime(2026, 11, 24, 12, 0, 0, 123456, tzinfo=UTC)
_CHANGES: Final[dict[str, JSON]] = {
    "customer": ["Ada Byron", "Ada Lovelace"],
    "note": ["", "Please deliver to the back door between eight and ten."],
    "amount": ["19.99", "24.50"],
    "placed_at": ["2026-11-24T12:00:00.123456Z", "2026-11-25T12:00:00.123456Z"],
    "details": [{"lines": [{"sku": "A-1", "count": 2}]}, {"lines": [{"sku": "A-1", "count": 3}]}],
}
_PROSE: Final = (
    "The customer called twice about the second parcel and asks for it to be sent again, "
    "to the office this time, since nobody was at home on Tuesday. Refund of shipping agreed. "
)


class Case(NamedTuple):
    """`prepare()` is entered before each loop of calls; `aim_us` is what we aim at."""

    name: str
    unit: str
    prepare: Callable[[], AbstractContextManager[Call]]
    aim_us: float | None = None


@contextmanager
def _capture() -> Iterator[Call]:
    """A save in a transaction without its UPDATE: old values, new ones, the event, the snapshot.

    What was captured is dropped in the end, with the transaction.
    """
    stub = mock.patch.object(saves, "_original_save_table", _written_nowhere)
    with stub, transaction.atomic():
        yield _saving()
        transaction.set_rollback(True)


@contextmanager
def _no_capture() -> Iterator[Call]:
    """The same without us: what Django does around an UPDATE."""
    stub = mock.patch.object(models.Model, "_save_table", _written_nowhere)
    with stub, transaction.atomic():
        yield _saving()


def _saving() -> Call:
    order = _loaded_order()
    turn = iter(range(1 << 60))

    def save() -> None:
        n = next(turn)
        order.customer, order.note = f"Customer {n}", f"Called {n} times."
        order.amount, order.quantity = Decimal(n) + Decimal("0.99"), n % 1_000 + 1
        order.details = {"lines": [{"sku": f"A-{n}", "count": 2}]}
        order.save()

    return save


def _written_nowhere(instance: Any, *_: object) -> bool:
    """What Django's `_save_table` answers for a row that was there."""
    instance.updated_at = _NOW  # its auto_now field, which Django sets on the way
    return True


def _loaded_order() -> Order:
    names = [field.attname for field in Order._meta.concrete_fields]
    order = Order(
        pk=7,
        number="2026-00007",
        customer="Ada Byron",
        email="ada@example.com",
        status="new",
        amount=Decimal("19.99"),
        placed_at=_NOW,
        updated_at=_NOW,
    )
    return Order.from_db(connection.alias, names, [getattr(order, name) for name in names])


def _event() -> Event:
    return context.new_event(
        "update",
        source="orm",
        actor=Actor(type="user", id="17", label="ada", email="ada@example.com"),
        target=Target(type="workload.order", id="7", label="Order 2026-00007"),
        changes=_CHANGES,
        sealed=("changes.customer", "changes.note", "changes.details"),
        request=Request(
            id=uuid.UUID(int=7).hex,
            method="POST",
            route="price",
            path="/orders/7/price/",
            ip="192.0.2.7",
            user_agent="Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko Firefox/128.0",
        ),
    )


@contextmanager
def _encode() -> Iterator[Call]:
    yield partial(encode_bounded, _event())


@contextmanager
def _redact() -> Iterator[Call]:
    yield partial(redact, _CHANGES, "changes", **get_settings().key_names)


@contextmanager
def _detect() -> Iterator[Call]:
    text = (_PROSE * 10)[:1024]
    yield partial(scrub, text, personal=True, fingerprint=fingerprint)


@contextmanager
def _seal() -> Iterator[Call]:
    cipher = AESGCM(os.urandom(32))
    yield partial(seal, bytes(16), cipher, canonical(_CHANGES), place_of(uuid.UUID(int=7), "x"))


def _columns() -> dict[str, Any]:
    event = _event()
    record = Record(
        id=event.id,
        version=1,
        stream="default",
        occurred_at=event.occurred_at,
        action=event.action,
        outcome=event.outcome,
        actor_type="user",
        actor_id="17",
        target_type="workload.order",
        target_id="7",
        request_id=uuid.UUID(int=7).hex,
        source=event.source,
        changed_fields=sorted(_CHANGES),
        changes={"amount": _CHANGES["amount"]},
        salt=os.urandom(SALT_BYTES),
        sealed_actor=os.urandom(230),
        sealed_data=os.urandom(210),
    )
    return record.__dict__


@contextmanager
def _entry() -> Iterator[Call]:
    yield partial(EntryTemplate, _columns())


@contextmanager
def _leaf() -> Iterator[Call]:
    template = EntryTemplate(_columns())
    yield lambda: leaf_hash(template.fill(1_000_000, _NOW))


@contextmanager
def _tile() -> Iterator[Call]:
    frontier = Frontier()
    leaves = [os.urandom(32) for _ in range(TILE_WIDTH)]
    yield partial(frontier.extend, leaves)


@contextmanager
def _batch(events: int) -> Iterator[Call]:
    encoded = [encode_bounded(_event()) for _ in range(events)]
    ring = key_ring()
    yield lambda: ring.encrypt(outbox.PURPOSE, encode_batch(encoded, "bench"))


CASES: Final = (
    Case("save, captured", "update of 5 fields", _capture),
    Case("save, not captured", "update of 5 fields", _no_capture),
    Case("encode", "event", _encode),
    Case("redact", "change of 5 fields", _redact, aim_us=10),
    Case("detectors", "clean kilobyte", _detect, aim_us=100),
    Case("seal", f"{len(canonical(_CHANGES))} bytes", _seal),
    Case("entry", "record", _entry),
    Case("leaf hash", "record", _leaf),
    Case("tile append", f"{TILE_WIDTH} records", _tile),
    Case("batch encryption", "batch of 1", partial(_batch, 1)),
    Case("batch encryption", "batch of 100", partial(_batch, 100)),
)
