"""Legal holds: what must stay, whoever asks for its end."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from audit_log.models.text import ExactCharField


class LegalHold(models.Model):
    """`subject` is the person whose data is to stay, as `erase` names them. Lifted, it is kept."""

    id = models.BigAutoField(primary_key=True)
    subject = ExactCharField(_("subject"), max_length=255)
    reason = ExactCharField(_("reason"), max_length=500)
    placed_at = models.DateTimeField(_("placed"))
    placed_by = ExactCharField(_("placed by"), max_length=255, null=True)
    lifted_at = models.DateTimeField(_("lifted"), null=True)

    class Meta:
        verbose_name = _("legal hold")
        verbose_name_plural = _("legal holds")
        default_permissions = ()
        permissions: ClassVar = [("hold_record", "Can place and lift legal holds")]

    def __str__(self) -> str:
        return f"#{self.pk} on {self.subject}"
