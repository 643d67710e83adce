"""What a text of SQL does, as far as its words tell."""

from __future__ import annotations

import re
from typing import Final

_NOISE: Final = re.compile(
    r"""--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|\$(\w*)\$.*?\$\1\$""",
    re.DOTALL,
)
_READS: Final = re.compile(
    r"""(SELECT|VALUES|TABLE|WITH|SHOW|EXPLAIN|DESCRIBE|DESC|SET|RESET|PRAGMA|LOCK|ANALYZE|VACUUM
    |LISTEN|UNLISTEN|NOTIFY|REINDEX|COMMENT\s+ON|REFRESH\s+MATERIALIZED|CREATE\s+EXTENSION
    |(CREATE(\s+UNIQUE)?|DROP|ALTER)\s+INDEX|COPY\b.*\bTO\b)\b""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_SCHEMA: Final = re.compile(r"(CREATE|DROP|ALTER|REFRESH|COMMENT|COPY|REINDEX)\b", re.IGNORECASE)
_WRITES: Final = re.compile(
    r"\b(INTO|INSERT|DELETE|MERGE|TRUNCATE|DROP|ALTER|CREATE|CALL|(?<!FOR )(?<!KEY )UPDATE)\b",
    re.IGNORECASE,
)
_STRINGS: Final = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'", re.DOTALL)
_TARGET: Final = re.compile(
    r'(?:(INSERT\s+INTO)|UPDATE(?:\s+ONLY)?|DELETE\s+FROM|TRUNCATE(?:\s+TABLE)?)\s+([\w."]+)'
    r"(?!\s*,)",
    re.IGNORECASE,
)
_CLEAR: Final = re.compile(
    r"\b(INSERT\s+INTO|REPLACE\s+INTO|UPDATE\s+\S+\s+SET|DELETE\s+FROM|MERGE\s+INTO|TRUNCATE\s)",
    re.IGNORECASE,
)


def only_reads(text: str) -> bool:
    """Whether every statement clearly changes no row. In doubt it does.

    Transaction control counts as writing: what SQL rolls back, Django and the log believe in.
    Functions that a SELECT calls are not known here.
    """
    if "/*!" in text:  # MySQL runs what stands in such a comment
        return False
    return all(_reads(" ".join(each.split())) for each in _NOISE.sub(" '' ", text).split(";"))


def written_tables(text: str) -> set[str] | None:
    """The tables that a text writes to; None where that is not sure.

    Only plain statements are: one INSERT, UPDATE, DELETE or TRUNCATE, and no other verb in it.
    """
    plain = _STRINGS.sub(" '' ", text).strip().rstrip(";")
    found = _TARGET.match(plain)
    if found is None or ";" in plain or len(_WRITES.findall(plain)) > 1 + bool(found[1]):
        return None
    return {found[2].rpartition(".")[2].strip('"')}


def clearly_writes(fragment: str) -> bool:
    """Whether a piece of SQL, such as an expression, has a statement that writes in it."""
    return _CLEAR.search(_NOISE.sub(" x ", fragment)) is not None


def _reads(statement: str) -> bool:
    statement = statement.strip(" '(")
    if not statement:
        return True
    if not _READS.match(statement):
        return False
    return bool(_SCHEMA.match(statement)) or not _WRITES.search(statement)
