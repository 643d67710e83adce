"""A filled ledger is one the relay goes on with."""

from __future__ import annotations

import pytest
from django.db import connection

from audit_log.delivery.relay import relay
from audit_log.ledger import checkpoints, heads
from audit_log.ledger.merkle import consistency_proof, root_at, verify_consistency
from audit_log.models import Record, Stream
from benchmarks.filling import fill
from tests.shop.models import Category

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

RECORDS = 70_000  # two levels of full tiles


def test_relay_appends_to_a_filled_ledger():
    before = connection.introspection.get_constraints(connection.cursor(), "audit_log_record")
    fill("default", RECORDS)
    after = connection.introspection.get_constraints(connection.cursor(), "audit_log_record")
    assert after.keys() >= {name for name, found in before.items() if found["index"]}
    head = Stream.objects.get(pk="default")
    old_root = heads.frontier_of(head).root()
    checkpoints.sign_all()
    for n in range(3):
        Category.objects.create(name=f"category {n}")
    assert relay().events == 3
    checkpoints.sign_all()
    signed = checkpoints.last("default", "default")
    assert signed is not None
    assert signed.size == RECORDS + 3
    head = Stream.objects.get(pk="default")
    read = heads.reader_of(head, "default")
    proof = consistency_proof(RECORDS, head.size, read)
    verify_consistency(RECORDS, head.size, old_root, root_at(head.size, read), proof)
    rows = list(Record.objects.order_by("sequence").values_list("sequence", "id", "recorded_at"))
    assert [row[0] for row in rows] == list(range(RECORDS + 3))
    assert rows == sorted(rows, key=lambda row: row[1].int)
    assert rows == sorted(rows, key=lambda row: row[2])


def test_ledger_with_records_is_not_filled():
    Category.objects.create(name="c")
    relay()
    with pytest.raises(ValueError, match="not empty"):
        fill("default", 10)
