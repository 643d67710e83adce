"""The app: `ready()` connects, and does nothing else."""

from __future__ import annotations

from django.apps import AppConfig


class AuditLogConfig(AppConfig):
    """Audit log."""

    name = "audit_log"
    verbose_name = "Audit log"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from audit_log import checks
        from audit_log.capture import installation
        from audit_log.conf import get_settings

        checks.register()
        if get_settings().enabled:
            installation.install()
