"""Opening the sealed parts of records. Who may look is permission; that they looked is recorded."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from audit_log.exceptions import DecryptionError, Erased, TamperedValue, UnknownKey
from audit_log.ledger import theirs
from audit_log.models import Record
from audit_log.privacy import data_keys
from audit_log.privacy.encryption import key_id_of, open_sealed, place_of
from audit_log.router import ledger_alias

_COLUMNS = ("sealed_actor", "sealed_data")


def contents(record: Record) -> dict[str, Any]:
    """Everything a record holds, opened.

    `{"changes": {field: [old, new]}, "labels", "target_label", "data", "actor": {label, email, ip,
    user_agent}, "request": {query, body}, "reason", "closed": [why a part cannot be opened],
    "erased": {"actor", "data"}}`. Never raises for a part that is erased or altered: it is left
    out, and `closed` says why. Where its person was erased, `erased` has "erased on YYYY-MM-DD",
    and so have both labels.
    """
    return _contents(record, None)


def contents_of_all(records: Iterable[Record]) -> list[dict[str, Any]]:
    """The same of many records, in their order; one query for all keys."""
    rows = list(records)
    ciphers = _ciphers(rows)
    return [_contents(row, ciphers) for row in rows]


def _contents(record: Record, ciphers: _Ciphers | None) -> dict[str, Any]:
    closed: list[str] = []
    erased: dict[str, str] = {}
    actor = _open(record, "sealed_actor", closed, erased, ciphers)
    data = _open(record, "sealed_data", closed, erased, ciphers)
    using = _database(record)
    closed += theirs.put_back(data, record.pk, lambda id_: data_keys.cipher_for(id_, using))
    return {
        "erased": {
            "actor": erased.get("sealed_actor"),
            "data": erased.get("sealed_data"),
        },
        "changes": {**_mapping(record.changes), **data.get("changes", {})},
        "labels": data.get("labels", {}),
        "target_label": data.get("target_label", erased.get("sealed_data")),
        "data": {**_mapping(record.data), **data.get("data", {})},
        "actor": {
            "label": actor.get("label", erased.get("sealed_actor")),
            **{key: actor.get(key) for key in ("email", "ip", "user_agent")},
        },
        "request": {key: actor.get(key) for key in ("query", "body")},
        "reason": actor.get("reason"),
        "closed": closed,
    }


def labels(records: Iterable[Record]) -> dict[Any, tuple[str | None, str | None]]:
    """The actor's and the target's label of each record, by id; one query for all keys.

    Of who was erased it is "erased on YYYY-MM-DD".
    """
    rows = list(records)
    ciphers = _ciphers(rows)
    found = {}
    for row in rows:
        erased: dict[str, str] = {}
        actor = _open(row, "sealed_actor", [], erased, ciphers)
        data = _open(row, "sealed_data", [], erased, ciphers)
        found[row.pk] = (
            actor.get("label", erased.get("sealed_actor")),
            data.get("target_label", erased.get("sealed_data")),
        )
    return found


_Ciphers = dict[str, dict[bytes, AESGCM | DecryptionError]]


def _ciphers(records: Iterable[Record]) -> _Ciphers:
    """The ciphers of many records by database, or why there is none: one query each."""
    ids: dict[str, set[bytes]] = {}
    for row in records:
        for column in _COLUMNS:
            sealed = getattr(row, column)
            if sealed:
                with suppress(TamperedValue):
                    ids.setdefault(_database(row), set()).add(key_id_of(bytes(sealed)))
    return {using: data_keys.preload(wanted, using) for using, wanted in ids.items()}


def _database(record: Record) -> str:
    return record._state.db or ledger_alias()


def _open(
    record: Record,
    column: str,
    closed: list[str],
    erased: dict[str, str],
    ciphers: _Ciphers | None,
) -> dict[str, Any]:
    sealed = getattr(record, column)
    if not sealed:
        return {}
    using = _database(record)

    def cipher_for(key_id: bytes) -> AESGCM:
        if ciphers is None:
            return data_keys.cipher_for(key_id, using)
        found = ciphers[using].get(key_id)
        if found is None:
            raise UnknownKey("Not among those that could be opened.")
        if isinstance(found, DecryptionError):
            raise found
        return found

    try:
        value = json.loads(open_sealed(bytes(sealed), cipher_for, place_of(record.pk, column)))
    except (DecryptionError, ValueError) as error:
        if isinstance(error, Erased):
            erased[column] = f"erased on {error.on:%Y-%m-%d}"
        closed.append(f"{column}: {error}")
        return {}
    return value if isinstance(value, dict) else {}


def _mapping(column: Any) -> dict[str, Any]:
    # Somebody who altered the row may have put anything there; it is shown all the same.
    return column if isinstance(column, dict) else {}
