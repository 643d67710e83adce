"""Opening the sealed parts of records. Who may look is permission; that they looked is recorded."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from django.db import DEFAULT_DB_ALIAS

from audit_log.exceptions import DecryptionError, TamperedValue
from audit_log.models import Record
from audit_log.privacy import data_keys
from audit_log.privacy.encryption import key_id_of, open_sealed, place_of

_COLUMNS = ("sealed_actor", "sealed_data")


def contents(record: Record) -> dict[str, Any]:
    """Everything a record holds, opened.

    `{"changes": {field: [old, new]}, "labels", "target_label", "data", "actor": {label, email, ip,
    user_agent}, "request": {query, body}, "reason", "closed": [why a part cannot be opened]}`.
    Never raises for a part that is erased or altered: it is left out, and `closed` says why.
    """
    closed: list[str] = []
    actor = _open(record, "sealed_actor", closed)
    data = _open(record, "sealed_data", closed)
    return {
        "changes": {**_mapping(record.changes), **data.get("changes", {})},
        "labels": data.get("labels", {}),
        "target_label": data.get("target_label"),
        "data": {**_mapping(record.data), **data.get("data", {})},
        "actor": {key: actor.get(key) for key in ("label", "email", "ip", "user_agent")},
        "request": {key: actor.get(key) for key in ("query", "body")},
        "reason": actor.get("reason"),
        "closed": closed,
    }


def labels(records: Iterable[Record]) -> dict[Any, tuple[str | None, str | None]]:
    """The actor's and the target's label of each record, by id; one query for all keys."""
    rows = list(records)
    preload(rows)
    found = {}
    for row in rows:
        closed: list[str] = []
        actor = _open(row, "sealed_actor", closed)
        data = _open(row, "sealed_data", closed)
        found[row.pk] = (actor.get("label"), data.get("target_label"))
    return found


def preload(records: Iterable[Record]) -> None:
    """Open the keys of many records with one query."""
    ids: dict[str, set[bytes]] = {}
    for row in records:
        for column in _COLUMNS:
            sealed = getattr(row, column)
            if sealed:
                try:
                    key_id = key_id_of(bytes(sealed))
                except TamperedValue:
                    continue
                ids.setdefault(row._state.db or DEFAULT_DB_ALIAS, set()).add(key_id)
    for using, wanted in ids.items():
        try:
            data_keys.preload(wanted, using)
        except DecryptionError:
            continue  # said again, per record, when it is opened


def _open(record: Record, column: str, closed: list[str]) -> dict[str, Any]:
    sealed = getattr(record, column)
    if not sealed:
        return {}
    using = record._state.db or DEFAULT_DB_ALIAS
    try:
        plaintext = open_sealed(
            bytes(sealed),
            lambda key_id: data_keys.cipher_for(key_id, using),
            place_of(record.pk, column),
        )
        value = json.loads(plaintext)
    except (DecryptionError, ValueError) as error:
        closed.append(f"{column}: {error}")
        return {}
    return value if isinstance(value, dict) else {}


def _mapping(column: Any) -> dict[str, Any]:
    # Somebody who altered the row may have put anything there; it is shown all the same.
    return column if isinstance(column, dict) else {}
