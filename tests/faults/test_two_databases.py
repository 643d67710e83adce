"""The ledger in another database than the changes, and what happens between the two."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from audit_log.delivery import outboxes
from audit_log.delivery.claims import Relayed
from audit_log.delivery.relay import relay_everywhere
from audit_log.models import Outbox, Record
from tests.faults.forks import Forks, forks
from tests.faults.killing import FILLS, kill_until_empty
from tests.faults.postgres import Postgres, postgres_cluster
from tests.faults.servers import redis_server
from tests.faults.workers import beat, wait_until, worker
from tests.settings import DATABASE
from tests.shop.models import Category

pytestmark = pytest.mark.slow

KILLS = 20


@pytest.fixture
def apart(environment: dict[str, str], settings: Any) -> None:
    """The ledger in "other", for this process and for those that it starts."""
    environment["FAULTS_AUDIT_LOG"] = json.dumps({"DATABASE": "other"})
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "DATABASE": "other"}
    settings.DATABASE_ROUTERS = ["audit_log.router.AuditRouter"]
    outboxes.forget()


@pytest.mark.usefixtures("apart")
@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_relay_killed_between_the_two_commits_stores_every_event_once(
    workers: Forks, tmp_path: Path, settle, measured
):
    """worker_kill_between_dbs, K2: the ledger has committed, the outbox has not."""
    repeated = 0
    for n in range(KILLS):
        Category.objects.create(name=f"first {n}")
        Category.objects.create(name=f"second {n}")
        mark = tmp_path / f"gap {n}"
        pid = workers.start("relay_into_the_gap", mark=str(mark))
        wait_until(mark.exists, "the relay did not come to the gap")
        assert workers.kill(pid) == -9
        assert Outbox.objects.count() == 2
        assert Record.objects.filter(action="create").count() == 2 * (n + 1)
        repeated += _relay_what_the_dead_one_held()
    measured(f"{KILLS} relays killed between the commits, {repeated} events repeated")
    assert repeated == 2 * KILLS
    _assert_exact(settle)


@pytest.mark.usefixtures("apart")
@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_relays_killed_at_any_moment_store_every_event_once(workers: Forks, settle, measured):
    """worker_kill9_mid_relay, with two databases."""
    kills = 0
    for _ in range(FILLS):
        for n in range(300):
            Category.objects.create(name=f"made {n}")
        kills += kill_until_empty(lambda: [workers.start("relay_all", rows=10)], workers)
        if kills >= 5:
            break
    measured(f"{kills} relays killed")
    assert kills >= 5
    _assert_exact(settle)


def _relay_what_the_dead_one_held() -> int:
    """Relay until the outbox is empty. How many events the ledger had already: all of them.

    Not once: a server may notice a killed client late, and others pass over its locked rows.
    """
    moves: list[Relayed] = []

    def emptied() -> bool:
        moves.append(relay_everywhere())
        return not Outbox.objects.exists()

    wait_until(emptied, "the killed relay's batches stayed locked")
    assert not any(moved.events or moved.failed or moved.parked for moved in moves)
    return sum(moved.repeated for moved in moves)


def _assert_exact(settle: Any) -> None:
    relay_everywhere()
    settle()
    assert not Record.objects.using("default").exists()
    rows = Record.objects.filter(action="create").values_list("target_id", flat=True)
    assert Counter(rows) == Counter(map(str, Category.objects.values_list("pk", flat=True)))


@pytest.fixture
def cluster() -> Iterator[Postgres]:
    with postgres_cluster() as running:
        yield running


@pytest.mark.skipif(DATABASE != "postgres", reason="the ledger is on PostgreSQL: once is enough")
@pytest.mark.django_db(transaction=True)
def test_ledger_that_is_down_is_felt_by_nobody_and_gets_everything_later(
    cluster: Postgres, environment: dict[str, str], tmp_path: Path, measured
):
    """K5, audit_db_down."""
    environment["FAULTS_DATABASES"] = json.dumps({"audit": cluster.settings})
    environment["FAULTS_AUDIT_LOG"] = json.dumps({"DATABASE": "audit"})
    with redis_server(tmp_path) as broker:
        environment["FAULTS_BROKER"] = broker.url
        migrate = ["migrate", "audit_log", "--database", "audit"]
        _job(environment, "command", words=migrate)
        with worker(environment, tmp_path), beat(environment, tmp_path):
            up = _requests(environment, tmp_path)
            wait_until(lambda: not Outbox.objects.exists(), "the worker does not work")
            cluster.stop()
            down = [_requests(environment, tmp_path) for _ in range(3)]
            waiting = Outbox.objects.count()
            _until_swept(tmp_path)  # which can do nothing
            assert Outbox.objects.count() == waiting >= 60
            cluster.start()
            wait_until(lambda: not Outbox.objects.exists(), "not all was stored")
    for report in (up, *down):
        assert set(report["answers"]) == {200}
        assert report["losses"] == {}
        assert report["logged"] == []
    assert not list((tmp_path / "spool").glob("*"))
    measured(f"{waiting} batches waited while the ledger was down")
    _job(environment, "ledger_report", result=str(tmp_path / "ledger"))
    ledger = json.loads((tmp_path / "ledger").read_text())
    assert ledger["findings"] == []
    made = Category.objects.values_list("pk", flat=True)
    assert len(made) == 80
    assert Counter(ledger["created"]) == Counter(map(str, made))


def _until_swept(folder: Path) -> None:
    """Until the worker, which does one task at a time, has tried in vain what beat asks of it."""

    def tasks() -> int:
        return (folder / "worker.log").read_text().count("] received")

    before = tasks()
    wait_until(lambda: tasks() > before + 1, "no sweep came by")


def _job(environment: dict[str, str], job: str, **arguments: Any) -> None:
    with forks(environment) as workers:
        assert workers.join(workers.start(job, **arguments)) == 0


def _requests(environment: dict[str, str], folder: Path) -> Any:
    result = str(folder / "result")
    _job(environment, "requests", result=result, count=20, pause=0.01, patient=True)
    return json.loads(Path(result).read_text())
