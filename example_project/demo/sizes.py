"""How large the table of records is."""

from __future__ import annotations

from django.db import OperationalError, connection

_KIB = 1024
_OF_SQLITE = """
    SELECT SUM(pgsize) FROM dbstat
    WHERE name IN (SELECT name FROM sqlite_master WHERE tbl_name = 'audit_log_record')
"""
_OF_FILE = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
_OF_MARIADB = """
    SELECT data_length + index_length FROM information_schema.tables
    WHERE table_schema = DATABASE() AND table_name = 'audit_log_record'
"""
_SIZES = {
    # The second, of the whole file, where SQLite was built without dbstat.
    "sqlite": (
        _OF_SQLITE,
        "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
    ),
    "postgresql": ("SELECT pg_total_relation_size('audit_log_record')",),
    "mysql": (_OF_MARIADB,),
}
_PACK = {
    "sqlite": "VACUUM",
    "postgresql": "VACUUM FULL audit_log_record",
    "mysql": "OPTIMIZE TABLE audit_log_record",
}


def of_records() -> int:
    """Bytes of the table and its indexes."""
    for statement in _SIZES[connection.vendor]:
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return int(cursor.fetchone()[0])
        except OperationalError:
            continue
    return 0


def give_back() -> None:
    """Let the database give free pages back, so that the difference shows."""
    with connection.cursor() as cursor:
        cursor.execute(_PACK[connection.vendor])


def shown(size: int) -> str:
    """Bytes, for people."""
    return f"{size / _KIB / _KIB:.1f} MiB" if size >= _KIB * _KIB else f"{size / _KIB:.0f} KiB"
