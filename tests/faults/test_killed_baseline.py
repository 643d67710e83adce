"""A baseline that is killed, two of them at once, and writers at work: real processes."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from audit_log import context
from audit_log.capture.baseline import run
from audit_log.delivery.relay import relay
from audit_log.models import Record
from tests.capture.folding import folded, row_of
from tests.faults.forks import Forks
from tests.faults.workers import wait_until
from tests.shop.models import Category

pytestmark = pytest.mark.django_db(transaction=True)

ROWS = 60


def _categories(count: int) -> None:
    with context.changed(suspended=True):
        Category.objects.bulk_create(
            Category(pk=n, name=f"Category {n}") for n in range(1, count + 1)
        )


def _snapshots() -> Counter[str | None]:
    rows = Record.objects.filter(action="snapshot", target_type="shop.category")
    return Counter(rows.values_list("target_id", flat=True))


def _finished() -> bool:
    found = run([Category])["shop.category"]
    return found.known == Category.objects.count()  # a killed one's locks may outlive it a little


@pytest.mark.parametrize("point", ["before insert", "after insert", "after commit"])
@pytest.mark.parametrize("relays", [True, False], ids=["relayed", "waiting"])
def test_killed_and_run_again_there_is_one_snapshot_of_each(
    workers: Forks, settle: Any, point: str, relays: bool
):
    """J3: killed in its second batch, again and again."""
    _categories(ROWS)
    kills = 0
    while workers.join(workers.start("baseline", batch=7, point=point)) == -9:
        kills += 1
        if relays:
            relay()
        if kills == 3:
            break  # each has done one batch, but where it was the second that never was committed
    assert kills == 3
    wait_until(_finished, "not all objects are known")
    settle()
    assert _snapshots() == Counter(str(n) for n in range(1, ROWS + 1))


@pytest.mark.slow
def test_killed_at_any_moment_there_is_one_snapshot_of_each(workers: Forks, settle: Any):
    _categories(2_000)
    chance = random.Random()
    for _ in range(10):
        pid = workers.start("command", words=["audit_log", "baseline", "shop.*", "--batch", "20"])
        time.sleep(chance.uniform(0.1, 0.5))
        workers.kill(pid)
    wait_until(_finished, "not all objects are known")
    settle()
    assert _snapshots() == Counter(str(n) for n in range(1, 2_001))


def test_two_at_once_make_one_snapshot_of_each(workers: Forks, settle: Any, tmp_path: Path):
    _categories(400)
    go = tmp_path / "go"
    pids = [workers.start("baseline", batch=20, go=str(go)) for _ in range(2)]
    go.touch()
    assert [workers.join(pid) for pid in pids] == [0, 0]
    wait_until(_finished, "not all objects are known")
    settle()
    assert _snapshots() == Counter(str(n) for n in range(1, 401))
    assert Record.objects.filter(action="audit_log.baselined").count() in {1, 2}


def test_records_fold_to_the_rows_though_others_write_meanwhile(workers: Forks, settle: Any):
    _categories(200)
    writers = [workers.start("rename", count=200, seed=seed) for seed in (1, 2)]
    for _ in range(3):
        run([Category], batch=25, incomplete=True)
    assert [workers.kill(pid) for pid in writers] == [-9, -9]
    wait_until(lambda: run([Category], incomplete=True)["shop.category"].known == 200, "known")
    settle()
    assert set(_snapshots().values()) == {1}
    assert Record.objects.filter(action="update").exists()
    for category in Category.objects.all():
        # Not by their times: two processes may take these in one order and the row in the other.
        assert folded(category, "sequence") == row_of(category)
