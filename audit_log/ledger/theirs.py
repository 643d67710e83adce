"""What people are called in a record about something else: sealed under each one's own key.

The author of a review, the members of a group: a foreign key or a many-to-many field shows what an
object on its other side is called. Where that is a person, the name is theirs, and goes when they
are erased. It stands inside of the record's sealed part, sealed once more, under "theirs":
`{"labels.author.1": base64}`.
"""

from __future__ import annotations

import base64
import binascii
import uuid
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.core.exceptions import FieldDoesNotExist
from django.db.models import Model

from audit_log import conf
from audit_log.events import JSON, Event
from audit_log.exceptions import DecryptionError, Erased, TamperedValue
from audit_log.privacy.encryption import open_sealed, place_of
from audit_log.recording.subjects import is_person, leads_to_key, person_type
from audit_log.recording.targets import model_of

MEMBER: Final = "theirs"
_MAX_LABELS: Final = 100  # as `capture.memberships` keeps
KeyOf = Callable[[bytes], AESGCM]
_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Name(NamedTuple):
    """What a person is called at a place of an event. Without a subject it is nobody's to keep."""

    path: str
    subject: str | None
    text: str


def names_in(event: Event) -> list[Name]:
    """The names of people in an event about something else: mostly none."""
    if not event.labels and not (event.data and event.data.get("labels")):
        return []
    return [name for name in (*_of_fields(event), *_of_members(event)) if not _is_own(name, event)]


def _is_own(name: Name, event: Event) -> bool:
    """Under the same key as all the rest."""
    return name.subject is not None and name.subject == event.subject


def _of_fields(event: Event) -> Iterator[Name]:
    if event.target is None:
        return
    for field, pair in (event.labels or {}).items():
        kind = _person_behind(event.target.type, field)
        if kind is None:
            continue
        values = (event.changes or {}).get(field) or []
        for side, text in enumerate(pair):
            if text is not None:
                value = values[side] if side < len(values) and kind else None
                subject = None if value is None else f"{kind}:{value}"
                yield Name(f"labels.{field}.{side}", subject, text)


def _of_members(event: Event) -> Iterator[Name]:
    data = event.data or {}
    ids, texts, kind = data.get("ids"), data.get("labels"), data.get("type")
    if "data.labels" not in event.sealed:
        return  # a project's own word of another meaning
    if not isinstance(ids, list) or not isinstance(texts, list) or not isinstance(kind, str):
        return
    person = _person(kind)
    if person is None:
        return
    aligned = len(texts) == min(len(ids), _MAX_LABELS)
    for n, text in enumerate(texts):
        if isinstance(text, str):
            subject = f"{person}:{ids[n]}" if aligned and ids[n] is not None else None
            yield Name(f"data.labels.{n}", subject, text)


@lru_cache(maxsize=1024)
def _person_behind(target_type: str, field: str) -> str | None:
    """What people behind a foreign key of a model are called: "" where it does not tell whom."""
    model = model_of(target_type)
    try:
        found = None if model is None else model._meta.get_field(field)
    except FieldDoesNotExist:
        return None  # a field of the past
    related = getattr(found, "related_model", None)
    if not isinstance(related, type) or not issubclass(related, Model) or not is_person(related):
        return None
    return person_type(related) if leads_to_key(found) else ""


@lru_cache(maxsize=1024)
def _person(label: str) -> str | None:
    model = model_of(label)
    return None if model is None or not is_person(model) else person_type(model)


@conf.on_change
def _forget() -> None:
    _person_behind.cache_clear()
    _person.cache_clear()


def left_out(labels: Any, texts: JSON, names: list[Name]) -> tuple[Any, JSON]:
    """The labels of fields and of members, without these names."""
    places = {name.path for name in names}
    if labels:
        labels = {
            field: [
                None if f"labels.{field}.{side}" in places else text
                for side, text in enumerate(pair)
            ]
            for field, pair in labels.items()
        }
        labels = {field: pair for field, pair in labels.items() if any(pair)} or None
    if isinstance(texts, list):
        texts = [None if f"data.labels.{n}" in places else t for n, t in enumerate(texts)]
    return labels, texts


def added(plaintext: bytes, sealed: dict[str, bytes]) -> bytes:
    """A record's sealed part with these sealed names (by path) inside of it."""
    value = _decode(plaintext) if plaintext else {}
    value[MEMBER] = {path: base64.b64encode(each).decode() for path, each in sealed.items()}
    return _encode(value)


def put_back(value: dict[str, Any], record_id: uuid.UUID, key_of: KeyOf) -> list[str]:
    """Open the names in an opened sealed part, each to its place. Returns why some stay closed.

    Of an erased person it is "erased on YYYY-MM-DD".
    """
    closed: list[str] = []
    sealed = value.pop(MEMBER, None)
    for path, text in sealed.items() if isinstance(sealed, dict) else ():
        try:
            raw = base64.b64decode(text, validate=True)
            name = open_sealed(raw, key_of, place_of(record_id, path)).decode()
        except Erased as error:
            name = f"erased on {error.on:%Y-%m-%d}"
        except (DecryptionError, binascii.Error, TypeError, ValueError) as error:
            closed.append(f"{path}: {error}")
            continue
        _put(value, path, name)
    return closed


def _put(value: dict[str, Any], path: str, name: str) -> None:
    root, _, rest = path.partition(".")
    if root == "labels":
        field, _, side = rest.rpartition(".")
        pair = value.setdefault("labels", {}).setdefault(field, [None, None])
        pair[int(side)] = name
    else:
        texts = value.setdefault("data", {}).setdefault("labels", [])
        number = int(rest.rpartition(".")[2])
        texts += [None] * (number + 1 - len(texts))
        texts[number] = name


def opened(plaintext: bytes, record_id: uuid.UUID, key_of: KeyOf) -> bytes:
    """A sealed part with its names opened, for comparing. Raises UnknownKey where one is erased."""
    if b'"theirs":' not in plaintext:
        return plaintext
    value = _decode(plaintext)
    sealed = value.get(MEMBER)
    if not isinstance(sealed, dict):
        return plaintext
    for path, text in sealed.items():
        try:
            raw = base64.b64decode(text, validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise TamperedValue(f"{path} is not base64.") from error
        sealed[path] = open_sealed(raw, key_of, place_of(record_id, path)).decode()
    return _encode(value)
