"""A process that is killed loses nothing it committed, and invents nothing."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path

import pytest

from audit_log.delivery.relay import relay
from audit_log.models import Record
from tests.faults.forks import Forks
from tests.faults.killing import until_gone
from tests.shop.models import Category

pytestmark = pytest.mark.slow

KILLS = 40


def _noted(side: Path) -> set[str]:
    """The ids whose COMMIT returned; a torn last line was never whole."""
    return set(side.read_text().rpartition("\n")[0].split()) if side.exists() else set()


def _created() -> Counter[str | None]:
    rows = Record.objects.filter(action="create", target_type="shop.category")
    return Counter(rows.values_list("target_id", flat=True))


def _committed() -> Counter[str]:
    return Counter(str(pk) for pk in Category.objects.values_list("pk", flat=True))


@pytest.mark.django_db(transaction=True)
def test_forty_kills_of_a_writer_lose_nothing_and_invent_nothing(
    workers: Forks, tmp_path: Path, settle, measured
):
    """K1, kill9_after_commit."""
    chance = random.Random()
    side = tmp_path / "side"
    killed = 0
    deadline = time.monotonic() + 240
    while killed < KILLS or (len(_noted(side)) <= KILLS and time.monotonic() < deadline):
        pid = workers.start("write", side=str(side), seed=chance.getrandbits(32))
        time.sleep(chance.uniform(0.05, 0.35))
        assert workers.kill(pid) == -9
        killed += 1
    until_gone()
    settle()
    committed = _committed()
    measured(f"{killed} kills, {committed.total()} committed, {len(_noted(side))} noted")
    assert committed.total() > KILLS
    assert _noted(side) <= set(committed)
    assert _created() == committed


@pytest.mark.django_db(transaction=True)
def test_two_forked_writers_never_share_an_id(workers: Forks, settle):
    first = workers.start("write_some", count=20, each=3)
    second = workers.start("write_some", count=20, each=3)
    assert [workers.join(first), workers.join(second)] == [0, 0]
    settle()
    assert _created() == _committed()
    assert _created().total() == 120
    emitters = Record.objects.filter(action="create").values_list("emitter", flat=True)
    assert len(set(emitters)) == 2


@pytest.mark.django_db(transaction=True)
def test_relay_keeps_up_with_writers_that_are_killed(workers: Forks, tmp_path: Path, settle):
    chance = random.Random()
    side = tmp_path / "side"
    for _ in range(5):
        pid = workers.start("write", side=str(side), seed=chance.getrandbits(32))
        for _ in range(3):
            relay(seconds=0.1)
        workers.kill(pid)
    until_gone()
    settle()
    assert _noted(side) <= set(_committed())
    assert _created() == _committed()
