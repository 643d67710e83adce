"""Kills that hit relays in the middle of their work."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from django.db import connection

from audit_log.models import Outbox
from tests.faults.forks import Forks
from tests.faults.workers import wait_until

_OTHERS = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
    "AND backend_type = 'client backend' AND pid <> pg_backend_pid()",
    "mysql": "SELECT count(*) FROM information_schema.processlist WHERE db = DATABASE() "
    "AND id <> CONNECTION_ID()",
}
# How often an outbox is filled anew where a machine that stalls let the relays get away.
FILLS = 8
_PROGRESS_SECONDS = 20  # then they are killed as they are: all rows may still be locked


def until_gone() -> None:
    """Until the server is done with what killed processes had asked it for."""
    wait_until(lambda: not _others(), "the server still serves whom we killed")


def _others() -> int:
    if connection.vendor == "sqlite":
        return 0  # its processes are the server
    with connection.cursor() as cursor:
        cursor.execute(_OTHERS[connection.vendor])
        return int(cursor.fetchone()[0])


def kill_until_empty(start: Callable[[], list[int]], workers: Forks) -> int:
    """Start relays and kill them in the claim after their first, until the outbox is empty.

    How many were killed between their first claim and the last.
    """
    chance = random.Random()
    kills = 0
    while before := Outbox.objects.count():
        pids = start()
        deadline = time.monotonic() + _PROGRESS_SECONDS
        while Outbox.objects.count() == before and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.05))  # into the claim that follows
        killed = sum(workers.kill(pid) == -9 for pid in pids)
        if 0 < Outbox.objects.count() < before:
            kills += killed
    return kills
