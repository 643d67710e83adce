"""What each operation sends to the database, beside the same operation without the app.

Counted at the driver, and on PostgreSQL below it, since our own statements keep out of Django's
query log. A number that changes is a change of speed in every project: whoever raises one says why.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from unittest import mock

import pytest
from django.db import connection

from audit_log.capture import installation, usage
from audit_log.delivery.relay import relay
from audit_log.privacy import data_keys
from audit_log.reading import access, streams
from tests.capture.statements import kinds, statements
from tests.flows.operations import OPERATIONS, OURS, Preparation, World
from tests.shop.models import Product

# On one Django only: how many statements its own part needs differs between them.
pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

# with the app : without it, in statements, transactions' own included; "-" where there is nothing
# without it. On PostgreSQL and MariaDB several statements may share a round trip, whose number
# stands behind the slash; on SQLite there are none. On MariaDB leaving a transaction of Django's is
# one more, SET autocommit.
COSTS: dict[str, tuple[str, str, str]] = {
    # each on SQLite, PostgreSQL, MariaDB
    "create": ("4 : 1", "6/2 : 1/1", "4/2 : 1/1"),
    "update": ("4 : 1", "1/1 : 1/1", "4/2 : 1/1"),
    "update of two fields by name": ("4 : 1", "1/1 : 1/1", "4/2 : 1/1"),
    "update by an expression": ("5 : 1", "7/3 : 1/1", "5/3 : 1/1"),
    'update, before="database"': ("5 : 1", "6/2 : 1/1", "5/3 : 1/1"),
    "save that changes nothing": ("1 : 1", "1/1 : 1/1", "1/1 : 1/1"),
    "delete": ("8 : 5", "10/7 : 5/5", "9/8 : 6/6"),
    "delete, nothing refers to it": ("4 : 1", "6/2 : 1/1", "4/2 : 1/1"),
    "10 updates in a transaction": ("13 : 12", "15/12 : 12/12", "14/13 : 13/13"),
    "100 creates in a transaction": ("103 : 102", "105/102 : 102/102", "104/103 : 103/103"),
    "load of 1,000 rows": ("1 : 1", "1/1 : 1/1", "1/1 : 1/1"),
    "bulk_create of 50 rows": ("4 : 3", "6/3 : 3/3", "5/4 : 4/4"),
    "bulk_create of 50 rows, conflicts ignored": ("6 : 3", "12/9 : 3/3", "7/6 : 4/4"),
    "bulk_update of 50 rows": ("5 : 3", "9/6 : 3/3", "6/5 : 4/4"),
    "QuerySet.update of 1,000 rows": ("5 : 1", "9/5 : 1/1", "6/4 : 1/1"),  # two outbox rows
    "QuerySet.update by an expression": ("6 : 1", "12/8 : 1/1", "6/4 : 1/1"),
    "QuerySet.update of more rows than BULK_ROWS": ("6 : 1", "10/6 : 1/1", "6/4 : 1/1"),
    "QuerySet.delete of 50 rows": ("9 : 6", "11/8 : 6/6", "10/9 : 7/7"),
    "add of 2 to many-to-many": ("6 : 3", "8/5 : 3/3", "7/6 : 4/4"),
    "clear of many-to-many": ("6 : 3", "8/5 : 3/3", "7/6 : 4/4"),
    "explicit record()": ("3 : -", "5/1 : -", "3/1 : -"),
    "explicit viewed()": ("3 : -", "5/1 : -", "3/1 : -"),
    "GET, user never read": ("0 : 0", "0/0 : 0/0", "0/0 : 0/0"),
    "GET, user read": ("2 : 2", "2/2 : 2/2", "2/2 : 2/2"),
    "POST that creates a row": ("6 : 1", "8/4 : 1/1", "6/4 : 1/1"),
    "POST that writes nothing": ("2 : 0", "2/2 : 0/0", "2/2 : 0/0"),
    "login": ("12 : 9", "14/10 : 9/9", "14/12 : 11/11"),
    "page of an object in the admin": ("6 : 3", "8/4 : 3/3", "6/4 : 3/3"),
    "flush of 20 requests": ("3 : -", "5/1 : -", "3/1 : -"),
    "relay of nothing": ("1 : -", "3/3 : -", "4/4 : -"),
    "relay of 20 batches": ("32 : -", "15/16 : -", "16/16 : -"),  # SQLite: executemany
    "checkpoint": ("6 : -", "6/6 : -", "7/7 : -"),
    "list of records in the admin": ("5 : -", "5/5 : -", "5/5 : -"),
    "list of records in the API": ("3 : -", "3/3 : -", "3/3 : -"),
}


class Sent:
    """What went to the server: texts of SQL, each waited for, and what they came to."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.cost = ""

    @property
    def shown(self) -> str:
        """The beginnings of the texts, as they followed each other."""
        return "\n".join(f"  {text[:100]}" for text in self.texts)

    def __str__(self) -> str:
        return self.cost


@contextmanager
def _sending() -> Iterator[Sent]:
    sent = Sent()
    with _traced(sent) if connection.vendor == "postgresql" else _heard(sent):
        yield sent


@contextmanager
def _traced(sent: Sent) -> Iterator[None]:
    """By the messages of PostgreSQL's protocol, which libpq writes down whoever sends them."""
    from psycopg.pq import Trace

    connection.ensure_connection()
    server = connection.connection.pgconn
    with tempfile.TemporaryFile("w+", errors="replace") as file:
        server.trace(file.fileno())
        server.set_trace_flags(Trace.SUPPRESS_TIMESTAMPS)
        try:
            yield
        finally:
            server.untrace()
        file.seek(0)
        messages = [line.split("\t", 3) for line in file if line.startswith(("F\t", "B\t"))]
    kinds = Counter(message[2].strip() for message in messages)
    sent.texts = [message[3].strip() for message in messages if message[2] == "Query"]
    # A COPY waits for the server's consent, and again when its rows are sent.
    trips = kinds["ReadyForQuery"] + kinds["CopyInResponse"]
    sent.cost = f"{kinds['CommandComplete']}/{trips}"


@contextmanager
def _heard(sent: Sent) -> Iterator[None]:
    """By what the driver is told."""
    also = _leaving if connection.vendor == "mysql" else nullcontext
    with statements() as sent.texts, also(sent.texts):
        yield
    sent.cost = str(len(sent.texts))
    if connection.vendor == "mysql":
        sent.cost = f"{len(' '.join(kinds(sent.texts)).split())}/{sent.cost}"


def _leaving(seen: list[str]) -> AbstractContextManager[object]:
    """Back to autocommit, when a transaction is over."""
    from MySQLdb.connections import Connection

    autocommit = Connection.autocommit

    def switch(self: Any, on: bool) -> Any:
        if on and not self.get_autocommit():
            seen.append("SET autocommit=1")
        return autocommit(self, on)

    return mock.patch.object(Connection, "autocommit", switch)


def _cost(prepare: Preparation, world: World) -> Sent:
    """The second time: what is worked out once a process is no cost of an operation."""
    _sent(prepare, world)
    return _sent(prepare, world)


def _sent(prepare: Preparation, world: World) -> Sent:
    call = prepare(world)
    with _sending() as sent:
        call()
    relay()  # so that nothing waits
    Product.objects.all().delete()
    return sent


@contextmanager
def _without_the_app(settings: Any) -> Iterator[None]:
    first, *others = settings.MIDDLEWARE
    assert first == "audit_log.middleware.AuditMiddleware"
    installation.uninstall()
    settings.MIDDLEWARE = others
    try:
        yield
    finally:
        settings.MIDDLEWARE = [first, *others]
        installation.install()


@pytest.fixture
def world(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    settings.ROOT_URLCONF = "tests.flows.urls"
    # When a minute is over, whoever flushes next writes its summaries as well.
    now = time.time_ns()
    monkeypatch.setattr(usage, "time_ns", lambda: now)
    for forget in (access.forget, streams.forget, data_keys.forget):
        forget()
    yield World()
    for forget in (access.forget, streams.forget, data_keys.forget):
        forget()


def test_no_operation_sends_more_than_it_did(world: World, settings: Any):
    audited = {name: _cost(prepare, world) for name, prepare in OPERATIONS.items()}
    with _without_the_app(settings):
        world.log_in()
        plain = {name: _cost(OPERATIONS[name], world) for name in OPERATIONS.keys() - OURS}
    found = {name: f"{sent} : {plain.get(name, '-')}" for name, sent in audited.items()}
    column = ("sqlite", "postgresql", "mysql").index(connection.vendor)
    expected = {name: costs[column] for name, costs in COSTS.items()}
    changed = [name for name in OPERATIONS if found[name] != expected.get(name)]
    assert found == expected, "\n".join(
        f"{name}, {found[name]}\n{audited[name].shown}" for name in changed
    )
