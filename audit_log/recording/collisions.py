"""Errors of a transaction that met another one: nobody's fault, and gone when tried again."""

from __future__ import annotations

from typing import Final

from django.db import OperationalError

from audit_log.recording import mysql

# PostgreSQL's serialization failure, deadlock and lock that is not to be had; MariaDB's deadlock,
# lock timeout and changed row.
_CODES: Final = frozenset({"40001", "40P01", "55P03", 1213, 1205, 1020})


def met_another(error: BaseException) -> bool:
    """Whether the database says so: a deadlock, or a lock that others do not let us have."""
    if not isinstance(error, OperationalError):
        return False
    cause = error.__cause__
    states = {getattr(cause, name, None) for name in ("sqlstate", "pgcode")}  # psycopg, psycopg2
    return bool(_CODES & {*states, mysql.code_of(error)})
