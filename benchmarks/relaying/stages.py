"""A clock in every stage of the relay: each second counts for the innermost stage that is open."""

from __future__ import annotations

import functools
import importlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from django.db.backends.base.base import BaseDatabaseWrapper

# What is measured, by the names of the functions that do it; the rest of a stage is its caller's.
_PLACES: Final = {
    "claim": ["audit_log.delivery.claims:_claim"],
    "decode": ["audit_log.delivery.claims:Claim._decode"],
    "canonical JSON": ["audit_log.ledger.records:_scrub"],
    "detectors": [
        f"audit_log.ledger.scrubbing:{name}" for name in ("suspects", "scrub", "scrub_value")
    ],
    "columns": ["audit_log.ledger.records:_fit"],
    "seal": ["audit_log.ledger.records:_seal_actor", "audit_log.ledger.records:_seal_data"],
    "tokens": ["audit_log.ledger.records:_tokenise"],
    "entry": ["audit_log.ledger.records:_enter"],
    "streams, keys": ["audit_log.ledger.heads:ensure", "audit_log.privacy.data_keys:refresh"],
    "encode row": [
        f"audit_log.ledger.insertion:{table}.encode"
        for table in ("_Copied", "_Values", "_Prepared")
    ],
    "write": ["audit_log.ledger.writer:write"],
    "lock head": ["audit_log.ledger.heads:lock"],
    "id check": ["audit_log.ledger.writer:_without_known", "audit_log.ledger.writer:_stored_among"],
    "hash": ["audit_log.ledger.writer:_extend"],
    "insert": [
        "audit_log.ledger.insertion:_Copied.insert",
        "audit_log.ledger.insertion:_Values.insert",
        "audit_log.ledger.insertion:_Prepared.insert",
    ],
    "tiles": ["django.db.models:QuerySet.bulk_create"],
    "heads": ["audit_log.models:Stream.save"],
    "delete": ["audit_log.delivery.claims:Claim._delete"],
}


class Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._open: list[str] = []
        self._since = 0.0

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time counted for `stage` and no longer for whoever calls it."""

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            self._switch()
            self._open.append(stage)
            try:
                return function(*args, **kwargs)
            finally:
                self._switch()
                self._open.pop()

        return run

    def _switch(self) -> None:
        now = time.perf_counter()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now


@contextmanager
def watched(clock: Clock) -> Iterator[None]:
    """Put the clock into every stage, and take it out again."""
    undo: list[tuple[Any, str, Any]] = []
    places = [(stage, *_owner(place)) for stage, places in _PLACES.items() for place in places]
    places += [("commit", BaseDatabaseWrapper, "_commit")]
    places += [("other", importlib.import_module("audit_log.delivery.relay"), "_round")]
    for stage, owner, name in places:
        original = getattr(owner, name)
        undo.append((owner, name, original))
        setattr(owner, name, clock.timed(stage, original))
    try:
        yield
    finally:
        for owner, name, original in undo:
            setattr(owner, name, original)


def _owner(place: str) -> tuple[Any, str]:
    module, _, path = place.partition(":")
    *outer, name = path.split(".")
    return functools.reduce(getattr, outer, importlib.import_module(module)), name
