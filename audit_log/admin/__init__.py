"""The log in Django's admin: read-only. Imported by the admin's autodiscovery, and only then."""

from __future__ import annotations

from audit_log.admin import history
from audit_log.admin.alerts import AlertAdmin
from audit_log.admin.records import RecordAdmin
from audit_log.conf import get_settings

__all__ = ["AlertAdmin", "RecordAdmin"]

if get_settings().enabled:
    history.install()
