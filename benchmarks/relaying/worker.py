"""A relay in a process of its own, told by lines on its standard input.

`relay` moves all there is; `stages` the same with a clock in every stage; `ready` prepares what
waits, and `floor` then moves it. Each answers with a line of JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import django


def main() -> None:
    """Answer until the input ends."""
    django.setup()
    from django.test.utils import setup_test_environment  # noqa: PLC0415

    setup_test_environment()  # no nudge thread: the benchmark itself says when
    _say({"ready": True})
    for line in sys.stdin:
        _say(_answer(line.strip()))


_ready: dict[int, Any] = {}


def _answer(command: str) -> dict[str, Any]:
    from audit_log.delivery.relay import relay  # noqa: PLC0415
    from benchmarks.relaying import floor, stages  # noqa: PLC0415

    if command == "ready":
        _ready.clear()
        _ready.update(floor.ready())
        return {"ready": True}
    clock = stages.Clock()
    around: AbstractContextManager[None] = nullcontext()
    if command == "stages":
        around = stages.watched(clock)
    elif command == "floor":
        around = floor.installed(_ready)
    began = time.monotonic()
    with around:
        moved = relay()
    ended = time.monotonic()
    return {
        "began": began,
        "ended": ended,
        "events": moved.events,
        "lost": moved.failed + moved.parked + moved.repeated,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "cpu": time.process_time(),
        "stages": clock.seconds,
    }


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
