"""Signed tree heads."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from audit_log.models.append_only import AppendOnly, AppendOnlyQuerySet
from audit_log.models.text import ExactCharField, ExactTextField


class Checkpoint(AppendOnly):
    """A C2SP signed note over (origin, size, root)."""

    id = models.BigAutoField(primary_key=True)
    stream = ExactCharField(max_length=64)
    size = models.BigIntegerField()
    root = ExactCharField(max_length=64)
    note = ExactTextField()
    created_at = models.DateTimeField()

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        indexes: ClassVar = [
            models.Index(fields=["stream", "size"], name="audit_checkpoint_size"),
        ]

    def __str__(self) -> str:
        return f"{self.stream} at {self.size}"
