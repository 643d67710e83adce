"""The process of one subject: does what the parent asks for, one line of JSON each way.

`python -m benchmarks.worker`, with BENCHMARK_SUBJECT and BENCHMARK_DATABASE in the environment. It
ends when its input does.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any, Final, TextIO

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")
django.setup()

from django.core.management import call_command  # noqa: E402 - after setup
from django.db import connection, transaction  # noqa: E402

from benchmarks import stored  # noqa: E402
from benchmarks.catalog import peers  # noqa: E402
from benchmarks.catalog.contents import item_values  # noqa: E402
from benchmarks.catalog.models import Item  # noqa: E402
from benchmarks.client import Client  # noqa: E402
from benchmarks.operations import Operations  # noqa: E402
from benchmarks.plan import NAMES as OPERATION_NAMES  # noqa: E402
from benchmarks.probes import Probes  # noqa: E402
from benchmarks.subjects import BY_NAME  # noqa: E402
from benchmarks.traffic import counted  # noqa: E402

_WARMING: Final = 3
_AFTERMATH_SECONDS: Final = 0.2  # our thread gathers for 0.1 s, then writes
_TOGETHER: Final = 100


class Worker:
    """The commands. Each returns what goes back to the parent."""

    def __init__(self, subject: str) -> None:
        self.subject = BY_NAME[subject]
        self.keep: list[Any] = []
        if self.subject.is_ours:
            self.keep.append(_celery())

    def setup(self) -> dict[str, Any]:
        """Tables, rows, a session; and everything is done a few times."""
        call_command("migrate", verbosity=0)
        call_command("migrate", run_syncdb=True, verbosity=0)
        peers.install(self.subject.name)
        self.client = Client()
        self.operations = Operations(self.client).by_name()
        return {"rss_kb": _resident()}

    def warm(self) -> dict[str, Any]:
        """Run each operation a few times, then have the collector leave alone what is there."""
        for name in OPERATION_NAMES:
            self.time(name, _WARMING)
        gc.collect()
        gc.freeze()
        return {}

    def time(self, operation: str, iterations: int) -> dict[str, Any]:
        """`us`: wall-clock microseconds of each iteration; `cpu_us`: of the whole process, each.

        The latter holds what threads do in the background, which is waited for.
        """
        prepared = self.operations[operation]
        block = self.subject.name if prepared.writes else ""
        gc.collect()
        found: list[float] = []
        began, preparing = time.process_time(), 0.0
        for _ in range(iterations):
            start = time.process_time()
            argument = prepared.prepare()
            preparing += time.process_time() - start
            begin = time.perf_counter_ns()
            with peers.unit(block):
                prepared.run(argument)
            found.append((time.perf_counter_ns() - begin) / 1000)
        if self.subject.is_ours:
            time.sleep(_AFTERMATH_SECONDS)
        spent = time.process_time() - began - preparing
        return {"us": found, "cpu_us": spent / iterations * 1e6}

    def count(self, operation: str) -> dict[str, Any]:
        """What one iteration sends to the server, and how many events come of it."""
        prepared = self.operations[operation]
        argument = prepared.prepare()
        before = stored.events(self.subject)
        connection.ensure_connection()
        block = self.subject.name if prepared.writes else ""
        with counted(connection.connection) as traffic, peers.unit(block):
            prepared.run(argument)
        return {
            "queries": traffic.messages,
            "statements": traffic.statements,
            "captured": stored.events(self.subject) - before,
        }

    def rest(self) -> dict[str, Any]:
        """Between two rounds: our relay, and dead rows removed for all."""
        stored.settle(self.subject)
        stored.refuse_losses(self.subject)
        if connection.vendor == "postgresql":
            stored.vacuum(self.subject)
        return {}

    def probe(self) -> dict[str, Any]:
        """What is recorded and what not."""
        return {"recorded": Probes(self.subject, self.client).all()}

    def fill(self, events: int) -> dict[str, Any]:
        """Half creations, half updates, a hundred in a transaction; memory, then bytes."""
        before, size = stored.events(self.subject), stored.size(self.subject)
        resident = _resident()
        for number in range(events // _TOGETHER):
            with peers.unit(self.subject.name), transaction.atomic():
                self._create() if number % 2 == 0 else self._update()
        gc.collect()
        grown = _resident()
        stored.refuse_losses(self.subject)
        return {
            "rss_kb_before": resident,
            "rss_kb": grown,
            "events": stored.events(self.subject) - before,
            "bytes": stored.size(self.subject) - size,
        }

    def _create(self) -> None:
        for _ in range(_TOGETHER):
            Item.objects.create(**item_values())

    def _update(self) -> None:
        for item in Item.objects.order_by("-pk")[:_TOGETHER]:
            fresh = item_values()
            item.name, item.price = fresh["name"], fresh["price"]
            item.save()


def _celery() -> Any:
    """A Celery app, as projects have one: our thread sends it a message where there is work."""
    from celery import Celery  # noqa: PLC0415 - ours only

    return Celery("benchmark", broker=os.environ.get("BENCHMARK_BROKER", "memory://"))


def _resident() -> int:
    """Kilobytes of memory that the process holds now; where that is not known, the most it held."""
    with contextlib.suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") // 1024
    import resource  # noqa: PLC0415 - not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def serve(worker: Worker, answers: TextIO) -> None:
    """Answer until there is nothing more to read."""
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = getattr(worker, asked.pop("command"))(**asked)
        except Exception:  # noqa: BLE001 - the parent raises it
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def main() -> None:
    """Serve on the real stdout; whatever else is printed goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(Worker(os.environ["BENCHMARK_SUBJECT"]), answers)


if __name__ == "__main__":
    main()
