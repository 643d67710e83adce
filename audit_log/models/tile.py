"""Full tiles of the trees: 256 hashes each, never changed (C2SP tlog-tiles)."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from audit_log.models.append_only import AppendOnly, AppendOnlyQuerySet
from audit_log.models.text import ExactCharField


class Tile(AppendOnly):
    """`hashes` are 256 concatenated SHA-256 values; those of level 0 are leaf hashes."""

    id = models.BigAutoField(primary_key=True)
    stream = ExactCharField(max_length=64)
    level = models.SmallIntegerField()
    index = models.BigIntegerField()
    hashes = models.BinaryField()

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["stream", "level", "index"], name="audit_tile_place"),
        ]

    def __str__(self) -> str:
        return f"{self.stream}/{self.level}/{self.index}"
