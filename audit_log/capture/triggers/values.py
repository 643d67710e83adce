"""Columns as JSON, in SQL.

`Named` takes them by name, so that the statement fails where a migration has dropped one;
`LookedUp` takes them out of the row as JSON, where what is not there is null.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from audit_log.capture.triggers.watched import As, Column

LONG: Final = 65_536  # an event is not longer, so a value that is will be cut in any case
KEPT: Final = 200
CUT: Final = "audit_log:cut"
_ARGUMENTS: Final = 50  # a function takes no more than a hundred


def literal(text: str) -> str:
    """Text as SQL has it, whatever `standard_conforming_strings` says."""
    quoted = text.replace("'", "''")
    return "E'" + quoted.replace("\\", "\\\\") + "'" if "\\" in text else f"'{quoted}'"


def identifier(name: str) -> str:
    """A name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def json_key(name: str) -> str:
    """`"name":` as a literal."""
    inner = name.replace("\\", "\\\\").replace('"', '\\"')
    return literal(f'"{inner}":')


class Named:
    """Columns of the row `alias`, by name."""

    def __init__(self, alias: str) -> None:
        self._alias = alias

    def column(self, column: Column) -> str:
        return f"{self._alias}.{identifier(column.name)}"

    def differs(self, column: Column, other: Named) -> str:
        """Whether it is another value than that of the other row."""
        here, there = self.column(column), other.column(column)
        if column.way in {As.TEXT, As.MASK, As.CARD}:  # there may be no `=` for the type
            here, there = f"{here}::text", f"{there}::text"
        return f"{here} IS DISTINCT FROM {there}"

    def is_set(self, column: Column) -> str:
        return f"{self.column(column)} IS NOT NULL"

    def text(self, column: Column) -> str:
        return f"{self.column(column)}::text"

    def value(self, column: Column) -> str:
        """JSON as text; null where the column is."""
        here = self.column(column)
        match column.way:
            case As.LONG:
                return _cut(here, f"to_json({here})::text")
            case As.JSON:
                return f"to_json({here})::text"
            case As.TEXT:
                return _cut(here, f"to_json({here}::text)::text")
            case _:
                return _special(column.way, self, column)

    def bytes(self, column: Column) -> str:
        return self.column(column)

    def seconds(self, column: Column) -> str:
        return f"extract(epoch FROM {self.column(column)})::text"


class LookedUp(Named):
    """The same out of `alias.j`, the row as JSON."""

    def column(self, column: Column) -> str:
        return f"nullif({self._alias}.j->{literal(column.name)}, 'null'::jsonb)"

    def text(self, column: Column) -> str:
        return f"({self._alias}.j->>{literal(column.name)})"

    def value(self, column: Column) -> str:
        match column.way:
            case As.LONG | As.JSON | As.TEXT:
                return _cut(self.text(column), f"{self.column(column)}::text")
            case _:
                return _special(column.way, self, column)

    def bytes(self, column: Column) -> str:
        held = self.text(column)
        hexadecimal = literal(r"^\\x([0-9a-f][0-9a-f])*$")
        return (
            f"CASE WHEN {held} ~ {hexadecimal} THEN {held}::bytea "
            f"ELSE convert_to({held}, 'UTF8') END"
        )

    def seconds(self, column: Column) -> str:
        return f"{self.column(column)}::text"  # it need not be an interval any more


def _special(way: As, row: Named, column: Column) -> str:
    there = row.is_set(column)
    if way is As.MASK:
        return f"CASE WHEN {there} THEN 'true' END"
    if way is As.CARD:
        digits = f"translate({row.text(column)}, ' -', '')"
        shown = f"concat('\"**** **** **** ', right({digits}, 4), '\"')"
        return (
            f"CASE WHEN {digits} ~ '^[0-9]{{12,19}}$' THEN {shown} WHEN {there} THEN 'true' END"
        )
    if way is As.SECONDS:
        return row.seconds(column)
    held = row.bytes(column)
    return (
        f"CASE WHEN {there} THEN concat('\"sha256:', encode(sha256({held}), 'hex'), ' (', "
        f"octet_length({held}), ' bytes)\"') END"
    )


def _cut(held: str, whole: str) -> str:
    """What is longer than an event: its beginning, its length and its hash."""
    text = f"{held}::text"
    cut = (
        f"json_build_object('{CUT}', left({text}, {KEPT}), 'length', length({text}), 'sha256', "
        f"encode(sha256(convert_to({text}, 'UTF8')), 'hex'))::text"
    )
    return f"CASE WHEN octet_length({text}) > {LONG} THEN {cut} ELSE {whole} END"


def joined(parts: Sequence[str]) -> str:
    """`concat_ws(',', …)` of as many as there are; empty text for none."""
    if not parts:
        return "''"
    if len(parts) <= _ARGUMENTS:
        return f"concat_ws(',', {', '.join(parts)})"
    groups = [parts[n : n + _ARGUMENTS] for n in range(0, len(parts), _ARGUMENTS)]
    return joined([f"nullif({joined(group)}, '')" for group in groups])


def object_of(row: Named, columns: Iterable[Column]) -> str:
    """`{"id":1}`: for keys, where nothing is left out."""
    parts = [
        f"{json_key(column.name)}, coalesce({row.value(column)}, 'null')" for column in columns
    ]
    between = ", ',', "
    return f"concat('{{', {between.join(parts)}, '}}')" if parts else "'{}'"


def values_set(row: Named, columns: Iterable[Column]) -> str:
    """`"name":"x","n":1`: what is not null."""
    return joined(
        [
            f"CASE WHEN {row.is_set(column)} THEN {json_key(column.name)} || {row.value(column)} END"
            for column in columns
        ]
    )


def values_changed(old: Named, new: Named, columns: Iterable[Column]) -> str:
    """`"name":["x","y"]`: what differs."""
    return joined(
        [
            f"CASE WHEN {old.differs(column, new)} THEN concat({json_key(column.name)}, '[', "
            f"coalesce({old.value(column)}, 'null'), ',', coalesce({new.value(column)}, 'null'), "
            "']') END"
            for column in columns
        ]
    )
