"""The tests' settings with the ledger apart: changes where they always are, the ledger in "audit".

AUDIT_LOG_TEST_LEDGER_DB is its engine, by default the one of the other databases.
"""

from __future__ import annotations

import os
from typing import Any

from tests import settings

globals().update({name: getattr(settings, name) for name in dir(settings) if name.isupper()})

LEDGER = os.environ.get("AUDIT_LOG_TEST_LEDGER_DB", settings.DATABASE)
DATABASES: dict[str, Any] = {
    **settings.DATABASES,
    "audit": settings._databases[LEDGER]("audit"),
    "replica": {
        **settings.DATABASES["default"],
        "TEST": {**settings.DATABASES["default"]["TEST"], "MIRROR": "default"},
    },
}
DATABASE_ROUTERS = ["audit_log.router.AuditRouter"]
AUDIT_LOG: dict[str, Any] = {**settings.AUDIT_LOG, "DATABASE": "audit"}
