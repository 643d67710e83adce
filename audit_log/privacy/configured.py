"""The detectors that the setting DETECTORS asks for, read once: never while events wait.

Each entry is the dotted path of a `Detector`, of a compiled pattern, or of a callable without
arguments that returns one or several of these; or "-name", which switches a personal one of ours
off. Secrets are always looked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, Final

from django.utils.module_loading import import_string

from audit_log import conf
from audit_log.exceptions import ConfigurationError
from audit_log.privacy.backtracking import Refused, weigh
from audit_log.privacy.detectors import (
    BUILT_IN,
    DETECTORS,
    OVERLAP,
    Detector,
    checked_name,
    take_from,
)
from audit_log.privacy.finders import ByPattern

_OFF: Final = "-"


@lru_cache(maxsize=1)
def detectors() -> tuple[Detector, ...]:
    """Those in force, ours first. Raises ConfigurationError naming the entry that is wrong."""
    named = conf.get_settings().detectors
    if not named:
        return DETECTORS
    off = {entry.removeprefix(_OFF) for entry in named if entry.startswith(_OFF)}
    for name in sorted(off):
        _may_be_off(name)
    found = [detector for detector in DETECTORS if detector.name not in off]
    for entry in named:
        if not entry.startswith(_OFF):
            found += _of(entry, {*BUILT_IN, *(detector.name for detector in found)})
    return tuple(found)


conf.on_change(detectors.cache_clear)
take_from(detectors)


def _refused(entry: str, why: str) -> ConfigurationError:
    return ConfigurationError(f'AUDIT_LOG["DETECTORS"]: {entry!r} {why}')


def _may_be_off(name: str) -> None:
    personal = [detector.name for detector in DETECTORS if detector.personal]
    if name in personal:
        return
    why = "finds secrets, and is never off." if name in BUILT_IN else "names none of ours."
    raise _refused(_OFF + name, f"{why} These can be switched off: {', '.join(personal)}.")


def _of(entry: str, taken: set[str]) -> list[Detector]:
    """What an entry leads to."""
    try:
        named = import_string(entry)
        found = list(_made(entry, named() if callable(named) else named))
    except ConfigurationError as error:
        raise _refused(entry, f"cannot be used. {error}") from error
    except Exception as error:
        raise _refused(entry, f"leads nowhere ({type(error).__name__}: {error}).") from error
    if not found:
        raise _refused(entry, "gives no detector.")
    for detector in found:
        _check(entry, detector)
        if detector.name in taken:
            raise _refused(entry, f"gives a second detector called {detector.name!r}.")
        taken.add(detector.name)
    return found


def _made(entry: str, named: Any) -> Iterator[Detector]:
    if isinstance(named, Detector):
        yield named
    elif isinstance(named, re.Pattern):
        yield Detector.of_pattern(entry.rpartition(".")[2].lower().strip("_"), named)
    elif isinstance(named, Iterable) and not isinstance(named, str | bytes | dict):
        for one in named:
            if not isinstance(one, Detector):
                raise ConfigurationError(f"It gives a {type(one).__name__} among its detectors.")
            yield one
    else:
        raise ConfigurationError(
            f"It is a {type(named).__name__}, and no Detector, compiled pattern or callable that "
            "returns detectors."
        )


def _check(entry: str, detector: Detector) -> None:
    """What can be seen of a detector before there is any text."""
    parts: tuple[object, ...] = (detector.pretest, detector.find)
    if not all(map(callable, parts)):
        raise _refused(entry, "cannot be used: its pretest and find must be callable.")
    try:
        checked_name(detector.name)
        if isinstance(detector.find, ByPattern):
            weigh(detector.find.pattern, longest=OVERLAP)
    except ConfigurationError as error:
        raise _refused(entry, f"cannot be used. {error}") from error
    except Refused as error:
        raise _refused(
            entry, f"cannot be used: the pattern of {detector.name!r} {error}."
        ) from error
