"""For the hosts' test cases: writes down the SQL of each test, to be compared afterwards.

Two lists a test, in the folder GUEST_NOTES: what Django logged (`connection.queries`), and what
went through `connection.execute_wrapper`, as tools that watch or forbid queries see it.
"""

from __future__ import annotations

import json
import os
import re
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.db import connection

if TYPE_CHECKING:
    from unittest import TestCase as _Base
else:
    _Base = object

_LITERAL = re.compile(r"'(?:[^']|'')*'|\b\d+(?:\.\d+)?\b|%s")
_SAVEPOINT = re.compile(r'"?s\d+_x(\d+)"?')
_CURSOR = re.compile(r"_django_curs_\w+")


class _KeptLog(deque[dict[str, Any]]):
    """Outlives the `reset_queries()` that every request begins with."""

    def clear(self) -> None:
        pass


def shape(sql: str) -> str:
    """A statement without its values: keys and times differ from run to run. Savepoints stay."""
    if sql == "BEGIN IMMEDIATE":
        return "BEGIN"  # on SQLite we ask for it, where the project did not say
    return _LITERAL.sub("?", _CURSOR.sub("cursor", _SAVEPOINT.sub(r"savepoint \1", sql)))


def _begins(sql: str) -> bool:
    """Whether Django says it on MariaDB as it connects: the first test of a process has it.

    Which one that is differs from run to run, where several processes share the tests.
    """
    return sql.startswith("SET SESSION TRANSACTION ISOLATION LEVEL")


class Noted(_Base):
    """Mixin of a TestCase."""

    def setUp(self) -> None:
        super().setUp()
        folder = os.environ.get("GUEST_NOTES")
        if not folder:
            return
        executed: list[str] = []

        def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
            if not _begins(sql):
                executed.append(shape(sql))
            return execute(sql, params, many, context)

        before = connection.force_debug_cursor, connection.queries_log
        connection.force_debug_cursor = True
        connection.queries_log = log = _KeptLog(maxlen=9000)
        self.enterContext(connection.execute_wrapper(note))

        def write() -> None:
            connection.force_debug_cursor, connection.queries_log = before
            logged = [shape(query["sql"]) for query in log if not _begins(query["sql"])]
            path = Path(folder) / f"{self.id()}.json"
            path.write_text(json.dumps({"logged": logged, "executed": executed}))

        self.addCleanup(write)
