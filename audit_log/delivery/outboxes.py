"""Which databases have an outbox: a batch is written where the change is, the ledger is in one."""

from __future__ import annotations

from django.db import DatabaseError, connections, router

from audit_log import conf
from audit_log.models import Outbox
from audit_log.recording import losses
from audit_log.router import ledger_alias

_known: dict[str, bool] = {}


@conf.on_change
def forget() -> None:
    """Look again."""
    _known.clear()


def aliases() -> list[str]:
    """The databases whose outbox is to be relayed, the ledger's own first.

    Those that have the table. Replicas have it too, but every batch on them is on its way already:
    name what they mirror in `DATABASES[...]["TEST"]["MIRROR"]`, as Django asks for.
    """
    ledger = ledger_alias()
    others = [alias for alias in connections if alias != ledger and _has_outbox(alias)]
    return [ledger, *sorted(others)]


def _has_outbox(alias: str) -> bool:
    if alias not in _known:
        connection = connections[alias]
        if connection.settings_dict["TEST"]["MIRROR"] or not router.allow_migrate_model(
            alias, Outbox
        ):
            _known[alias] = False
            return False
        try:
            with connection.cursor() as cursor:
                names = connection.introspection.table_names(cursor)
        except DatabaseError:
            losses.warn("outbox_unreachable", "Cannot look for an outbox in %r.", alias)
            return False  # asked again the next time
        _known[alias] = Outbox._meta.db_table in names
    return _known[alias]
