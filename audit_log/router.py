"""Which database each table of the log is in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from audit_log.conf import get_settings

if TYPE_CHECKING:
    from django.db.models import Model

_APP: Final = "audit_log"
_OUTBOX: Final = "outbox"


def ledger_alias() -> str:
    """The database of the ledger: `AUDIT_LOG["DATABASE"]`."""
    return get_settings().database


class AuditRouter:
    """With `AUDIT_LOG["DATABASE"]`: the ledger is there, an outbox wherever changes are made.

    It has no opinion about other apps.
    """

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        """The ledger's database for everything but the outbox, which is read where it is asked."""
        return _home(model)

    def db_for_write(self, model: type[Model], **hints: Any) -> str | None:
        """The same."""
        return _home(model)

    def allow_migrate(
        self, db: str, app_label: str, model_name: str | None = None, **hints: Any
    ) -> bool | None:
        """The outbox in every database, the other tables in the ledger's only."""
        if app_label != _APP or model_name is None or model_name == _OUTBOX:
            return None
        return db == ledger_alias()


def _home(model: type[Model]) -> str | None:
    if model._meta.app_label != _APP or model._meta.model_name == _OUTBOX:
        return None
    return ledger_alias()
