"""Relays that are killed, and relays that meet."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import pytest
from django.db import connection, transaction

from audit_log.models import Outbox, Record
from tests.faults.forks import Forks
from tests.shop.models import Category

pytestmark = pytest.mark.slow

ROWS_A_CLAIM = 20


def _fill(transactions: int, each: int) -> None:
    for n in range(transactions):
        with transaction.atomic():
            for m in range(each):
                Category.objects.create(name=f"{n}.{m}")


def _wait_for_progress(before: int) -> None:
    deadline = time.monotonic() + 5
    while Outbox.objects.count() == before and time.monotonic() < deadline:
        time.sleep(0.002)


def _is_exact() -> bool:
    rows = Record.objects.filter(action="create").values_list("target_id", flat=True)
    return Counter(rows) == Counter(map(str, Category.objects.values_list("pk", flat=True)))


@pytest.mark.django_db(transaction=True)
def test_killed_relays_store_every_event_once(workers: Forks, tmp_path: Path, settle, measured):
    """K2, worker_kill9_mid_relay."""
    chance = random.Random()
    go = tmp_path / "go"
    go.touch()
    _fill(600, 5)
    batches = Outbox.objects.count()
    at_once = 1 if connection.vendor == "sqlite" else 2
    kills, left = 0, [batches]
    deadline = time.monotonic() + 60
    while Outbox.objects.exists() and time.monotonic() < deadline:
        pids = [workers.start("relay", go=str(go), rows=ROWS_A_CLAIM) for _ in range(at_once)]
        _wait_for_progress(left[-1])
        time.sleep(chance.uniform(0, 0.05))  # into the claim that follows
        kills += sum(workers.kill(pid) == -9 for pid in pids)
        left.append(Outbox.objects.count())
    measured(f"{kills} relays killed over {batches} batches, left: {left}")
    assert kills >= 5
    assert any(0 < n < batches for n in left), "no kill came between the first and the last claim"
    settle()
    assert _is_exact()
    assert Record.objects.filter(action="create").count() == 3_000


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
