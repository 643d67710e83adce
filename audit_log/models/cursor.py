"""How far each reader of a stream has come."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from audit_log.models.text import ExactCharField


class Cursor(models.Model):
    """`sequence` is the first record of the stream that `reader` has not dealt with."""

    id = models.BigAutoField(primary_key=True)
    reader = ExactCharField(max_length=64)
    stream = ExactCharField(max_length=64)
    sequence = models.BigIntegerField(default=0)
    updated_at = models.DateTimeField()

    class Meta:
        default_permissions = ()
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["reader", "stream"], name="audit_cursor_place"),
        ]

    def __str__(self) -> str:
        return f"{self.reader} at {self.stream} {self.sequence}"
