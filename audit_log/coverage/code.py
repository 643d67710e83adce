"""Places in the project's code that write past what the log hooks into."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterator
from typing import Final

from audit_log.coverage import sql
from audit_log.coverage.names import Names, dotted
from audit_log.coverage.places import Place
from audit_log.coverage.sources import Source

_SHOWN: Final = 80
_EXECUTES: Final = frozenset({"execute", "executemany", "executescript", "copy", "copy_expert"})
_ALWAYS_WRITE: Final = frozenset({"callproc", "copy_from"})
_HELPERS: Final = frozenset({"execute_values", "execute_batch"})  # of psycopg2.extras
_EXPRESSIONS: Final = frozenset({"RawSQL", "raw", "extra"})
_QUERY_CLASSES: Final = frozenset({"UpdateQuery", "InsertQuery", "DeleteQuery"})
_PRIVATE: Final = frozenset({"execute_sql", "_do_insert", "_do_update", "_batched_insert"})
# Names that other classes have as well: private methods of a query set only on one.
_ON_QUERY_SETS: Final = frozenset({"_update", "_insert"})
_QUERY_SETS: Final = (
    *("objects", "_base_manager", "_default_manager"),
    *("get_queryset()", "filter()", "exclude()", "all()", "using()"),
)
_OPENERS: Final = frozenset(
    {
        *("connect", "create_pool", "create_engine", "create_async_engine"),
        *("ConnectionPool", "AsyncConnectionPool", "NullConnectionPool"),
    }
)
_DRIVERS: Final = frozenset(
    {
        *("psycopg", "psycopg2", "psycopg_pool", "asyncpg", "sqlite3", "aiosqlite", "MySQLdb"),
        *("pymysql", "mysql", "aiomysql", "oracledb", "cx_Oracle", "pyodbc", "sqlalchemy"),
    }
)


def places(source: Source, seen: Collection[str] = ()) -> Iterator[Place]:
    """The places of one file, in the order of its lines.

    Left out are literals that write to tables of `seen` only: triggers capture these.
    """
    names = Names(source.tree)
    calls = [node for node in ast.walk(source.tree) if isinstance(node, ast.Call)]
    for call in sorted(calls, key=lambda each: (each.lineno, each.col_offset)):
        for kind, look in _LOOKS:
            what = look(call, names)
            if what is not None:
                if seen and kind == "sql" and _is_seen(call, names, seen):
                    break
                yield Place(
                    kind,
                    source.shown,
                    call.lineno,
                    what,
                    own=True,
                    accepted=source.accepts(call.lineno, call.end_lineno or call.lineno),
                )
                break


def _is_seen(call: ast.Call, names: Names, seen: Collection[str]) -> bool:
    text, literal = names.sql(_argument(call, 0, "sql", "query", "operation", "statement"))
    written = sql.written_tables(text) if literal else None
    return bool(written) and written is not None and written <= set(seen)


def _last(call: ast.Call) -> str:
    return dotted(call.func).rpartition(".")[2]


def _argument(call: ast.Call, place: int, *keywords: str) -> ast.expr | None:
    if len(call.args) > place:
        return call.args[place]
    return next((each.value for each in call.keywords if each.arg in keywords), None)


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _said(name: str, text: str) -> str:
    return f"{name}: {_short(text)}" if text.strip(" {};") else f"{name}: SQL made at run time"


def _executed(call: ast.Call, names: Names) -> str | None:
    last = _last(call)
    if isinstance(call.func, ast.Attribute):
        known = names.is_cursor(call.func.value)
        if known and last in _ALWAYS_WRITE:
            return f"{last}: {_short(names.sql(_argument(call, 0))[0])}"
        if last not in _EXECUTES:
            return _helped(call, names)
        statement = _argument(call, 0, "sql", "query", "operation", "statement")
        text, literal = names.sql(statement)
        if known and statement is not None:
            return None if literal and sql.only_reads(text) else _said(last, text)
        return _said(last, text) if sql.clearly_writes(text) else None
    return _helped(call, names)


def _helped(call: ast.Call, names: Names) -> str | None:
    if _last(call) not in _HELPERS:
        return None
    text, literal = names.sql(_argument(call, 1, "sql"))
    return None if literal and sql.only_reads(text) else _said(_last(call), text)


def _expression(call: ast.Call, names: Names) -> str | None:
    if _last(call) not in _EXPRESSIONS:
        return None
    text, _ = names.sql(_argument(call, 0, "sql", "raw_query"))
    return _said(_last(call), text) if sql.clearly_writes(text) else None


def _run_sql(call: ast.Call, names: Names) -> str | None:
    if _last(call) != "RunSQL":
        return None
    texts = [
        names.sql(statement)
        for argument in (_argument(call, 0, "sql"), _argument(call, 1, "reverse_sql"))
        if argument is not None and not dotted(argument).endswith("noop")
        for statement in _statements(argument)
    ]
    wrong = [text for text, literal in texts if not (literal and sql.only_reads(text))]
    return _said("RunSQL", wrong[0]) if wrong else None


def _statements(node: ast.expr) -> list[ast.expr]:
    """RunSQL takes a text, or a list of texts and of pairs of text and parameters."""
    if not isinstance(node, (ast.List, ast.Tuple)):
        return [node]
    return [
        each.elts[0] if isinstance(each, (ast.List, ast.Tuple)) and each.elts else each
        for each in node.elts
    ]


def _run_python(call: ast.Call, _: Names) -> str | None:
    if _last(call) != "RunPython":
        return None
    code = _argument(call, 0, "code")
    name = "" if code is None else dotted(code)
    return None if name.endswith("noop") else f"RunPython: {name or 'a function'}"


def _internal(call: ast.Call, _: Names) -> str | None:
    last = _last(call)
    on_super = isinstance(call.func, ast.Attribute) and dotted(call.func.value) == "super()"
    if last in _QUERY_CLASSES or (last in _PRIVATE and not on_super):
        return f"{last}()"
    if last in _ON_QUERY_SETS and isinstance(call.func, ast.Attribute):
        parts = dotted(call.func.value).split(".")
        if any(part in _QUERY_SETS for part in parts):
            return f"{last}()"
    return None


def _driver(call: ast.Call, names: Names) -> str | None:
    origin = names.origin(call.func)
    first, _, rest = origin.partition(".")
    opened = first in _DRIVERS and rest.rpartition(".")[2] in _OPENERS
    return f"{origin}()" if opened else None


def _suspended(call: ast.Call, names: Names) -> str | None:
    origin = names.origin(call.func)
    ours = origin.startswith("audit_log.") and origin.endswith(".suspended")
    return "changes are not captured" if ours else None


_LOOKS: Final[tuple[tuple[str, Callable[[ast.Call, Names], str | None]], ...]] = (
    ("run-sql", _run_sql),
    ("run-python", _run_python),
    ("suspended", _suspended),
    ("driver", _driver),
    ("internals", _internal),
    ("sql", _executed),
    ("sql", _expression),
)
