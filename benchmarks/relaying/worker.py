"""A relay in a process of its own, told by lines on its standard input.

`relay` moves all there is; `stages` the same with a clock in every stage; each answers with a line
of JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import time
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


def _answer(command: str) -> dict[str, Any]:
    from audit_log.delivery.relay import relay  # noqa: PLC0415
    from benchmarks.relaying import stages  # noqa: PLC0415

    clock = stages.Clock()
    began = time.monotonic()
    if command == "stages":
        with stages.watched(clock):
            moved = relay()
    else:
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
