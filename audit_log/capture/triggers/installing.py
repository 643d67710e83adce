"""Putting the triggers on their tables, taking them off again, and looking whether they are right.

A database is asked, never remembered: what is there is compared with what would be made now.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from django.db import connections, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from audit_log.capture.triggers import sql
from audit_log.capture.triggers.values import identifier
from audit_log.capture.triggers.watched import table_of, watched_models
from audit_log.exceptions import ConfigurationError
from audit_log.models import Outbox
from audit_log.recording.explicit import record

INSTALLED: Final = "audit_log.triggers_installed"
REMOVED: Final = "audit_log.triggers_removed"
LOCK_TIMEOUT: Final = "5s"
_FIRES: Final = frozenset({"O", "A"})  # pg_trigger.tgenabled: as usual, or always
_OUTBOX: Final = Outbox._meta.db_table


@dataclass(frozen=True, slots=True)
class State:
    """How it is with one table. `state` is one word, `why` says more where it is not "installed".

    missing, outdated (the model or its policies have changed), disabled, stray (the model does not
    ask for triggers: its changes are recorded twice), no table.
    """

    model: str
    table: str
    state: str
    why: str = ""

    @property
    def is_right(self) -> bool:
        return self.state == "installed"


@dataclass(slots=True)
class _Found:
    """What a database has."""

    schema: str
    outbox: str
    types: dict[str, dict[str, str]] = field(default_factory=dict)  # by table and column
    bodies: dict[str, str] = field(default_factory=dict)  # by function
    triggers: dict[str, dict[str, tuple[str, str]]] = field(default_factory=dict)


_COLUMNS: Final = """
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.oid = ANY (SELECT to_regclass(quote_ident(n)) FROM unnest(%s::text[]) n)
  AND a.attnum > 0 AND NOT a.attisdropped
"""
_FUNCTIONS: Final = """
SELECT p.proname, p.prosrc FROM pg_proc p
WHERE p.pronamespace = %s::regnamespace AND p.proname LIKE 'audit\\_log\\_%%'
  AND (p.prosecdef OR p.proname = 'audit_log_guard')
"""
_TRIGGERS: Final = """
SELECT c.relname, t.tgname, p.proname, t.tgenabled::text
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid
WHERE NOT t.tgisinternal AND t.tgname LIKE 'audit\\_log\\_%%' AND p.proname LIKE 'audit\\_log\\_%%'
  AND p.pronamespace = %s::regnamespace
"""
_SCHEMA: Final = (
    "SELECT quote_ident(n.nspname), n.nspname FROM pg_class c "
    "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass(quote_ident(%s))"
)


def _look(cursor: CursorWrapper, names: Sequence[str]) -> _Found:
    """Raises ConfigurationError where there is no outbox."""
    cursor.execute(_SCHEMA, [_OUTBOX])
    row = cursor.fetchone()
    if row is None:
        raise ConfigurationError(f"There is no table {_OUTBOX}: run `manage.py migrate` first.")
    quoted, schema = row
    found = _Found(schema, f"{quoted}.{identifier(_OUTBOX)}")
    cursor.execute(_COLUMNS, [list(names)])
    for table, column, kind in cursor.fetchall():
        found.types.setdefault(table, {})[column] = kind
    cursor.execute(_FUNCTIONS, [quoted])
    found.bodies = dict(cursor.fetchall())
    cursor.execute(_TRIGGERS, [quoted])
    for table, name, function, enabled in cursor.fetchall():
        found.triggers.setdefault(table, {})[name] = (function, enabled)
    return found


def _state(model: type[models.Model], found: _Found) -> State:
    label, name = model._meta.label, model._meta.db_table
    types = found.types.get(name)
    if types is None:
        return State(label, name, "no table", "run `manage.py migrate`")
    there = found.triggers.get(name, {})
    wanted = {sql.trigger_name(operation) for operation in sql.OPERATIONS}
    if missing := sorted(wanted - set(there)):
        return State(label, name, "missing", ", ".join(missing))
    function = sql.function_name(name)
    body = sql.body(table_of(model, types), found.outbox)
    if found.bodies.get(function) != body or any(there[each][0] != function for each in wanted):
        return State(label, name, "outdated", "the model, its policies or its columns have changed")
    if disabled := sorted(each for each in wanted if there[each][1] not in _FIRES):
        return State(label, name, "disabled", ", ".join(disabled))
    return State(label, name, "installed")


def _guard_state(found: _Found) -> State:
    there = found.triggers.get(_OUTBOX, {}).get(sql.GUARD)
    if there is None or sql.GUARD not in found.bodies:
        return State(Outbox._meta.label, _OUTBOX, "missing", sql.GUARD)
    if found.bodies[sql.GUARD] != sql.guard_body():
        return State(Outbox._meta.label, _OUTBOX, "outdated", sql.GUARD)
    if there[1] not in _FIRES:
        return State(Outbox._meta.label, _OUTBOX, "disabled", sql.GUARD)
    return State(Outbox._meta.label, _OUTBOX, "installed")


def states(using: str) -> list[State]:
    """How it is with every table that has our triggers, or should have. Asks four times."""
    connection = connections[using]
    if connection.vendor != "postgresql":
        return []
    wanted = watched_models(using)
    with connection.cursor() as cursor:
        found = _look(cursor, [model._meta.db_table for model in wanted])
    result = [_state(model, found) for model in wanted]
    known = {model._meta.db_table for model in wanted}
    result += [
        State("", table, "stray", "no model asks for them: its changes are recorded twice")
        for table in sorted(set(found.triggers) - known - {_OUTBOX})
    ]
    if wanted:
        result.append(_guard_state(found))
    return result


def install(using: str, wanted: Iterable[type[models.Model]]) -> list[State]:
    """Put triggers on these models' tables where they are not as they should be.

    In one transaction, which waits for no lock longer than `LOCK_TIMEOUT`, and on record. Returns
    what was not right before. Raises ConfigurationError, and DatabaseError for a lock.
    """
    connection = connections[using]
    wanted = list(wanted)
    with transaction.atomic(using=using), _patient(connection) as cursor:
        found = _look(cursor, [model._meta.db_table for model in wanted])
        if not _guard_state(found).is_right:
            _run(cursor, sql.create_guard(found.schema, found.outbox))
            _enable(cursor, found.outbox, sql.GUARD)
        done: list[State] = []
        for model in wanted:
            state = _state(model, found)
            if state.is_right:
                continue
            if state.state == "no table":
                raise ConfigurationError(f"{state.model}: there is no table {state.table}.")
            table = connection.ops.quote_name(state.table)
            types = found.types[state.table]
            _run(cursor, sql.create(table_of(model, types), table, found.schema, found.outbox))
            for operation in sql.OPERATIONS:
                _enable(cursor, table, sql.trigger_name(operation))
            done.append(state)
        _say(INSTALLED, using, done)
    return done


def remove(using: str, tables: Iterable[str] | None = None, *, on_record: bool = True) -> list[str]:
    """Take the triggers off these tables, or off all; with the last ones the guard. Which had them.

    On record, and as patient as `install`.
    """
    connection = connections[using]
    with transaction.atomic(using=using), _patient(connection) as cursor:
        found = _look(cursor, [])
        there = sorted(set(found.triggers) - {_OUTBOX})
        gone = [table for table in there if tables is None or table in set(tables)]
        for table in gone:
            _drop(cursor, found, table)
        if gone == there and sql.GUARD in found.bodies:
            _drop(cursor, found, _OUTBOX)
        if on_record:
            _say(REMOVED, using, [State("", table, "removed") for table in gone])
    return gone


def _drop(cursor: CursorWrapper, found: _Found, table: str) -> None:
    quoted = identifier(table)
    functions = set()
    for name, (function, _) in found.triggers.get(table, {}).items():
        _run(cursor, [f"DROP TRIGGER IF EXISTS {name} ON {quoted}"])
        functions.add(function)
    schema = identifier(found.schema)
    _run(
        cursor,
        [f"DROP FUNCTION IF EXISTS {schema}.{identifier(name)}()" for name in functions],
    )


def _run(cursor: CursorWrapper, statements: Iterable[str]) -> None:
    for statement in statements:
        cursor.execute(statement, None)  # not an empty list: nothing in it is a parameter


def _enable(cursor: CursorWrapper, table: str, trigger: str) -> None:
    _run(cursor, [f"ALTER TABLE {table} ENABLE TRIGGER {trigger}"])


def _say(action: str, using: str, done: Sequence[State]) -> None:
    if done:
        data = {"database": using, "tables": [state.table for state in done]}
        record(action, data=data, using=using)


class _patient:  # noqa: N801 - used as a function
    """A cursor whose statements give up on a lock before those behind them queue for long."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._cursor = connection.cursor()

    def __enter__(self) -> CursorWrapper:
        cursor = self._cursor.__enter__()
        cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        return cursor

    def __exit__(self, *error: object) -> None:
        self._cursor.__exit__(*error)  # type: ignore[arg-type]


def tables_with_triggers(using: str, tables: Iterable[str] | None = None) -> list[str]:
    """The tables that have triggers of ours, of these or of all."""
    with connections[using].cursor() as cursor:
        found = _look(cursor, [])
    there = set(found.triggers) - {_OUTBOX}
    return sorted(there if tables is None else there & set(tables))
