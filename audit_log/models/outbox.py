"""The outbox: batches written in the same transaction as the change, until the relay takes them."""

from __future__ import annotations

from django.db import models

from audit_log.models.text import ExactCharField


class Form(models.IntegerChoices):
    """What the payload of a row is. Only a trigger can write the second: see docs/triggers.md."""

    BATCH = 0, "an encrypted batch"
    ROWS = 1, "rows that a trigger saw, in clear"


class Outbox(models.Model):
    """One batch. `parked_at` is set when it was set aside, with the reason."""

    id = models.BigAutoField(primary_key=True)
    created_at = models.DateTimeField()
    event_count = models.IntegerField()
    payload = models.BinaryField()
    form = models.SmallIntegerField(default=Form.BATCH, db_default=Form.BATCH)
    attempts = models.SmallIntegerField(default=0, db_default=0)
    next_attempt_at = models.DateTimeField(null=True)
    parked_at = models.DateTimeField(null=True)
    parked_reason = ExactCharField(max_length=500, null=True)

    class Meta:
        verbose_name = "outbox batch"
        verbose_name_plural = "outbox"
        default_permissions = ()

    def __str__(self) -> str:
        return f"batch {self.pk} ({self.event_count} events)"
