"""What runs each night: what erasures left to do, archive, then purge."""

from __future__ import annotations

import logging

from audit_log import context
from audit_log.events import Actor
from audit_log.exceptions import AuditLogError, RetentionRefused
from audit_log.retention import archive, bookkeeping, brake, erasure, purge
from audit_log.router import ledger_alias

logger = logging.getLogger("audit_log")


def run(using: str | None = None) -> None:
    """Archive, then purge. What fails is logged and shown by `status`; the next night goes on."""
    using = using or ledger_alias()
    seen = brake.newest(using)  # before the archive records anything, by whatever clock
    with context.changed(actor=Actor(type="system", id=bookkeeping.TASK), source="task"):
        _settle_erasures(using)
        archived = archive.run(using)
        if archived.off:
            logger.info("%s", archived.off)
            return
        try:
            purged = purge.run(using, seen=seen)
        except RetentionRefused:
            return  # logged, and noted with the part
    logger.info(
        "Archived %d parts, purged %d records in %d parts.",
        len(archived.parts),
        purged.total,
        len(purged.parts),
    )


def _settle_erasures(using: str) -> None:
    try:
        erasure.reapply(using)
        erasure.settle(using)
    except AuditLogError:
        logger.exception("What erasures left to do could not be done; the next night tries again.")
