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
        from audit_log.capture.triggers import reading
        from audit_log.conf import get_settings
        from audit_log.exceptions import ConfigurationError
        from audit_log.privacy import configured
        from audit_log.recording import lifecycle

        checks.register()
        reading.register()
        try:
            settings = get_settings()
            configured.detectors()
        except ConfigurationError as error:
            # No check runs before a server starts, and one that audits nothing must not start.
            raise ConfigurationError(f"(audit_log.E001) {error}") from error
        if settings.enabled:
            installation.install()
            lifecycle.watch()
        else:
            lifecycle.note_disabled()
