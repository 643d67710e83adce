"""What time it is by the database: what is due never depends on a worker's clock."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.db.models.functions import Now

from audit_log.models import Stream


class _UtcNow(Now):
    """Now, also where the session's time zone is not UTC: MariaDB's answer has no zone."""

    def as_mysql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        return self.as_sql(compiler, connection, template="UTC_TIMESTAMP(6)", **extra)


def database_now(using: str) -> datetime:
    """The database's clock. Where there is no stream yet, nothing is due and ours will do."""
    now = Stream.objects.using(using).values_list(_UtcNow(), flat=True)[:1]
    return next(iter(now), None) or datetime.now(UTC)
