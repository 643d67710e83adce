"""Whether a session is suddenly used from elsewhere: a hint that somebody took it over.

What this process remembers of its last sessions is all that is looked at: no query, nothing in the
session itself. A process that sees a session for the first time knows nothing of it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final

from audit_log import forks

_MAX_SESSIONS: Final = 4096

_lock = threading.Lock()
_seen: OrderedDict[str, tuple[str | None, int]] = OrderedDict()


def moved(session: str | None, ip: str | None, agent: str | None) -> list[str]:
    """What is not as it was when the session was last seen: `address`, `agent`, both or neither."""
    if session is None:
        return []
    now = (ip, hash(agent))
    with _lock:
        before = _seen.pop(session, now)
        _seen[session] = now
        if len(_seen) > _MAX_SESSIONS:
            _seen.popitem(last=False)
    differs = [known != new for known, new in zip(before, now, strict=True)]
    return [name for name, other in zip(("address", "agent"), differs, strict=True) if other]


def forget() -> None:
    """As a process that has seen none."""
    global _lock  # noqa: PLW0603 - another thread of the parent may have held it
    _lock = threading.Lock()
    _seen.clear()


forks.on_fork(forget)
