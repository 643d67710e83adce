"""The tests' settings for processes of their own: spool, broker and more from the environment."""

from __future__ import annotations

import json
import os
from typing import Any

from tests import settings

globals().update({name: getattr(settings, name) for name in dir(settings) if name.isupper()})

AUDIT_LOG: dict[str, Any] = {
    **settings.AUDIT_LOG,
    **json.loads(os.environ.get("FAULTS_AUDIT_LOG", "{}")),
    "SPOOL_DIR": os.environ["FAULTS_SPOOL_DIR"],
}
DATABASES: dict[str, Any] = {
    **settings.DATABASES,
    **json.loads(os.environ.get("FAULTS_DATABASES", "{}")),
}
if "DATABASE" in AUDIT_LOG:
    DATABASE_ROUTERS = ["audit_log.router.AuditRouter"]
FAULTS_BROKER = os.environ.get("FAULTS_BROKER", "")
FAULTS_QUEUE = os.environ.get("FAULTS_QUEUE", "celery")
FAULTS_TRANSPORT_OPTIONS: dict[str, Any] = json.loads(os.environ.get("FAULTS_TRANSPORT", "{}"))
FAULTS_QUEUE_TYPE = os.environ.get("FAULTS_QUEUE_TYPE", "classic")
