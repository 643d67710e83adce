"""The functions and triggers, as SQL.

One statement is one row in the outbox, or one for each 500 of its rows: a trigger for each row
would cost a COPY of 10,000 rows as many. Most statements write one row, so that has a way of its
own, without numbering and grouping.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Final

from audit_log.capture.triggers.surroundings import SETTING
from audit_log.capture.triggers.values import (
    ARGUMENTS,
    LookedUp,
    Named,
    array,
    identifier,
    literal,
)
from audit_log.capture.triggers.watched import Table
from audit_log.models.outbox import Form

PREFIX: Final = "audit_log_"
GUARD: Final = f"{PREFIX}guard"
OPERATIONS: Final = ("insert", "update", "delete", "truncate")
_ROWS: Final = 500
_BYTES: Final = 1_000_000
_LONG: Final = 262_144  # of a row: then it is looked at whether a value has to be cut
_MAX_NAME: Final = 63
_OLD, _NEW = f"{PREFIX}old", f"{PREFIX}new"
_TRANSITIONS: Final = {
    "insert": f"NEW TABLE AS {_NEW}",
    "update": f"OLD TABLE AS {_OLD} NEW TABLE AS {_NEW}",
    "delete": f"OLD TABLE AS {_OLD}",
}


def function_name(table: str) -> str:
    """The name of a table's function, unquoted; other tables have others, however long they are."""
    digest = hashlib.sha256(table.encode()).hexdigest()[:8]
    return f"{PREFIX}{digest}_{table}".encode()[:_MAX_NAME].decode(errors="ignore")


def trigger_name(operation: str) -> str:
    """The name of a trigger, the same on each table."""
    return f"{PREFIX}{operation}"


def body(table: Table, outbox: str) -> str:
    """The body of a table's function. `outbox` is quoted, with its schema.

    A column that a migration has dropped since, or given another type, must not fail the write:
    that statement is written in the slow way, which looks columns up by name. What is computed
    there writes nothing, so the savepoint around it takes no number of a transaction, unless there
    are many rows.
    """
    parts = "\n".join(
        f"  {'IF' if n == 0 else 'ELSIF'} TG_OP = '{operation.upper()}' THEN\n"
        f"{_operation(table, outbox, operation)}"
        for n, operation in enumerate(("insert", "update", "delete"))
    )
    return f"""
DECLARE
  x text;
  many boolean;
BEGIN
{parts}
  ELSE
    INSERT INTO {outbox} (created_at, event_count, payload, form)
    VALUES (clock_timestamp(), 1, {_payload(table, "truncate", "''")}, {Form.ROWS});
  END IF;
  RETURN NULL;
END
"""


def _operation(table: Table, outbox: str, operation: str) -> str:
    sources = {
        "insert": f"{_NEW} n",
        "update": f"{_OLD} o, {_NEW} n",
        "delete": f"{_OLD} o",
    }
    other = _OLD if operation == "delete" else _NEW
    row = _row(table, operation, Named("o"), Named("n"))
    changed = f"x IS NOT NULL{_unlike_unchanged(table, operation, row)}"
    return f"""    BEGIN
      SELECT {array(row)}, EXISTS (SELECT FROM {other} OFFSET 1)
      INTO x, many FROM {sources[operation]};
      IF many THEN
        {_insert_many(table, outbox, operation, slow=False)}
        RETURN NULL;
      ELSIF octet_length(x) > {_LONG} THEN
        {_insert_many(table, outbox, operation, slow=True)}
        RETURN NULL;
      END IF;
    EXCEPTION WHEN syntax_error_or_access_rule_violation THEN
      {_insert_many(table, outbox, operation, slow=True)}
      RETURN NULL;
    END;
    IF {changed} THEN
      INSERT INTO {outbox} (created_at, event_count, payload, form)
      VALUES (clock_timestamp(), 1, {_payload(table, operation, "x")}, {Form.ROWS});
    END IF;"""


def _insert_many(table: Table, outbox: str, operation: str, *, slow: bool) -> str:
    kind = LookedUp if slow else Named
    what = "to_jsonb(t) AS j" if slow else "t.*"
    sides = {
        "o": f"(SELECT row_number() OVER () AS {PREFIX}n, {what} FROM {_OLD} t) o",
        "n": f"(SELECT row_number() OVER () AS {PREFIX}n, {what} FROM {_NEW} t) n",
    }
    if operation == "update":
        # Both hold the rows in the order in which they were written, also where a key changed.
        source, number = f"{sides['o']} JOIN {sides['n']} USING ({PREFIX}n)", f"{PREFIX}n"
    else:
        side = "o" if operation == "delete" else "n"
        source, number = sides[side], f"{side}.{PREFIX}n"
    row = _row(table, operation, kind("o"), kind("n"))
    rows = "string_agg(s.x, ',' ORDER BY s.n)"
    changed = _unlike_unchanged(table, operation, row).replace("(x,", "(r.x,")
    return f"""INSERT INTO {outbox} (created_at, event_count, payload, form)
        SELECT clock_timestamp(), count(*), {_payload(table, operation, rows)}, {Form.ROWS}
        FROM (
          SELECT r.x, r.n, (row_number() OVER w - 1) / {_ROWS} AS a,
            sum(octet_length(r.x)) OVER w / {_BYTES} AS b
          FROM (SELECT {array(row)} AS x, {number} AS n FROM {source}) r
          WHERE true{changed} WINDOW w AS (ORDER BY r.n)
        ) s GROUP BY s.a, s.b ORDER BY s.a, s.b;"""


def _row(table: Table, operation: str, old: Named, new: Named) -> list[str]:
    """The key and what goes along with it; then the values, or old keys and pairs of values.

    What did not change is null on both sides.
    """
    side = old if operation == "delete" else new
    row = [side.value(column) for column in (*table.key, *table.extra)]
    if operation != "update":
        return row + [side.value(column) for column in table.columns]
    row += [old.pair(column, new)[0] for column in table.key]
    return row + [each for column in table.columns for each in old.pair(column, new)]


def _unlike_unchanged(table: Table, operation: str, row: Sequence[str]) -> str:
    """A condition, where there is one: a row in which nothing changed ends with as many nulls."""
    if operation != "update" or len(row) > ARGUMENTS:
        return ""  # the reader will tell
    nulls = len(row) - len(table.key) - len(table.extra)
    ending = ", null" * nulls + "]"
    return f" AND right(x, {len(ending)}) <> '{ending}'"


def _payload(table: Table, operation: str, rows: str) -> str:
    """What goes into the outbox. Who acts is in the setting, or it is whoever is logged in."""
    said = f"current_setting('{SETTING}', true)"
    names = {
        "v": 1,
        "model": table.label,
        "op": operation,
        "key": [column.name for column in table.key],
        "extra": [column.name for column in table.extra],
        "columns": [column.name for column in table.columns],
    }
    head = literal(json.dumps(names, separators=(",", ":"))[:-1] + ',"role":')
    told = (
        f"',\"context\":' || to_json({said}) || ',\"began\":' || "
        "extract(epoch FROM transaction_timestamp())"
    )
    client = "',\"application\":' || to_json(current_setting('application_name'))"
    return (
        f"convert_to({head} || to_json(session_user::text) || CASE WHEN {said} <> '' THEN {told} "
        f"ELSE {client} END || ',\"rows\":[' || {rows} || ']}}', 'UTF8')"
    )


def create(table: Table, quoted_table: str, schema: str, outbox: str) -> list[str]:
    """The statements that make, or make anew, the function and the triggers of a table.

    SECURITY DEFINER: who writes to the table need not have a right to the outbox. So the function
    must not look for anything where others can put it: `search_path`.
    """
    function = f"{identifier(schema)}.{identifier(function_name(table.name))}"
    made = (
        f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql "
        "SECURITY DEFINER SET search_path = pg_catalog, pg_temp "
        f"AS $audit_log${body(table, outbox)}$audit_log$"
    )
    statements = [made, f"REVOKE ALL ON FUNCTION {function}() FROM PUBLIC"]
    for operation in OPERATIONS:
        sees = _TRANSITIONS.get(operation)
        referencing = f"REFERENCING {sees} " if sees else ""
        statements.append(
            f"CREATE OR REPLACE TRIGGER {trigger_name(operation)} AFTER {operation.upper()} ON "
            f"{quoted_table} {referencing}FOR EACH STATEMENT EXECUTE FUNCTION {function}()"
        )
    return statements


def guard_body() -> str:
    """Of the function that refuses rows in clear from anybody but a trigger."""
    return """
BEGIN
  RAISE insufficient_privilege
    USING MESSAGE = 'Only the triggers of audit_log write rows in clear into its outbox.';
END
"""


def create_guard(schema: str, outbox: str) -> list[str]:
    """The statements that make the guard of the outbox.

    What a trigger inserts has a trigger around it; what anybody else does has none.
    """
    function = f"{identifier(schema)}.{identifier(GUARD)}"
    made = (
        f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql "
        f"AS $audit_log${guard_body()}$audit_log$"
    )
    trigger = (
        f"CREATE OR REPLACE TRIGGER {GUARD} BEFORE INSERT OR UPDATE OF form, payload ON {outbox} "
        f"FOR EACH ROW WHEN (NEW.form <> {Form.BATCH} AND pg_trigger_depth() = 0) "
        f"EXECUTE FUNCTION {function}()"
    )
    return [made, trigger]
