"""One INSERT that makes records out of numbers, in the SQL of each database."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper

from audit_log.ledger.heads import DEFAULT
from audit_log.models import Record
from audit_log.privacy.encryption import FORMAT, HEADER_BYTES, KEY_ID_BYTES

# What a record of the bank has: label, address and user agent; label, texts before and after.
_SEALED_ACTOR: Final = 230
_SEALED_DATA: Final = 210
_UNKNOWN_KEY: Final = bytes(KEY_ID_BYTES)
_MIXED: Final = 2654435761  # Knuth's multiplicative hashing: neighbours land far apart
_DIGEST: Final = 16


class Dialect(NamedTuple):
    """How one database says it; `{0}` is an expression."""

    numbers: str
    divide: str
    text: str
    hex12: str
    uuid: str
    moment: str
    blob: str
    json: str = "{0}"


_DIALECTS: Final = {
    "postgresql": Dialect(
        numbers="SELECT n FROM generate_series({first}::bigint, {last}) AS n",
        divide="/",
        text="({0})::text",
        hex12="lpad(to_hex({0}), 12, '0')",
        uuid="({0})::uuid",
        moment="(timestamptz 'epoch' + ({0}) * interval '1 millisecond')",
        blob="decode({0}, 'hex')",
        json="({0})::jsonb",
    ),
    "mysql": Dialect(
        numbers="SELECT seq AS n FROM seq_{first}_to_{last}",
        divide="DIV",
        text="CAST({0} AS CHAR)",
        hex12="lpad(lower(hex({0})), 12, '0')",
        uuid="{0}",
        moment="TIMESTAMPADD(MICROSECOND, ({0}) * 1000, '1970-01-01')",
        blob="unhex({0})",
    ),
    "sqlite": Dialect(
        numbers="WITH RECURSIVE numbers(n) AS (SELECT {first} UNION ALL "
        "SELECT n + 1 FROM numbers WHERE n < {last}) SELECT n FROM numbers",
        divide="/",
        text="CAST({0} AS TEXT)",
        hex12="printf('%012x', {0})",
        uuid="{0}",
        moment="strftime('%Y-%m-%d %H:%M:%f', ({0}) / 1000.0, 'unixepoch') || '000'",
        blob="unhexed({0})",
    ),
}


def inserting(
    connection: BaseDatabaseWrapper,
    first: int,
    last: int,
    *,
    end: datetime,
    span: timedelta,
    records: int,
) -> str:
    """The statement for sequences `first` to `last` of `records`, spread evenly up to `end`."""
    say = _DIALECTS[connection.vendor]
    quote = connection.ops.quote_name
    columns = _columns(say, records)
    begin = int((end - span).timestamp() * 1000)
    width = int(span.total_seconds() * 1000)
    numbers = say.numbers.format(first=first, last=last)
    rows = (
        f"SELECT n, {begin} + (n * {width}) {say.divide} {records} AS ms, "  # noqa: S608
        f"(n * {_MIXED}) % 4294967296 AS r FROM ({numbers}) AS counted"
    )
    return (
        f"INSERT INTO {quote(Record._meta.db_table)} ({', '.join(map(quote, columns))}) "  # noqa: S608
        f"SELECT {', '.join(columns.values())} FROM ({rows}) AS mixed"
    )


def _columns(say: Dialect, records: int) -> dict[str, str]:
    """An expression for each column over `n`, the sequence; `ms`, its time; `r`, a mixed number."""
    actor = f"((r % 1000) * (r % 1000)) {say.divide} 500"  # of 2,000; some act far more often
    target = f"(r {say.divide} 20) % {records // 20 + 1}"
    is_request = "r % 10 > 6"
    return {
        "id": say.uuid.format(_uuid7(say)),
        "version": "1",
        "stream": f"'{DEFAULT}'",
        "sequence": "n",
        "occurred_at": say.moment.format("ms"),
        "recorded_at": say.moment.format("ms + 700"),
        "service": "'bank'",
        "emitter": f"substr({_md5(say, f'n {say.divide} 100000')}, 1, 16)",
        "emitter_seq": "n % 100000",
        "action": _case(
            ("r % 99991 = 0", "'permission.granted'"),
            (is_request, "'request'"),
            ("r % 100 = 0", "'login'"),
            ("r % 10 = 1", "'create'"),
            ("r % 20 = 2", "'delete'"),
            default="'update'",
        ),
        "outcome": _case(("r % 50 = 7", "'failure'"), default="'success'"),
        "actor_type": _case(("r % 10 = 3", "'admin'"), default="'user'"),
        "actor_id": say.text.format(actor),
        "session_token": _md5(say, actor),
        "target_type": _case(
            (is_request, "NULL"),
            ("r % 20 < 8", "'bank.transaction'"),
            ("r % 20 < 13", "'bank.account'"),
            default="'bank.customer'",
        ),
        "target_id": _case((is_request, "NULL"), default=say.text.format(target)),
        "request_id": _md5(say, "n - n % 3"),
        "source": _case((is_request, "'request'"), default="'orm'"),
        "method": "'POST'",
        "route": "'bank:account-detail'",
        "path": f"'/bank/accounts/' || {say.text.format(target)} || '/'",
        "status": _case((is_request, "200"), default="NULL"),
        "duration_ms": _case((is_request, "r % 400"), default="NULL"),
        **_contents(say, is_request),
        "actor_token": _md5(say, actor),
        "ip_token": _md5(say, f"{actor} + r % 3"),
        "net_token": _md5(say, f"{actor} + r % 2"),
        "agent_token": _md5(say, f"({actor}) % 50"),
    }


def _contents(say: Dialect, is_request: str) -> dict[str, str]:
    """What changed: three open fields, and the sealed parts."""
    amount = say.text.format("r % 10000")
    changes = (
        f"""'{{"amount": ["100.00", "' || {amount} || '.50"], "status": ["open", "blocked"], """
        """"updated_at": ["2026-01-01T10:00:00.000000Z", "2026-01-02T10:00:00.000000Z"]}'"""
    )
    fields = """'["amount", "name", "note", "status", "updated_at"]'"""
    return {
        "changed_fields": _case((is_request, "NULL"), default=say.json.format(fields)),
        "changes": _case((is_request, "NULL"), default=say.json.format(changes)),
        "salt": say.blob.format(_md5(say, "n")),
        "sealed_actor": _sealed(say, _SEALED_ACTOR),
        "sealed_data": _case((is_request, "NULL"), default=_sealed(say, _SEALED_DATA)),
    }


def _uuid7(say: Dialect) -> str:
    """RFC 9562: 48 bits of milliseconds, the version, the variant; the rest as good as random."""
    digest = _md5(say, "n")
    time = say.hex12.format("ms")
    return f"{time} || '7' || substr({digest}, 1, 3) || '8' || substr({digest}, 4, 15)"


def _md5(say: Dialect, expression: str) -> str:
    return f"md5({say.text.format(expression)})"


def _sealed(say: Dialect, width: int) -> str:
    """A sealed value of `width` bytes: one header and filling for all, and an end of its own."""
    header = bytes([FORMAT, 0]) + _UNKNOWN_KEY
    filling = header + os.urandom(width - len(header) - _DIGEST)
    if width <= HEADER_BYTES:
        raise ValueError("A sealed value is longer than its header.")
    return say.blob.format(f"'{filling.hex()}' || {_md5(say, 'n')}")


def _case(*pairs: tuple[str, str], default: str) -> str:
    whens = " ".join(f"WHEN {condition} THEN {value}" for condition, value in pairs)
    return f"CASE {whens} ELSE {default} END"
