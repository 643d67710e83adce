"""Relays that are killed, and relays that meet."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from django.db import connection, transaction

from audit_log.models import Outbox, Record
from tests.faults.forks import Forks
from tests.faults.killing import FILLS, kill_until_empty
from tests.shop.models import Category

pytestmark = pytest.mark.slow

ROWS_A_CLAIM = 20


def _fill(transactions: int, each: int) -> None:
    for n in range(transactions):
        with transaction.atomic():
            for m in range(each):
                Category.objects.create(name=f"{n}.{m}")


def _is_exact() -> bool:
    rows = Record.objects.filter(action="create").values_list("target_id", flat=True)
    return Counter(rows) == Counter(map(str, Category.objects.values_list("pk", flat=True)))


@pytest.mark.django_db(transaction=True)
def test_killed_relays_store_every_event_once(workers: Forks, tmp_path: Path, settle, measured):
    """K2, worker_kill9_mid_relay."""
    go = tmp_path / "go"
    go.touch()
    at_once = 1 if connection.vendor == "sqlite" else 2

    def start() -> list[int]:
        return [workers.start("relay", go=str(go), rows=ROWS_A_CLAIM) for _ in range(at_once)]

    kills = fills = 0
    while kills < 5 and fills < FILLS:
        _fill(600, 5)
        fills += 1
        kills += kill_until_empty(start, workers)
    measured(f"{kills} relays killed over {600 * fills} batches")
    assert kills >= 5
    settle()
    assert _is_exact()
    assert Record.objects.filter(action="create").count() == 3_000 * fills


@pytest.mark.django_db(transaction=True)
def test_many_relays_at_once_store_each_event_once(workers: Forks, tmp_path: Path, settle):
    """K3."""
    go = tmp_path / "go"
    _fill(200, 3)
    relays = 3 if connection.vendor == "sqlite" else 10
    pids = [workers.start("relay", go=str(go), rows=20) for _ in range(relays)]
    go.touch()
    assert [workers.join(pid) for pid in pids] == [0] * relays
    assert not Outbox.objects.exists()
    settle()
    assert _is_exact()
    assert Record.objects.filter(action="create").count() == 600


@pytest.mark.django_db(transaction=True)
def test_batch_delivered_twice_is_stored_once(settle):
    """K7."""
    _fill(3, 4)
    for row in list(Outbox.objects.all()):
        row.pk = None
        row.save(force_insert=True)
    settle()
    assert _is_exact()
    assert Record.objects.filter(action="create").count() == 12


@pytest.mark.django_db(transaction=True)
def test_batch_delivered_again_later_is_stored_once(settle):
    """K7."""
    _fill(2, 2)
    again = list(Outbox.objects.all())
    settle()
    for row in again:
        row.pk = None
        row.save(force_insert=True)
    settle()
    assert _is_exact()
    assert not Outbox.objects.exists()
