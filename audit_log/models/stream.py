"""The head of each stream: the one row that numbering locks."""

from __future__ import annotations

from django.db import models

from audit_log.models.text import ExactCharField


class Stream(models.Model):
    """How long a stream is, and the hashes of its tree that are not yet in a full tile.

    `purged` is the first record that retention has left; `purged_through` the newest moment of
    those it deleted: what is older and comes now comes too late.
    """

    name = ExactCharField(max_length=64, primary_key=True)
    size = models.BigIntegerField(default=0)
    partial = models.BinaryField(default=bytes)
    recorded_at = models.DateTimeField(null=True)
    purged = models.BigIntegerField(default=0)
    purged_through = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.name
