"""A ledger of many records, made by the server itself: what a relay or a search meets in years.

`fill("default", 10_000_000)` brings a migrated database whose ledger is empty to that size;
`python -m benchmarks.filling --database postgres --records 1000000` does so in a database of its
own, and says how long it took.

What it makes is of realistic widths and spread: ids are UUIDv7 of the last 90 days, sequences have
no gap, 3 in 10 records are requests, actors and targets repeat unevenly. The tree is a real one,
over made-up leaves: tiles and head agree, so the relay goes on appending, checkpoints can be signed
and old ones shown consistent. **Such a ledger does not verify**: its leaves are not the hashes of
its rows. Nor can its sealed columns be opened: they name a key that is not there, as if everybody
had been erased.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from tests.databases import ENGINES, empty_database

_SETTINGS: Final = "benchmarks.relay_settings"


def fill(using: str, records: int, *, progress: Callable[[str], None] = lambda _said: None) -> None:
    """Bring the empty ledger of `using` to `records` records in the stream "default".

    Secondary indexes are dropped before and made again behind the rows, which is several times
    faster. Raises ValueError where there is a ledger already. A fill that fails leaves a database
    that is good for nothing.
    """
    from benchmarks import filling_rows  # noqa: PLC0415 - models, which need Django set up

    filling_rows.fill(using, records, progress=progress)


def main() -> None:
    """Fill a database of our own, which is dropped afterwards unless it is to be kept."""
    parser = argparse.ArgumentParser(description="A ledger of many records")
    parser.add_argument("--database", choices=ENGINES, default="postgres")
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--keep", action="store_true", help="do not drop the database")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        name = f"audit_log_bench_filling_{os.getpid()}"
        made = stack.enter_context(empty_database(options.database, name, folder))
        _fill_new(options.database, made, options.records)
        if options.keep:
            stack.pop_all()
            print(f"Kept: {made}")


def _fill_new(engine: str, name: str, records: int) -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = _SETTINGS
    os.environ["AUDIT_LOG_BENCH_DB"], os.environ["AUDIT_LOG_BENCH_NAME"] = engine, name
    import django  # noqa: PLC0415
    from django.core.management import call_command  # noqa: PLC0415
    from django.db import connections  # noqa: PLC0415

    django.setup()
    call_command("migrate", run_syncdb=True, verbosity=0)
    began = time.monotonic()
    fill(
        "default", records, progress=lambda said: print(f"{time.monotonic() - began:7.0f} s {said}")
    )
    connections.close_all()


if __name__ == "__main__":
    main()
