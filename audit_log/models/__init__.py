"""Every table, one file each."""

from audit_log.models.alert import Alert
from audit_log.models.archive_part import ArchivePart
from audit_log.models.checkpoint import Checkpoint
from audit_log.models.cursor import Cursor
from audit_log.models.data_key import DataKey
from audit_log.models.legal_hold import LegalHold
from audit_log.models.outbox import Outbox
from audit_log.models.record import Record
from audit_log.models.stream import Stream
from audit_log.models.tile import Tile

__all__ = [
    "Alert",
    "ArchivePart",
    "Checkpoint",
    "Cursor",
    "DataKey",
    "LegalHold",
    "Outbox",
    "Record",
    "Stream",
    "Tile",
]
