"""The streams, and how far each is signed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from audit_log import conf
from audit_log.ledger import checkpoints
from audit_log.models import Checkpoint, Stream
from audit_log.router import ledger_alias

_CACHE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class SignedStream:
    """A stream's head and its newest checkpoint."""

    head: Stream
    checkpoint: Checkpoint | None


def all_streams() -> list[SignedStream]:
    """Every stream by name: one query, and one for each."""
    using = ledger_alias()
    heads = Stream.objects.using(using).order_by("name")
    return [SignedStream(head, checkpoints.last(head.name, using)) for head in heads]


_newest: list[tuple[float, tuple[Checkpoint, ...]]] = []


@conf.on_change
def forget() -> None:
    """Read the newest checkpoints anew."""
    _newest.clear()


def newest_checkpoints() -> tuple[Checkpoint, ...]:
    """The newest checkpoint of each stream that has one; at most five seconds old."""
    now = time.monotonic()
    for read_at, known in _newest:
        if now - read_at < _CACHE_SECONDS:
            return known
    found = tuple(stream.checkpoint for stream in all_streams() if stream.checkpoint is not None)
    _newest[:] = [(now, found)]
    return found
