"""What a project's own maskers make of a value, and the plain mask where they fail."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from audit_log.events import JSON
from audit_log.privacy.redaction import mask

logger = logging.getLogger(__name__)

Masker = Callable[[Any], Any]
MAX_MASK: Final = 64
_TELLING: Final = 4  # characters: shorter values stand in other words by chance
_warned: set[tuple[str, str]] = set()


def shown(
    value: JSON, path: str, *, keep_last4: bool = False, masker: Masker | None = None
) -> str | None:
    """What stands for a masked value: what `masker` makes of it, else the plain mask.

    The masker gets the value as the log would have it (text, number, truth, list, dict), never
    None, and returns text, of which 64 characters are kept. Closed when it fails: what it raises,
    no text, and text that still holds the value give the plain mask, and one warning. Never raises.
    """
    plain = mask(value, keep_last4=keep_last4)
    if masker is None or value is None:
        return plain
    try:
        made = masker(value)
        if not isinstance(made, str):
            return _failed(path, f"returned a {type(made).__name__}, no text", plain)
        made = _storable(made)[:MAX_MASK]
        if _holds(made, str(value)):
            return _failed(path, "returned the value itself", plain)
    except Exception as error:  # noqa: BLE001 - the project's code can raise anything
        # The error's text and traceback may hold the value: only its type is logged.
        return _failed(path, f"failed ({type(error).__name__})", plain)
    return made


def _storable(text: str) -> str:
    """Without what no database takes."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def _holds(made: str, value: str) -> bool:
    folded = value.strip().casefold()
    if len(folded) < _TELLING:
        return made.strip().casefold() == folded
    return folded[:MAX_MASK] in made.casefold()


def _failed(path: str, what: str, plain: str | None) -> str | None:
    if (path, what) not in _warned:
        _warned.add((path, what))
        logger.warning("The masker of %s %s; the plain mask stands for the value.", path, what)
    return plain
