"""Alerts that fired."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from audit_log.models.text import ExactCharField


class Alert(models.Model):
    """A rule reached its threshold for one group. What the rule said then is kept here.

    Once per rule, group and window: none fires again for what happened until `window_end`.
    `stream` and `sequence` name the record that reached the threshold. `match` is {column: [value,
    ...]}. `channels` says who was told: {channel: {"attempts", and "sent_at" or "error"}};
    `due_at` is when to try (again), None when nothing is left to do; `attempts` how often
    something failed.
    """

    id = models.BigAutoField(primary_key=True)
    rule = ExactCharField(_("rule"), max_length=64)
    group_by = ExactCharField(max_length=32, default="")
    group = ExactCharField(_("group"), max_length=255, default="")
    match = models.JSONField(default=dict)
    measure = ExactCharField(max_length=16, default="count")
    measured = models.BigIntegerField(_("measured"))
    threshold = models.BigIntegerField(_("threshold"))
    window_start = models.DateTimeField()
    window_end = models.DateTimeField()
    stream = ExactCharField(max_length=64)
    sequence = models.BigIntegerField()
    fired_at = models.DateTimeField(_("time"))
    channels = models.JSONField(_("channels"), default=dict)
    attempts = models.IntegerField(default=0)
    due_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("alert")
        verbose_name_plural = _("alerts")
        default_permissions = ()
        permissions: ClassVar = [("view_alert", "Can see the alerts that fired")]
        constraints: ClassVar = [
            # Two evaluations that ran side by side, whatever locks their database knows.
            models.UniqueConstraint(
                fields=["rule", "group", "window_start"], name="audit_alert_once"
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["rule", "group", "window_end"], name="audit_alert_group"),
            models.Index(fields=["due_at"], name="audit_alert_due"),
        ]

    def __str__(self) -> str:
        # A group may be whatever was recorded: pages put this into titles.
        text = f"{self.rule} {self.group}".strip()
        return "".join(sign if sign.isprintable() else "\ufffd" for sign in text)
