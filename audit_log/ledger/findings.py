"""What verification found, and telling others of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from audit_log import signals
from audit_log.recording.explicit import record
from audit_log.router import ledger_alias

MAX_FINDINGS: Final = 1_000  # a stream; what is worse than that needs no more lines
_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it was written. `sequence` and `record` name the row.

    `kind` is altered, missing or extra (a record); tile, head or checkpoint (the tree); or
    stopped, when there was more than anybody reads; or redacted, which is no fault.
    """

    stream: str
    kind: str
    message: str
    sequence: int | None = None
    record: str | None = None


@dataclass(slots=True)
class Verified:
    """What one verification looked at, and what it found; each dict is by stream.

    `signed` is how many records the last checkpoint that holds vouches for; `purged` how many, from
    the first on, are not there to be looked at.
    """

    streams: dict[str, int] = field(default_factory=dict)
    purged: dict[str, int] = field(default_factory=dict)
    roots: dict[str, str] = field(default_factory=dict)
    checkpoints: int = 0
    signed: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    redacted: list[Finding] = field(default_factory=list)  # as it should be, and on record

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


def announce(result: Verified, using: str | None = None) -> None:
    """Record that the ledger was verified; of findings, also tell the project's receivers."""
    using = using or ledger_alias()
    sizes = {name: str(size) for name, size in result.streams.items()}
    if result.ok:
        record("audit_log.verified", data={"streams": sizes}, using=using)
        return
    shown = [
        f"{found.stream} {found.sequence}: {found.message}" for found in result.findings[:_SHOWN]
    ]
    record(
        "audit_log.verify_failed",
        outcome="failure",
        data={"streams": sizes, "findings": len(result.findings), "first": shown},
        using=using,
    )
    signals.tampering_found.send_robust(sender=None, findings=list(result.findings))


class Enough(Exception):
    """A stream has as many findings as it may."""


class Findings:
    """Those of one stream, which go into the result."""

    def __init__(self, name: str, using: str, result: Verified) -> None:
        self.name = name
        self.using = using
        self.result = result
        self.found = 0

    def find(
        self, kind: str, message: str, sequence: int | None = None, record_id: str | None = None
    ) -> None:
        """Report; raises Enough when there are too many."""
        self.result.findings.append(Finding(self.name, kind, message, sequence, record_id))
        self.count()

    def count(self) -> None:
        """One more."""
        self.found += 1
        if self.found >= MAX_FINDINGS:
            raise Enough
