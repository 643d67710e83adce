"""The checkpoints of a stream, each opened: whether its signature holds, and what it says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from django.db.models import Subquery

from audit_log.exceptions import AuditLogError
from audit_log.ledger import checkpoints
from audit_log.ledger.findings import Findings
from audit_log.models import Checkpoint, Stream

_CHUNK: Final = 500


class Signature(NamedTuple):
    """A checkpoint whose note holds and says what its columns say; `root` is hex."""

    id: int
    size: int
    root: str


def up_to(size: int, found: Findings) -> Iterator[Signature]:
    """The checkpoints up to a size, in the order in which they were signed. Bad ones are found."""
    last = 0
    while chunk := _rows(found, id__gt=last, size__lte=size):
        for row in chunk:
            signature = _opened(row, found)
            if signature is not None:
                yield signature
        last = chunk[-1]["id"]


def check_beyond(size: int, found: Findings) -> None:
    """Checkpoints for more records than there are. One statement, hence one moment."""
    now = Stream.objects.using(found.using).filter(pk=found.name).values("size")
    beyond = [_opened(row, found) for row in _rows(found, size__gt=Subquery(now))]
    last = max((s for s in beyond if s is not None), key=lambda s: s.size, default=None)
    if last is not None and last.size > size:
        message = (
            f"checkpoint {last.id} signed {last.size} records, but the stream ends after "
            f"{size}: the others were removed"
        )
        found.find("missing", message, size)


def _rows(found: Findings, **where: Any) -> list[dict[str, Any]]:
    rows: Any = Checkpoint.objects.using(found.using).filter(stream=found.name, **where)
    return list(rows.order_by("id").values("id", "size", "root", "note")[:_CHUNK])


def _opened(row: dict[str, Any], found: Findings) -> Signature | None:
    found.result.checkpoints += 1
    name = f"checkpoint {row['id']} at {row['size']}"
    try:
        said = checkpoints.opened(row["note"], found.name)
    except AuditLogError as error:
        found.find("checkpoint", f"{name} does not hold: {error}")
        return None
    if (said.size, said.root.hex()) != (row["size"], row["root"]):
        found.find("checkpoint", f"{name} was altered: its note says {said.size}")
        return None
    return Signature(row["id"], said.size, said.root.hex())
