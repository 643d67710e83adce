"""What a forked child begins anew: its name, its locks, its threads, what waits to be written."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any

_renewals: list[Callable[[], None]] = []
_lock = threading.Lock()
_process = os.getpid()


def on_fork(renew: Callable[[], None]) -> None:
    """Have `renew` called in every child of this process, before it captures anything."""
    _renewals.append(renew)


def notice() -> None:
    """Renew now if this is a child that nobody told so: uWSGI forks behind Python's back."""
    if os.getpid() == _process:
        return
    with _lock:
        if os.getpid() != _process:
            _renew()


def may_start_threads() -> bool:
    """Not in uWSGI's master, nor in its workers where threads were not asked for.

    There a thread would not run, and workers forked while it waits for the interpreter's lock would
    wait for it for ever.
    """
    uwsgi: Any = sys.modules.get("uwsgi")  # there is one only inside of it
    if not hasattr(uwsgi, "worker_id"):
        return True
    return bool(uwsgi.worker_id() and getattr(uwsgi, "has_threads", True))


def _renew() -> None:
    global _process  # noqa: PLW0603 - a child is another process
    for renew in _renewals:
        renew()
    _process = os.getpid()


def _after_fork() -> None:
    global _lock  # noqa: PLW0603 - another thread of the parent may have held it
    _lock = threading.Lock()
    _renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
