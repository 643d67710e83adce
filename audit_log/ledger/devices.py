"""What a user agent says: browser, system and device, by ua-parser. The only module to import it.

In the relay, where nobody waits for it, and only if it is installed there (the extra `devices`).
"""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from typing import Any, Final

import msgspec

from audit_log.events import Event
from audit_log.recording import losses
from audit_log.recording.values import clean

_parse: Any = None
with suppress(ImportError):
    from ua_parser import parse as _parse

# One event of a request tells it, and those of accounts: the others have the same `request_id`.
_SOURCES: Final = frozenset({"request", "auth"})
_MAX_AGENT: Final = 256  # its patterns are many, and none of ours
_MAX_FAMILY: Final = 64
_PARTS: Final = (("browser", "user_agent"), ("system", "os"), ("device", "device"))


def described(event: Event) -> Event:
    """The event with `data.device`, where it is one to have it: families only, stored open."""
    request = event.request
    if _parse is None or request is None or not request.user_agent or event.source not in _SOURCES:
        return event
    families = _families(request.user_agent[:_MAX_AGENT])
    if not families:
        return event
    return msgspec.structs.replace(event, data={"device": families, **(event.data or {})})


@lru_cache(maxsize=1024)
def _families(agent: str) -> dict[str, str]:
    try:
        found = _parse(agent)
        parts = {name: getattr(found, attribute) for name, attribute in _PARTS}
        return {
            name: clean(str(part.family))[:_MAX_FAMILY]
            for name, part in parts.items()
            if part is not None and part.family
        }
    except Exception:  # noqa: BLE001 - the agent is a stranger's word, the parser somebody else's
        losses.warn("device_failed", "A user agent could not be parsed.")
        return {}
