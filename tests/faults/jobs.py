"""What the processes of the fault tests do. Each is a function that a forked child runs."""

from __future__ import annotations

import itertools
import json
import logging
import os
import random
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.db import connection, transaction
from django.test import Client

from audit_log import context
from audit_log.recording import losses, nudge, outbox, spool
from tests.retention.nights import night
from tests.shop.models import Category

SECONDS = 300  # not to hang


def write(side: str, seed: int) -> None:
    """Write until killed. After each COMMIT that returned, note the ids in the file `side`."""
    chance = random.Random(seed)
    descriptor = os.open(side, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    ways = (_autocommit, _in_a_transaction, _rolled_back, _with_savepoints, _by_hand)
    while True:
        ids = chance.choice(ways)(chance)
        os.write(descriptor, "".join(f"{pk}\n" for pk in ids).encode())


def _made(chance: random.Random) -> int:
    return Category.objects.create(name=f"made {chance.random()}").pk


def _autocommit(chance: random.Random) -> list[int]:
    return [_made(chance)]


def _in_a_transaction(chance: random.Random) -> list[int]:
    with transaction.atomic():
        return [_made(chance) for _ in range(chance.randint(1, 3))]


def _rolled_back(chance: random.Random) -> list[int]:
    with transaction.atomic():
        _made(chance)
        transaction.set_rollback(True)
    return []


def _with_savepoints(chance: random.Random) -> list[int]:
    with transaction.atomic():
        ids = [_made(chance)]
        with transaction.atomic():
            _made(chance)
            transaction.set_rollback(True)
        with transaction.atomic():
            ids.append(_made(chance))
    return ids


def _by_hand(chance: random.Random) -> list[int]:
    transaction.set_autocommit(False)
    try:
        ids = [_made(chance)]
        if chance.random() < 0.5:
            connection.rollback()
            return []
        connection.commit()
        return ids
    finally:
        transaction.set_autocommit(True)


def write_some(count: int, each: int) -> None:
    """Commit `count` transactions of `each` rows."""
    for n in range(count):
        with transaction.atomic():
            for m in range(each):
                Category.objects.create(name=f"{n}.{m}")


def relay(go: str, rows: int) -> None:
    """Relay until nothing is left, once the file `go` is there; `rows` batches at a time."""
    from audit_log.delivery import claims
    from audit_log.delivery import relay as delivery

    claims.MAX_ROWS = rows  # type: ignore[misc]
    _wait_for(go)
    delivery.relay()


def relay_into_the_gap(mark: str) -> None:
    """Relay what the ledger has in another database, and stop between the two commits."""
    from audit_log.delivery import relay as delivery
    from audit_log.delivery.claims import Claim

    def wait(_: Any) -> None:
        Path(mark).touch()
        time.sleep(SECONDS)

    Claim._put_failures_apart = wait  # type: ignore[method-assign,assignment]
    delivery.relay("default")


def relay_all(rows: int) -> None:
    """Relay every outbox, `rows` batches at a time."""
    from audit_log.delivery import claims
    from audit_log.delivery import relay as delivery

    claims.MAX_ROWS = rows  # type: ignore[misc]
    delivery.relay_everywhere()


def command(words: list[str]) -> None:
    """Run a management command."""
    call_command(*words, verbosity=0)


def baseline(batch: int, point: str = "", go: str = "") -> None:
    """Take a baseline, once the file `go` is there; SIGKILL at a point of its second batch."""
    from audit_log.capture.baseline import run

    insert, batches = outbox.insert, itertools.count(1)

    def killed(*args: Any) -> None:
        is_second = next(batches) == 2
        if is_second and point == "before insert":
            os.kill(os.getpid(), signal.SIGKILL)
        insert(*args)
        if is_second and point == "after insert":
            os.kill(os.getpid(), signal.SIGKILL)

    def told(kind: str, counted: Any) -> None:
        if point == "after commit" and counted.written == 2 * batch:
            os.kill(os.getpid(), signal.SIGKILL)

    if go:
        _wait_for(go)
    outbox.insert = killed  # type: ignore[assignment]
    run([Category], batch=batch, progress=told)


def rename(count: int, seed: int) -> None:
    """Change objects at random until killed."""
    chance = random.Random(seed)
    while True:
        category = Category.objects.get(pk=chance.randint(1, count))
        category.name = f"{seed} {chance.random()}"
        category.save()


def ledger_report(result: str) -> None:
    """What the ledger holds: the created rows in their order, and what verification finds."""
    from audit_log.ledger.verification import verify
    from audit_log.models import Record

    rows = Record.objects.filter(action="create", target_type="shop.category")
    report = {
        "created": list(rows.order_by("sequence").values_list("target_id", flat=True)),
        "streams": verify().streams,
        "findings": [finding.message for finding in verify().findings],
    }
    Path(result).write_text(json.dumps(report))


def _batch(text: str) -> outbox.Row:
    (row,) = outbox.rows_of([context.new_event("probe.spooled", source="explicit", reason=text)])
    return row


def spool_slowly(side: str) -> None:
    """Spool until killed, a hundred bytes at a time, so that a kill comes between them."""
    whole = os.write

    def piecemeal(descriptor: int, data: Any) -> int:
        time.sleep(0.0005)
        return whole(descriptor, bytes(data[:100]))

    noted = os.open(side, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    spool.os.write = piecemeal  # type: ignore[attr-defined]
    for n in range(1_000_000):
        spool.write("default", [_batch(f"{n} {os.urandom(1_000).hex()}")])
        whole(noted, b".")


def spool_beyond_the_limit(limit: int) -> None:
    """Spool a batch that fits, one that the file system cuts off in the middle, and another."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    for text in ("fits", os.urandom(limit).hex(), "fits too"):
        spool.write("default", [_batch(text)])


def replay(go: str) -> None:
    """Replay the spool, once the file `go` is there."""
    _wait_for(go)
    spool.replay()


def _wait_for(go: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not Path(go).exists():
        assert time.monotonic() < deadline
        time.sleep(0.001)


class _Messages(logging.Handler):
    """What `audit_log` logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def commit(result: str, count: int, pause: float = 0, *, patient: bool = False) -> None:
    """Commit, and report what was felt of the nudge. `patient`: the broker works, if slowly."""

    def save(n: int) -> int:
        return Category.objects.create(name=f"committed {n}").pk

    _measure(save, result, count=count, pause=pause, patient=patient)


def requests(result: str, count: int, pause: float = 0, *, patient: bool = False) -> None:
    """The same with requests that commit; the answers are their status codes."""
    client = Client()

    def ask(n: int) -> int:
        return client.get("/create/", {"name": f"requested {n}"}).status_code

    _measure(ask, result, count=count, pause=pause, patient=patient)


class _Flag(threading.Event):
    """The nudge thread's flag, which tells whether the thread waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self._waited_for = False

    def wait(self, timeout: float | None = None) -> bool:
        self._waited_for = True
        found = super().wait(timeout)
        self._waited_for = False
        return found

    def is_quiet(self) -> bool:
        """Whether the thread has done all that it was woken for."""
        return not self.is_set() and self._waited_for  # in this order


def _quiet_flag() -> _Flag:
    nudger = nudge._nudger
    if not isinstance(nudger._flag, _Flag):
        assert not nudger.is_running()
        nudger._flag = _Flag()
    flag = nudger._flag
    assert isinstance(flag, _Flag)
    return flag


def be_patient() -> None:
    """Wait for a broker however long it takes: on a busy machine also one that works is slow."""
    nudge._CONNECT_SECONDS = SECONDS  # type: ignore[misc]
    for options in nudge._BOUNDED.values():
        options.update({name: SECONDS for name in options if name.endswith("timeout")})


def _measure(
    act: Callable[[int], int], result: str, *, count: int, pause: float, patient: bool
) -> None:
    """Act, and report answers, times, threads, connections and log lines."""
    if patient:
        be_patient()
    messages = _Messages()
    logging.getLogger("audit_log").addHandler(messages)
    connected: list[str] = []
    connect = socket.socket.connect

    def noting(self: socket.socket, address: Any) -> Any:
        connected.append(threading.current_thread().name)
        return connect(self, address)

    connection.ensure_connection()  # not what is looked at
    socket.socket.connect = noting  # type: ignore[method-assign,assignment]
    before = [thread.name for thread in threading.enumerate()]
    flag = _quiet_flag()
    began = time.monotonic()
    answers, seconds = [], []
    for n in range(count):
        started = time.perf_counter()
        answers.append(act(n))
        seconds.append(time.perf_counter() - started)
        time.sleep(pause)
    while not flag.is_quiet():
        assert time.monotonic() < began + SECONDS
        time.sleep(0.01)
    report = {
        "answers": answers,
        "threads_before": before,
        "threads_after": [thread.name for thread in threading.enumerate()],
        "connected": connected,
        "seconds": seconds,
        "lasted": time.monotonic() - began,
        "logged": messages.texts,
        "losses": losses.counts(),
    }
    Path(result).write_text(json.dumps(report))


def commit_and_fork(result: str) -> None:
    """Commit, fork once the nudge thread runs, and commit in the child as well."""
    commit(f"{result}.parent", 1, patient=True)
    connection.close()  # or both would speak through it
    pid = os.fork()
    commit(f"{result}.{'parent again' if pid else 'child'}", 1, patient=True)
    if pid:
        os.waitpid(pid, 0)


JOBS: dict[str, Callable[..., None]] = {
    "write": write,
    "write_some": write_some,
    "relay": relay,
    "relay_all": relay_all,
    "relay_into_the_gap": relay_into_the_gap,
    "command": command,
    "baseline": baseline,
    "rename": rename,
    "ledger_report": ledger_report,
    "spool_slowly": spool_slowly,
    "spool_beyond_the_limit": spool_beyond_the_limit,
    "replay": replay,
    "commit": commit,
    "night": night,
    "requests": requests,
    "commit_and_fork": commit_and_fork,
}
