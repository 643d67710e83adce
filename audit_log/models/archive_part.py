"""The parts of the archive: which records are in which file, and how far that is proved."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from audit_log.models.text import ExactCharField


class ArchivePart(models.Model):
    """A range of one stream on its way out: `first` to `last`, all of one day (UTC).

    Steps, in order; each is in the database before the next begins. Planned: the range is cut.
    Written: the file is in the store. Verified: it was read back and compared, and its manifest
    stands beside it. Recorded: `audit_log.archived` with the manifest's hash is in the outbox.
    Purgeable: that record is in the ledger under a published checkpoint. Purging and purged: its
    rows are being, or have been, deleted. With `ARCHIVE` "none" there is no file: planned, then
    purging, purged.
    """

    class State(models.TextChoices):
        """How far a part has come."""

        PLANNED = "planned"
        WRITTEN = "written"
        VERIFIED = "verified"
        RECORDED = "recorded"
        PURGEABLE = "purgeable"
        PURGING = "purging"
        PURGED = "purged"

    id = models.BigAutoField(primary_key=True)
    stream = ExactCharField(max_length=64)
    day = models.DateField()
    first = models.BigIntegerField()
    last = models.BigIntegerField()
    count = models.BigIntegerField()
    min_time = models.DateTimeField()
    max_time = models.DateTimeField()
    state = ExactCharField(max_length=16, choices=State.choices, default=State.PLANNED)
    store = ExactCharField(max_length=255, default="")
    key = ExactCharField(max_length=255, default="")
    version_id = ExactCharField(max_length=255, default="")
    sha256 = ExactCharField(max_length=64, default="")
    size = models.BigIntegerField(default=0)
    checkpoint_size = models.BigIntegerField(default=0)
    manifest_sha256 = ExactCharField(max_length=64, default="")
    record_id = models.UUIDField(null=True)
    purged_through = models.BigIntegerField(null=True)
    error = ExactCharField(max_length=500, default="")
    planned_at = models.DateTimeField()
    verified_at = models.DateTimeField(null=True)
    purgeable_at = models.DateTimeField(null=True)
    purged_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["stream", "first"], name="audit_part_first"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["state", "stream", "first"], name="audit_part_state"),
        ]

    def __str__(self) -> str:
        return f"{self.stream} {self.first}-{self.last}"
