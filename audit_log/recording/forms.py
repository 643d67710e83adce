"""What is in a row of the outbox, by its form: an encrypted batch, or rows that a trigger saw.

Who makes events of the latter knows the models, and is above: it registers itself.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final, NamedTuple

from django.db.models import Case, When

from audit_log.events import Event, decode_batch
from audit_log.exceptions import EncodingError
from audit_log.models.outbox import Form
from audit_log.privacy.encryption import key_ring
from audit_log.recording import outbox


class Waiting(NamedTuple):
    """What is needed of a row of the outbox: an instance of its model takes ten times as long."""

    id: int
    form: int
    payload: bytes | memoryview
    created_at: datetime | None  # not of a batch: to read a time takes as long as all the rest


Reader = Callable[[Waiting, str], list[Event]]
"""The events of a row in the outbox of a database. The same row gives the same ids."""

FIELDS: Final = (
    "id",
    "form",
    "payload",
    Case(When(form=Form.BATCH, then=None), default="created_at"),
)
"""What `values_list` of the outbox is asked for a `Waiting`."""
_readers: dict[int, Reader] = {}


def register(form: Form, reader: Reader) -> None:
    """Let rows of `form` be read by `reader`."""
    _readers[form] = reader


def events_of(row: Waiting, using: str) -> list[Event]:
    """The events of one row. Raises AuditLogError for what cannot be read."""
    if row.form == Form.BATCH:
        return decode_batch(key_ring().decrypt(outbox.PURPOSE, bytes(row.payload)))
    reader = _readers.get(row.form)
    if reader is None:
        raise EncodingError(f"Nothing here reads a row of the form {row.form}. Upgrade the relay.")
    return reader(row, using)
