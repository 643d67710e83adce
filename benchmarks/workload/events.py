"""An outbox filled with real events: captured once, then repeated under new ids and moments.

Four creates in a transaction, four updates in another, then a request and the update it made; the
requests buffered by threes. A few events to a batch, that is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from typing import Final

from django.contrib.auth.models import User
from django.db import connections, transaction
from django.test import Client
from msgspec.structs import replace

import audit_log
from audit_log.events import Event, decode_batch, emitter
from audit_log.models import Outbox
from audit_log.privacy.encryption import key_ring
from audit_log.recording import buffer, outbox
from benchmarks.workload.models import Order

_USERS: Final = 20
_ROUNDS: Final = 60
_NOTES: Final = (
    "Please deliver to the back door between eight and ten, the bell does not work.",
    "Gift wrapping, no invoice in the box. Called twice; the customer will call back.",
    "",
)


def captured(using: str) -> list[list[Event]]:
    """Batches of events as capture made them. The tables must be empty and the outbox too."""
    users = [User.objects.create_user(f"user{n}", f"user{n}@example.com") for n in range(_USERS)]
    for n in range(_ROUNDS):
        user = users[n % _USERS]
        with audit_log.acting(actor=user), transaction.atomic(using=using):
            orders = [_order(4 * n + m) for m in range(4)]
        with audit_log.acting(actor=user), transaction.atomic(using=using):
            for order in orders:
                order.status, order.details = "paid", {**order.details, "paid": True}
                order.save()
        _request(user, orders[0])
        if n % 3 == 0:
            buffer.flush()
    buffer.flush()
    rows = Outbox.objects.using(using).order_by("id")
    batches = [decode_batch(key_ring().decrypt(outbox.PURPOSE, bytes(r.payload))) for r in rows]
    rows.delete()
    wanted = ("create", "update", "request")
    kept = [[event for event in batch if event.action in wanted] for batch in batches]
    return [batch for batch in kept if batch]


def _order(n: int) -> Order:
    return Order.objects.create(
        number=f"2026-{n:05}",
        customer=f"Customer {n}",
        email=f"customer{n}@example.com",
        status="new",
        note=_NOTES[n % len(_NOTES)],
        amount=Decimal(n) + Decimal("19.99"),
        quantity=n % 7 + 1,
        placed_at=datetime.now(UTC),
        details={"lines": [{"sku": f"A-{n}", "count": 2}, {"sku": "B-7", "count": 1}], "gift": n},
    )


def _request(user: User, order: Order) -> None:
    client = Client(
        headers={"user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko Firefox/128.0"}
    )
    client.force_login(user)
    client.post(f"/orders/{order.pk}/price/?from=list", {"by": "1.50", "note": "Freight is extra"})


def fill_outbox(batches: Sequence[Sequence[Event]], events: int, using: str) -> int:
    """At least so many events in batches of the same make. Returns how many."""
    filled = 0
    rows: list[outbox.Row] = []
    for batch in _repeated(batches):
        rows += outbox.rows_of(batch)
        filled += len(batch)
        if filled >= events:
            break
    waiting = iter(rows)
    while part := list(islice(waiting, 500)):
        outbox.insert(connections[using], part)
    return filled


def _repeated(batches: Sequence[Sequence[Event]]) -> Iterator[list[Event]]:
    while True:
        for batch in batches:
            yield [_again(event) for event in batch]


def _again(event: Event) -> Event:
    id_, moment = emitter().stamp()
    return replace(event, id=id_, occurred_at=moment, service=None, emitter=None, emitter_seq=None)
