"""Streams whose head row is gone."""

from __future__ import annotations

from audit_log.ledger.findings import Findings
from audit_log.ledger.rows import name_of, outside
from audit_log.models import Checkpoint, Tile


class Headless(Findings):
    """What there is of a stream that has no head row."""

    def run(self) -> None:
        self.result.streams[self.name] = 0
        for row in outside(self.name, self.using, 0, None):
            self.find("extra", "its stream has no head", *name_of(row))
        if Checkpoint.objects.using(self.using).filter(stream=self.name).exists():
            self.find("head", "the head is gone, but there are checkpoints of the stream", 0)
        if Tile.objects.using(self.using).filter(stream=self.name).exists():
            self.find("head", "the head is gone, but there are tiles of the stream", 0)
