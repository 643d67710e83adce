"""Moving batches from the outbox into the ledger, without Celery."""

from __future__ import annotations

import logging
import signal
import threading
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Final

from django.core.management.base import CommandError
from django.db import DatabaseError, close_old_connections, connections

from audit_log.alerts import sweeping
from audit_log.delivery import outboxes
from audit_log.delivery.claims import Relayed
from audit_log.delivery.relay import relay, relay_everywhere, waiting
from audit_log.exceptions import AuditLogError
from audit_log.management.output import Output
from audit_log.privacy.words import tellable

logger = logging.getLogger("audit_log")

HELP = "Move what waits in the outbox into the ledger."
_INTERVAL_SECONDS: Final = 1.0
_ROUND_SECONDS: Final = 5.0  # a stop is noticed this late at most, however much waits
_MAX_PAUSE_SECONDS: Final = 30.0
_SWEEP_SECONDS: Final = 60.0  # for alerts whose mail failed, as beat does it


def add_arguments(parser: ArgumentParser) -> None:
    """`--loop` and `--interval`."""
    parser.add_argument(
        "--loop", action="store_true", help="Go on until SIGTERM or SIGINT, in place of a worker."
    )
    parser.add_argument(
        "--interval",
        type=_seconds,
        default=_INTERVAL_SECONDS,
        help="Seconds between two looks with --loop (default: %(default)s).",
    )


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= threading.TIMEOUT_MAX:
        raise ArgumentTypeError("must be more than 0")
    return seconds


def run(options: dict[str, Any], out: Output) -> None:
    """Relay once, or until told to stop. Raises CommandError where batches failed."""
    using: str | None = options["database"]
    if options["loop"]:
        moved = _loop(using, options["interval"], out)
    else:
        moved = _relay(using, progress=lambda so_far: out.progress(_words(so_far)))
        if moved.events and sweeping.sweep():
            moved.add(_relay(using))  # that they fired is recorded too
    left = sum(map(waiting, outboxes.aliases() if using is None else [using]))
    out.json({**asdict(moved), "waiting": left})
    out.line(_words(moved) + f", {left} batches wait")
    if not options["loop"] and (moved.failed or moved.parked):
        raise CommandError(
            f"{moved.failed} batches failed and will be tried again, {moved.parked} events were "
            "parked. `manage.py audit_log status` says why."
        )


def _words(moved: Relayed) -> str:
    return (
        f"{moved.batches} batches moved, {moved.events} records stored, {moved.repeated} repeated, "
        f"{moved.failed} failed, {moved.parked} parked"
    )


def _relay(using: str | None, **options: Any) -> Relayed:
    return relay_everywhere(**options) if using is None else relay(using, **options)


def _loop(using: str | None, interval: float, out: Output) -> Relayed:
    total = Relayed()
    pause = interval
    sweep_at = 0.0
    with _told_to_stop() as stop:
        out.line(f"Relaying every {interval:g} s until SIGTERM or SIGINT.")
        while not stop.is_set():
            try:
                close_old_connections()
                moved = _relay(using, seconds=_ROUND_SECONDS)
            except (DatabaseError, AuditLogError) as error:
                # A server that restarts must not end the loop; it is asked less and less often.
                logger.error(  # noqa: TRY400 - a database quotes the row that it refuses
                    "The relay failed and will try again.", exc_info=tellable(error)
                )
                connections.close_all()
                pause = min(pause * 2, _MAX_PAUSE_SECONDS)
            else:
                total.add(moved)
                pause = interval
                if moved.batches or moved.failed or moved.parked:
                    out.line(_words(moved))
                if moved.events or time.monotonic() >= sweep_at:
                    sweeping.sweep(seconds=_ROUND_SECONDS)
                    sweep_at = time.monotonic() + _SWEEP_SECONDS
            stop.wait(pause)
    return total


@contextmanager
def _told_to_stop() -> Iterator[threading.Event]:
    """An event that the first SIGTERM or SIGINT sets; a second one acts as it always did."""
    stop = threading.Event()
    before: dict[int, Any] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def told(_number: int, _frame: Any) -> None:
        stop.set()
        restore()

    for number in (signal.SIGTERM, signal.SIGINT):
        before[number] = signal.signal(number, told)
    try:
        yield stop
    finally:
        restore()
