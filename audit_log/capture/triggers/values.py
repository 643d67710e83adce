"""Columns in SQL, as arguments of `json_build_array()`.

`Named` takes them by name, so that the statement fails where a migration has dropped one;
`LookedUp` takes them out of the row as JSON, where what is not there is null. What is called here
is prepared anew in each transaction, so it is little: that is most of what a trigger costs.
"""

from __future__ import annotations

from typing import Final

from audit_log.capture.triggers.watched import As, Column
from audit_log.privacy.redaction import MASK

LONG: Final = 65_536  # an event is not longer, so a value that is will be cut in any case
KEPT: Final = 200
CUT: Final = "audit_log:cut"
ARGUMENTS: Final = 90  # a function takes no more than a hundred
_DIFFER: Final = frozenset({As.BYTES, As.MASK, As.CARD})


def literal(text: str) -> str:
    """Text as SQL has it, whatever `standard_conforming_strings` says."""
    quoted = text.replace("'", "''")
    return "E'" + quoted.replace("\\", "\\\\") + "'" if "\\" in text else f"'{quoted}'"


def identifier(name: str) -> str:
    """A name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


class Named:
    """Columns of the row `alias`, by name."""

    def __init__(self, alias: str) -> None:
        self.alias = alias

    def held(self, column: Column) -> str:
        """As the table has it."""
        return f"{self.alias}.{identifier(column.name)}"

    def text(self, column: Column) -> str:
        return f"{self.held(column)}::text"

    def bytes(self, column: Column) -> str:
        return self.held(column)

    def seconds(self, column: Column) -> str:
        return f"extract(epoch FROM {self.held(column)})"

    def value(self, column: Column) -> str:
        """As it is written; null where it is."""
        match column.way:
            case As.TEXT:
                return self.text(column)
            case As.SECONDS:
                return self.seconds(column)
            case As.MASK:
                return f"({self.held(column)} IS NOT NULL)"
            case As.CARD:
                return _card(self.text(column))
            case As.BYTES:
                return _digest(self.held(column), self.bytes(column))
            case _:
                return self.held(column)

    def pair(self, column: Column, new: Named) -> list[str]:
        """The old and the new value where they differ, else null and null."""
        here, there = self.value(column), new.value(column)
        if column.way not in _DIFFER:
            return [f"nullif({here}, {there})", f"nullif({there}, {here})"]
        differ = f"{self.text(column)} IS DISTINCT FROM {new.text(column)}"
        return [f"CASE WHEN {differ} THEN {side} END" for side in (here, there)]


class LookedUp(Named):
    """The same out of `alias.j`, the row as JSON. What is long is cut."""

    def held(self, column: Column) -> str:
        return f"nullif({self.alias}.j->{literal(column.name)}, 'null'::jsonb)"

    def text(self, column: Column) -> str:
        return f"({self.alias}.j->>{literal(column.name)})"

    def bytes(self, column: Column) -> str:
        text = self.text(column)
        hexadecimal = literal(r"^\\x([0-9a-f][0-9a-f])*$")
        otherwise = f"convert_to({text}, 'UTF8')"
        return f"CASE WHEN {text} ~ {hexadecimal} THEN {text}::bytea ELSE {otherwise} END"

    def seconds(self, column: Column) -> str:
        return self.text(column)  # it need not be an interval any more

    def value(self, column: Column) -> str:
        if column.way not in {As.LONG, As.TEXT}:
            return super().value(column)
        text = self.text(column)
        cut = (
            f"jsonb_build_object('{CUT}', left({text}, {KEPT}), 'length', length({text}), "
            f"'sha256', encode(sha256(convert_to({text}, 'UTF8')), 'hex'))"
        )
        return f"CASE WHEN octet_length({text}) > {LONG} THEN {cut} ELSE {self.held(column)} END"


def _card(text: str) -> str:
    digits = f"translate({text}, ' -', '')"
    return (
        f"CASE WHEN {digits} ~ '^[0-9]{{12,19}}$' THEN '**** **** **** ' || right({digits}, 4) "
        f"WHEN {text} IS NOT NULL THEN '{MASK}' END"
    )


def _digest(held: str, content: str) -> str:
    return (
        f"CASE WHEN {held} IS NOT NULL THEN 'sha256:' || encode(sha256({content}), 'hex') || ' (' "
        f"|| octet_length({content}) || ' bytes)' END"
    )


def array(values: list[str]) -> str:
    """A JSON array as text; of arrays where there are more values than a function takes."""
    if len(values) <= ARGUMENTS:
        return f"json_build_array({', '.join(values)})::text"
    parts = [values[n : n + ARGUMENTS] for n in range(0, len(values), ARGUMENTS)]
    return "'[' || " + " || ',' || ".join(map(array, parts)) + " || ']'"
