"""Wrapped data-encryption keys: one per person, else per stream and month."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from audit_log.models.text import ExactCharField


class DataKey(models.Model):
    """`wrapped` is the key under the ring; null once it was destroyed, which erases its person.

    `destroyed_at` is when: the row stays, as the erasure list. `since` is the stream's size when
    the key was made, so that it is renewed in time.
    """

    id = models.UUIDField(primary_key=True)
    scope = ExactCharField(max_length=255)
    generation = models.IntegerField(default=0)
    since = models.BigIntegerField(default=0)
    wrapped = models.BinaryField(null=True)
    created_at = models.DateTimeField()
    destroyed_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["scope", "generation"], name="audit_data_key_scope"),
        ]

    def __str__(self) -> str:
        return f"{self.scope} #{self.generation}"
