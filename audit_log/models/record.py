"""The stored event: one row, one leaf of its stream's tree."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from audit_log.models.append_only import AppendOnly, AppendOnlyQuerySet
from audit_log.models.text import ExactCharField


class Record(AppendOnly):
    """An event as it is kept. Immutable; numbered without gaps within its stream.

    The columns up to `redactions` are the open envelope. `sealed_actor` holds what the actor said
    and sent, `sealed_data` what it was about, both under AES-256-GCM. The four tokens find exact
    values without storing them; they are not part of the leaf.
    """

    id = models.UUIDField(primary_key=True)
    version = models.SmallIntegerField()
    stream = ExactCharField(max_length=64)
    sequence = models.BigIntegerField()
    occurred_at = models.DateTimeField(_("time"))
    recorded_at = models.DateTimeField()
    service = ExactCharField(max_length=64, null=True)
    emitter = ExactCharField(max_length=32, null=True)
    emitter_seq = models.BigIntegerField(null=True)
    action = ExactCharField(max_length=128)
    outcome = ExactCharField(max_length=16)
    actor_type = ExactCharField(max_length=16, null=True)
    actor_id = ExactCharField(max_length=255, null=True)
    actor_via = ExactCharField(max_length=255, null=True)
    session_token = ExactCharField(max_length=32, null=True)
    target_type = ExactCharField(max_length=128, null=True)
    target_id = ExactCharField(max_length=255, null=True)
    tenant = ExactCharField(max_length=64, null=True)
    request_id = ExactCharField(max_length=128, null=True)
    trace_id = ExactCharField(max_length=64, null=True)
    parent_id = ExactCharField(max_length=64, null=True)
    source = ExactCharField(max_length=16)
    method = ExactCharField(max_length=16, null=True)
    route = ExactCharField(max_length=200, null=True)
    path = ExactCharField(max_length=2048, null=True)
    status = models.SmallIntegerField(null=True)
    duration_ms = models.IntegerField(null=True)
    affected = models.BigIntegerField(null=True)
    changed_fields = models.JSONField(null=True)
    changes = models.JSONField(null=True)
    data = models.JSONField(null=True)
    redactions = models.JSONField(null=True)
    salt = models.BinaryField(max_length=16, null=True)
    sealed_actor = models.BinaryField(null=True)
    sealed_data = models.BinaryField(null=True)
    actor_token = ExactCharField(max_length=32, null=True)
    ip_token = ExactCharField(max_length=32, null=True)
    net_token = ExactCharField(max_length=32, null=True)
    agent_token = ExactCharField(max_length=32, null=True)

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        verbose_name = _("record")
        verbose_name_plural = _("records")
        default_permissions = ()
        permissions: ClassVar = [
            ("view_record", "Can see records: envelope, open changes and both labels"),
            ("view_sealed", "Can open the sealed contents of records (recorded)"),
            ("export_record", "Can export records (recorded)"),
            ("redact_record", "Can remove the open contents of a record (recorded)"),
            ("erase_subject", "Can erase a person (recorded)"),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["stream", "sequence"], name="audit_record_sequence"),
        ]
        # `id` is a UUIDv7, so it is the time order within each of these.
        indexes: ClassVar = [
            models.Index(fields=["target_type", "target_id", "id"], name="audit_record_target"),
            models.Index(fields=["actor_id", "id"], name="audit_record_actor"),
            models.Index(fields=["action", "id"], name="audit_record_action"),
            models.Index(fields=["request_id"], name="audit_record_request"),
            models.Index(fields=["actor_token", "id"], name="audit_record_actor_token"),
            models.Index(fields=["ip_token", "id"], name="audit_record_ip_token"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.target_type or ''} {self.target_id or ''}".strip()
