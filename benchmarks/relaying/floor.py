"""The least a relay costs: its batches claimed, numbered, hashed, inserted and deleted, no more.

Everything else is done by the relay's own code before the clock starts: nothing is decrypted,
decoded, scrubbed, sealed or encoded while it runs. Claims, the head's lock, the id check, tiles,
heads, COPY or INSERT and commits are the relay's own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from audit_log.delivery.claims import Claim
from audit_log.ledger.records import Prepared
from audit_log.models import Outbox
from audit_log.recording import forms
from audit_log.router import ledger_alias

Ready = dict[int, list[Prepared]]


def ready() -> Ready:
    """The records of all that waits in the outbox, by batch."""
    using = ledger_alias()
    claim = Claim(using, None, locked=False)
    rows = Outbox.objects.using(using).order_by("id").values_list(*forms.FIELDS)
    claim.rows = [forms.Waiting(*row) for row in rows]
    claim.prepare()
    found: Ready = defaultdict(list)
    for id_, prepared in claim.prepared:
        found[id_].append(prepared)
    return found


@contextmanager
def installed(records: Ready) -> Iterator[None]:
    """Claims that find their records prepared."""
    original: Any = Claim.prepare

    def prepare(claim: Any) -> None:
        claim.prepared = [(row.id, record) for row in claim.rows for record in records[row.id]]

    setattr(Claim, "prepare", prepare)  # noqa: B010 - a method is assigned
    try:
        yield
    finally:
        setattr(Claim, "prepare", original)  # noqa: B010
