"""A secret in all the ways it may be written, and finding any of many secrets in bytes.

Thousands of spellings are looked for at once: every eighth position of the bytes is looked up among
the pieces of eight bytes that the spellings begin with, wherever such a spelling may have begun.
"""

from __future__ import annotations

import base64
import html
import json
import quopri
import re
import zlib
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple
from urllib.parse import quote, quote_plus

from audit_log.testing.leaks.secrets import Secret

_STEP: Final = 8
_LONG: Final = 2 * _STEP - 1  # so long that a whole piece begins at one of eight positions
_MAX_INFLATED: Final = 64 * 1024 * 1024
_MAX_DEPTH: Final = 4
_CARD: Final = 13  # digits, at least
_DEFLATED: Final = re.compile(rb"\x1f\x8b\x08|\x78[\x01\x5e\x9c\xda]")
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/_-]{20,}={0,2}")
_HEX: Final = re.compile(rb"(?:[0-9a-f]{2}){16,}|(?:[0-9A-F]{2}){16,}")


class Hit(NamedTuple):
    """A secret that was found: in which spelling, and inside of what."""

    secret: Secret
    spelling: str
    inside: str


def spellings(text: str) -> Iterator[tuple[str, bytes]]:
    """`text` as JSON, HTML, URLs, base64 and others write it; the plain one first."""
    raw = text.encode()
    ascii_json = json.dumps(text)[1:-1]
    yield "as it is", raw
    yield "in JSON", ascii_json.encode()
    yield "in JSON", json.dumps(text, ensure_ascii=False)[1:-1].encode()
    yield "in JSON in JSON", json.dumps(ascii_json)[1:-1].encode()
    yield "in HTML", html.escape(text).encode()
    yield "in a URL", quote(text, safe="").encode()
    yield "in a URL", quote(text).encode()
    yield "in a URL", quote_plus(text).encode()
    yield "as Python shows it", repr(text)[1:-1].encode()
    yield "in another encoding", text.encode("latin-1", "replace")
    yield "in another encoding", text.encode("utf-16-le")
    yield "in another encoding", text.encode("utf-16-be")
    yield "in a mail", quopri.encodestring(raw)
    yield "in lower case", text.lower().encode()
    yield "in upper case", text.upper().encode()
    yield "backwards", text[::-1].encode()
    yield "in hexadecimal", raw.hex().encode()
    yield "in hexadecimal", raw.hex().upper().encode()
    for plain in {raw, ascii_json.encode()}:
        for part in _base64(plain):
            yield "in base64", part
            yield "in base64", part.replace(b"+", b"-").replace(b"/", b"_")
    compact = text.replace(" ", "").replace("-", "")
    if len(compact) >= _CARD and compact.isdecimal():
        for sign in ("", " ", "-"):
            yield "in groups", sign.join(re.findall(".{1,4}", compact)).encode()
    if len(raw) > _LONG * 3 // 2:
        yield "cut", raw[: max(_LONG, len(raw) * 2 // 3)]


def _base64(raw: bytes) -> Iterator[bytes]:
    """What of the base64 of a longer text is sure to stand there, wherever `raw` begins in it."""
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + raw)
        yield encoded[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6]


class Search:
    """Looks for all of some secrets at once."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        self._spelled: dict[bytes, tuple[Secret, str]] = {}
        self._pieces: dict[bytes, list[tuple[int, bytes]]] = {}
        self._short: list[bytes] = []
        for secret in secrets:
            for part in secret.parts:
                for name, raw in spellings(part):
                    self._add(secret, name, raw)

    def _add(self, secret: Secret, name: str, raw: bytes) -> None:
        if not raw or raw in self._spelled:
            return
        self._spelled[raw] = (secret, name)
        if len(raw) < _LONG:
            self._short.append(raw)
            return
        for offset in range(_STEP):
            piece = raw[offset : offset + _STEP]
            self._pieces.setdefault(piece, []).append((offset, raw))

    def hits(self, raw: bytes) -> Iterator[Hit]:
        """Every secret in `raw`, and in what is compressed or encoded in it; each once."""
        seen: set[tuple[int, str, str]] = set()
        for inside, content in unfolded(raw):
            for found in self._found(content):
                secret, spelling = self._spelled[found]
                if (secret.number, spelling, inside) not in seen:
                    seen.add((secret.number, spelling, inside))
                    yield Hit(secret, spelling, inside)

    def _found(self, raw: bytes) -> Iterator[bytes]:
        pieces = self._pieces
        for position in range(0, len(raw) - _STEP + 1, _STEP):
            for offset, spelled in pieces.get(raw[position : position + _STEP], ()):
                if position >= offset and raw.startswith(spelled, position - offset):
                    yield spelled
        yield from (spelled for spelled in self._short if spelled in raw)


def unfolded(raw: bytes, inside: str = "", depth: int = 0) -> Iterator[tuple[str, bytes]]:
    """`raw` and all that can be inflated or decoded in it, again and again; and inside of what."""
    yield inside, raw
    if depth == _MAX_DEPTH:
        return
    for how, content in _inner(raw):
        yield from unfolded(content, f"{inside} {how}".strip(), depth + 1)


def _inner(raw: bytes) -> Iterator[tuple[str, bytes]]:
    view = memoryview(raw)
    for match in _DEFLATED.finditer(raw):
        # 47: zlib's header or gzip's, whichever there is.
        yield from _inflated(view[match.start() :], 47)
    yield from _inflated(raw, -zlib.MAX_WBITS)  # no header
    for match in _BASE64.finditer(raw):
        text = match[0].rstrip(b"=").replace(b"-", b"+").replace(b"_", b"/")
        text = text[: len(text) - (len(text) % 4 == 1)]
        yield "base64", base64.b64decode(text + b"=" * (-len(text) % 4))
    for match in _HEX.finditer(raw):
        yield "hexadecimal", bytes.fromhex(match[0].decode())


def _inflated(raw: bytes | memoryview, window: int) -> Iterator[tuple[str, bytes]]:
    inflater = zlib.decompressobj(window)
    try:
        content = inflater.decompress(raw, _MAX_INFLATED)
    except zlib.error:
        return
    # Random bytes may begin like a stream without a header; few of them go on like one to the end.
    if len(content) >= _STEP and (window > 0 or inflater.eof):
        yield "deflated", content
