"""Any Python value as JSON that every database takes: bounded, clean, and never raising.

Numbers JSON cannot hold exactly become strings; what no rule knows becomes its type's name. What
was altered on the way is marked.
"""

from __future__ import annotations

import enum
import hashlib
import math
import uuid
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final

import msgspec
from django.utils import translation
from django.utils.duration import duration_string
from django.utils.functional import Promise

from audit_log.events import JSON, Event, Redaction, encode_event, format_time
from audit_log.exceptions import EncodingError
from audit_log.privacy.redaction import step
from audit_log.privacy.words import cut

MAX_DEPTH: Final = 20
MAX_NODES: Final = 5_000
MAX_EVENT_BYTES: Final = 64 * 1024
MAX_KEY: Final = 200
_SAFE_INT: Final = 1 << 53  # beyond it, readers that use doubles would change the number
_MAX_DIGITS: Final = 4_300  # Python refuses to print longer ones
_KEPT_CHARACTERS: Final = 200
_MARK_BYTES: Final = 150  # what the mark of a cut adds, beside its path
# Records are found by these, so they are never cut: capture bounds each of them.
_IDENTITY: Final = frozenset({"target.type", "target.id", "actor.type", "actor.id", "request.id"})


def clean(text: str) -> str:
    """`text` without NUL and lone surrogates, which PostgreSQL and JSON refuse."""
    if text.isascii():
        return text.replace("\0", "\ufffd") if "\0" in text else text
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.replace("\0", "\ufffd")


def _integer(value: int) -> JSON:
    if -_SAFE_INT < value < _SAFE_INT:
        return int(value)
    if value.bit_length() > _MAX_DIGITS * 3:
        return f"int(~{value.bit_length()} bits)"
    return str(int(value))


def _float(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return repr(value)


def _moment(value: datetime) -> str:
    return format_time(value) if value.tzinfo is not None else value.isoformat()


def digest(value: bytes | bytearray | memoryview) -> str:
    """What stands for bytes: their SHA-256 and their number."""
    raw = bytes(value)
    return f"sha256:{hashlib.sha256(raw).hexdigest()} ({len(raw)} bytes)"


def safe_str(value: object) -> str:
    """`str(value)`, or a placeholder that names the type when that raises."""
    try:
        return clean(str(value))
    except Exception as error:  # noqa: BLE001 - somebody else's __str__ may raise anything
        return _stand_in_text(value, error)


def _stand_in_text(value: object, error: Exception) -> str:
    return f"<{type(value).__name__}: {type(error).__name__}>"


def key_text(raw: object) -> str:
    """A mapping's key as text. Long ones are cut, but so that two never become one."""
    name = safe_str(raw)
    if len(name) <= MAX_KEY:
        return name
    return f"{name[:100]}…{hashlib.sha256(name.encode()).hexdigest()}"


class _Walk:
    """One conversion: its budget of nodes, and the marks it left."""

    def __init__(self) -> None:
        self.nodes = MAX_NODES
        self.marks: list[Redaction] = []

    def plain(self, value: Any, path: str, depth: int) -> JSON:
        self.nodes -= 1
        if self.nodes < 0:
            self.marks.append(Redaction(path, "nodes"))
            return "...nodes"
        try:
            return self._known(value, path, depth)
        except Exception as error:  # noqa: BLE001 - one hostile value must not take its neighbours
            self.marks.append(Redaction(path, "unencodable"))
            return _stand_in_text(value, error)

    def _known(self, value: Any, path: str, depth: int) -> JSON:
        if isinstance(value, (Mapping, list, tuple, set, frozenset)):
            if depth >= MAX_DEPTH:
                self.marks.append(Redaction(path, "depth"))
                return "...depth"
            return self._container(value, path, depth + 1)
        result = _scalar(value)
        if isinstance(value, str) and result != value:
            self.marks.append(Redaction(path, "sanitised"))
        return result

    def _container(self, value: Any, path: str, depth: int) -> JSON:
        if isinstance(value, Mapping):
            result: dict[str, JSON] = {}
            for key, item in value.items():
                if self.nodes <= 0:
                    self.marks.append(Redaction(path, "nodes"))
                    break
                name = key_text(key)
                result[name] = self.plain(item, f"{path}.{step(name)}", depth)
            return result
        items: list[JSON] = []
        for n, item in enumerate(value):
            if self.nodes <= 0:
                self.marks.append(Redaction(path, "nodes"))
                break
            items.append(self.plain(item, f"{path}.{n}", depth))
        return sorted(items, key=repr) if isinstance(value, (set, frozenset)) else items


def _number(value: Any) -> tuple[bool, JSON]:
    if isinstance(value, bool):
        return True, bool(value)
    if isinstance(value, int):
        return True, _integer(value)
    if isinstance(value, float):
        return True, _float(value)
    if isinstance(value, Decimal):
        return True, str(value)
    return False, None


def _temporal(value: Any) -> str | None:
    if isinstance(value, datetime):
        return _moment(value)
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return duration_string(value)
    return None


def _scalar(value: Any) -> JSON:
    if value is None:
        return None
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, str):
        return clean(str(value))
    known, number = _number(value)
    if known:
        return number
    if (moment := _temporal(value)) is not None:
        return moment
    return _other(value)


def _other(value: Any) -> JSON:
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, Promise):
        return _lazy(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return digest(value)
    meta = getattr(value, "_meta", None)
    if meta is not None and hasattr(meta, "label_lower"):
        return f"{meta.label_lower}:{safe_str(getattr(value, 'pk', None))}"
    return f"<{type(value).__module__}.{type(value).__qualname__}>"


def _lazy(value: Promise) -> str:
    """A lazy string in the project's own language, whoever's language the request is in."""
    active = translation.get_language()  # None where translations are switched off
    translation.deactivate()
    try:
        return safe_str(value)
    finally:
        if active:
            translation.activate(active)
        else:
            translation.deactivate_all()


def plain(value: Any, path: str = "") -> tuple[JSON, list[Redaction]]:
    """`value` as JSON, and what had to be altered. Never raises."""
    walk = _Walk()
    return walk.plain(value, path, 0), walk.marks


def encode_bounded(event: Event) -> bytes:
    """`event` encoded, at most 64 KiB: its longest values are cut, and marked with length and hash.

    An event that cannot be encoded at all becomes one that says so. Never raises for its contents.
    """
    try:
        encoded = encode_event(event)
        return encoded if len(encoded) <= MAX_EVENT_BYTES else _cut(event, len(encoded))
    except EncodingError as error:
        return _stand_in(event, str(error))


def _stand_in(event: Event, why: str) -> bytes:
    """What is left of an event that cannot be encoded or cut: who did what to which object."""
    data = {"capture_error": clean(why)[:_KEPT_CHARACTERS]}
    marks = (Redaction("changes", "unencodable"), Redaction("data", "unencodable"))
    smaller = msgspec.structs.replace(
        event,
        changes=None,
        labels=None,
        request=None,
        reason=None,
        data=data,
        sealed=("data.capture_error",),
        redactions=marks,
    )
    try:
        encoded = encode_event(smaller)
        if len(encoded) <= MAX_EVENT_BYTES:
            return encoded
    except EncodingError:
        pass  # something hostile in the envelope itself: it goes as well
    return encode_event(
        Event(
            version=event.version,
            id=event.id,
            occurred_at=event.occurred_at,
            action=safe_str(event.action)[:_KEPT_CHARACTERS],
            outcome="unknown",
            data=data,
            sealed=("data.capture_error",),
            redactions=marks,
        )
    )


def _cut(event: Event, size: int) -> bytes:
    tree = msgspec.to_builtins(event)
    marks = list(tree.get("redactions", ()))
    for path, holder, key in sorted(_texts(tree), key=lambda t: -len(t[1][t[2]])):
        text = holder[key]
        if size <= MAX_EVENT_BYTES - 1024 or len(text) <= _KEPT_CHARACTERS:
            break
        holder[key] = cut(text, _KEPT_CHARACTERS, personal=not _is_sealed(path, event)) + "…"
        path = path[:MAX_KEY]  # noqa: PLW2901 - as long as a record keeps it
        marks.append({"path": path, "rule": f"cut:{len(text)}:{_sha256(text)}"})
        size -= _encoded_length(text) - _encoded_length(holder[key])
        size += _MARK_BYTES + _encoded_length(path)
    tree["redactions"] = marks
    encoded = msgspec.json.encode(tree)
    if len(encoded) <= MAX_EVENT_BYTES:
        return encoded
    return _stand_in(event, f"The event has {len(encoded)} bytes after cutting.")


def _is_sealed(path: str, event: Event) -> bool:
    if path.startswith(("changes.", "data.")):
        return ".".join(path.split(".")[:2]) in event.sealed
    return path not in {"actor.id", "actor.via", "request.path"}


def _sha256(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _encoded_length(text: str) -> int:
    return len(msgspec.json.encode(text))


def _texts(tree: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """(path, container, key) of every string an event may lose."""
    found: list[tuple[str, Any, Any]] = []
    stack: list[tuple[str, Any]] = [
        (name, tree[name])
        for name in ("changes", "labels", "data", "request", "actor", "target")
        if tree.get(name)
    ]
    if isinstance(tree.get("reason"), str):
        found.append(("reason", tree, "reason"))
    while stack:
        path, node = stack.pop()
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for key, item in items:
            inner = f"{path}.{step(key) if isinstance(key, str) else key}"
            if isinstance(item, str) and inner not in _IDENTITY:
                found.append((inner, node, key))
            elif isinstance(item, (dict, list)):
                stack.append((inner, item))
    return found
