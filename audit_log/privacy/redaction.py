"""Masking by key names, in the web process: cheap, and closed when it fails.

Nothing here looks for patterns in text; that is the worker's work (`detectors`). A function that
cannot do its work masks the whole value: it never raises, and never lets one through.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Final, TypeVar
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from audit_log.events import JSON, Redaction
from audit_log.privacy import graphql, names
from audit_log.privacy.names import Kind, Named

_T = TypeVar("_T")
logger = logging.getLogger(__name__)

MASK: Final = "[MASKED]"
MAX_DEPTH: Final = 20
MAX_NODES: Final = 500
MAX_REDACTIONS: Final = 64
CUT_DEPTH: Final = "...depth"
CUT_NODES: Final = "...nodes"

_MAX_EMBEDDED: Final = 16 * 1024
_CARD_DIGITS: Final = range(12, 20)
_SHOWN: Final = 4
_DISTINCT: Final = 8
_SCALARS: Final = (int, float, type(None))
_PLAIN_SCALARS: Final = frozenset({int, float, bool, type(None)})
_BLANK: Final = "\ufeff \t\r\n"
_JSON_BEGINS: Final = frozenset('{["')  # also a string, which may hold more JSON
_MAY_BE_JSON: Final = _JSON_BEGINS | frozenset(_BLANK)
# A quoted key in text that looks like JSON but is not (cut off, Python's repr, twice encoded).
_QUOTED_KEY: Final = re.compile(r"""["']([^"'\\\n]{1,64})\\{0,8}["']\s{0,8}:""")
_PLAIN_KEY: Final = re.compile(r"(?!.*[0-9]{9})[A-Za-z_][\w\[\]-]{0,47}", re.ASCII)


def mask(value: JSON, *, keep_last4: bool = False) -> str | None:
    """What stands for a masked value: always the same width, so that no length shows.

    None stays None. `keep_last4` is for card numbers: it shows the last four digits of a string of
    at least twelve digits (spaces and dashes aside), and of nothing else.
    """
    if value is None:
        return None
    if keep_last4 and isinstance(value, str):
        digits = value.replace(" ", "").replace("-", "")
        if len(digits) in _CARD_DIGITS and digits.isascii() and digits.isdecimal():
            return f"**** **** **** {digits[-_SHOWN:]}"
    return MASK


def redact(
    value: JSON,
    path: str,
    *,
    mask_keys: tuple[str, ...] = (),
    safe_keys: tuple[str, ...] = (),
) -> tuple[JSON, list[Redaction]]:
    """`value` without what its keys say must not be stored, and what was done to it.

    Walks dicts, lists and JSON in strings (one level), to `MAX_DEPTH` and `MAX_NODES`: what lies
    beyond is replaced by a marker. The value given is not altered; where nothing is hidden, it is
    what comes back. Never raises.
    """

    def walked() -> tuple[JSON, list[Redaction]]:
        kind = type(value)
        if (kind is dict or kind is list) and _hides_nothing(value, mask_keys, safe_keys):
            return value, []  # most of them
        walk = _Walk(mask_keys, safe_keys)
        return walk.value(value, path, 0), walk.notes.redactions

    return _closed(path, walked, mask(value))


def _hides_nothing(value: JSON, mask_keys: tuple[str, ...], safe_keys: tuple[str, ...]) -> bool:
    """Whether `_Walk` would surely leave a dict or a list as it is.

    Exact types only, whose methods are Python's own and cannot raise; it notes no paths and copies
    nothing, which makes it five times as fast.
    """
    nodes, level = MAX_NODES, [value]
    for _ in range(MAX_DEPTH):
        below: list[JSON] = []
        for container in level:
            nodes -= len(container)
            members = container
            if type(container) is dict:
                members = container.values()
                if not _names_nothing(container, mask_keys, safe_keys):
                    return False
                if graphql.KEY in container and graphql.is_like(container[graphql.KEY]):
                    return False
            if not _are_plain(members, below):
                return False
        if nodes < 0 or not below:
            return nodes >= 0
        level = below
    return False


def _names_nothing(
    keys: Iterable[JSON], mask_keys: tuple[str, ...], safe_keys: tuple[str, ...]
) -> bool:
    for key in keys:
        if type(key) is not str or names.judge(key, mask_keys, safe_keys) is not None:
            return False
    return True


def _are_plain(members: Iterable[JSON], below: list[JSON]) -> bool:
    """Whether nothing has to be looked into but the containers, which are added to `below`."""
    for member in members:
        kind = type(member)
        if kind is str:
            if member[:1] in _MAY_BE_JSON:
                return False
        elif kind is dict or kind is list:
            below.append(member)
        elif kind not in _PLAIN_SCALARS:
            return False
    return True


def redact_form(
    form: Mapping[str, JSON],
    path: str = "request.body",
    *,
    mask_keys: tuple[str, ...] = (),
    safe_keys: tuple[str, ...] = (),
) -> tuple[JSON, list[Redaction]]:
    """The same for a form: a QueryDict, or a mapping of names to a value or a list of values."""
    walk = _Walk(mask_keys, safe_keys)
    return _closed(path, lambda: (walk.value(_fields(form), path, 0), walk.notes.redactions), MASK)


def redact_query(
    query: str,
    path: str = "request.query",
    *,
    mask_keys: tuple[str, ...] = (),
    safe_keys: tuple[str, ...] = (),
) -> tuple[str, list[Redaction]]:
    """A query string with the values of tell-tale names masked, everything else as it was sent."""
    walk = _Walk(mask_keys, safe_keys)
    return _closed(path, lambda: (walk.query(query, path), walk.notes.redactions), MASK)


def redact_path(
    path: str,
    captured: Mapping[str, object],
    *,
    mask_keys: tuple[str, ...] = (),
    safe_keys: tuple[str, ...] = (),
    fingerprint: Callable[[str, str], str] | None = None,
) -> tuple[str, list[Redaction]]:
    """A URL path in which the arguments named like secrets or people are masked.

    `captured` is `resolver_match.captured_kwargs`. With `fingerprint(kind, value)` the mask tells
    two values apart. A value that is not found in the path as it stands masks the whole path.
    """

    def masked() -> tuple[str, list[Redaction]]:
        left, redactions = path, []
        for name, value in captured.items():
            named = _named_in_path(name, mask_keys, safe_keys)
            text = "" if value is None else str(value)
            if named is None or not text:
                continue
            shown = MASK if fingerprint is None else f"[MASKED fp={fingerprint(named.kind, text)}]"
            left = _without(left, text, shown)
            redactions.append(Redaction(f"request.path.{step(name)}", named.rule))
        return left, redactions

    return _closed("request.path", masked, MASK)


_SENSITIVE: Final = frozenset(
    ("login", "logon", "signin", "reset", "oauth", "otp", "totp", "mfa", "2fa", "twofactor", "saml")
)


def sensitive_path(path: str) -> bool:
    """Whether the bodies sent to this path are never read: log-in, password, token and reset."""
    return any(_sensitive_segment(segment) for segment in unquote(path).split("/") if segment)


def _sensitive_segment(segment: str) -> bool:
    parts = names.tokens(segment)
    runs = {*parts, *(first + second for first, second in pairwise(parts))}
    return not runs.isdisjoint(_SENSITIVE) or names.kind_of(segment) is Kind.SECRET


def _closed(
    path: str, run: Callable[[], tuple[_T, list[Redaction]]], failed: _T
) -> tuple[_T, list[Redaction]]:
    try:
        return run()
    except Exception as error:  # noqa: BLE001 - a value's own methods can raise anything
        # The error's text and traceback may hold the value: only its type is logged.
        logger.error(  # noqa: TRY400
            "Masking %s failed (%s); the whole value was masked.", path, type(error).__name__
        )
        return failed, [Redaction(path, "error")]


def _fields(form: Mapping[str, JSON]) -> dict[str, JSON]:
    lists = getattr(form, "lists", form.items)  # items() of a QueryDict has only the last values
    return {
        name: values[0] if isinstance(values, list) and len(values) == 1 else values
        for name, values in lists()
    }


def step(key: str) -> str:
    """A key as part of a path; one that may itself be a secret is not repeated."""
    return key if _PLAIN_KEY.fullmatch(key) else "*"


def _named_in_path(
    name: str, mask_keys: tuple[str, ...], safe_keys: tuple[str, ...]
) -> Named | None:
    named = names.judge(name, mask_keys, safe_keys)
    if named is not None or names.is_safe(name, safe_keys):
        return named
    # A URL's `<key>` or `<uidb64>` opens something, which a body's "key" seldom does.
    opens = names.tokens(name)[-1:] == ("key",) or name.lower().endswith(("uidb64", "uidb36"))
    return Named(Kind.SECRET, "path:key") if opens else None


def _without(path: str, text: str, shown: str) -> str:
    """`path` with the segments that are `text` replaced, else every occurrence, else all of it."""
    forms = (text, quote(text), quote(text, safe=""))
    segments = path.split("/")
    left = "/".join(shown if segment in forms else segment for segment in segments)
    # Inside other words a short value may stand by chance, but then only if it had no segment.
    if left == path or len(text) >= _DISTINCT:
        for form in forms:
            left = left.replace(form, shown)
    return shown if left == path else left


class Notes:
    """What was done to a value: at most `MAX_REDACTIONS`, the last of which says there was more."""

    __slots__ = ("count", "redactions")

    def __init__(self) -> None:
        self.count = 0
        self.redactions: list[Redaction] = []

    def add(self, path: str, rule: str) -> None:
        self.count += 1
        if self.count < MAX_REDACTIONS:
            self.redactions.append(Redaction(path, rule))
        elif self.count == MAX_REDACTIONS:
            self.redactions.append(Redaction(path, "limit:redactions"))


class _Walk:
    """One pass over a value: what is left of the node budget, and what was done."""

    __slots__ = ("duplicates", "embedded", "mask_keys", "nodes", "notes", "safe_keys")

    def __init__(self, mask_keys: tuple[str, ...], safe_keys: tuple[str, ...]) -> None:
        self.mask_keys = mask_keys
        self.safe_keys = safe_keys
        self.nodes = MAX_NODES
        self.notes = Notes()
        self.embedded = False
        self.duplicates = False

    def value(self, value: JSON, path: str, depth: int) -> JSON:
        if isinstance(value, str):
            return self.text(value, path, depth) if _like_json(value) else value
        if isinstance(value, (dict, list, tuple, Mapping)):
            return self.container(value, path, depth)
        return value

    def container(
        self, value: Mapping[str, JSON] | list[JSON] | tuple[JSON, ...], path: str, depth: int
    ) -> JSON:
        if depth >= MAX_DEPTH:
            self.notes.add(path, "limit:depth")
            return CUT_DEPTH
        if isinstance(value, (list, tuple)):
            return self.items(value, path, depth + 1)
        return self.members(value.items(), path, depth + 1)

    def members(self, members: Iterable[tuple[JSON, JSON]], path: str, depth: int) -> JSON:
        kept: dict[str, JSON] = {}
        for raw, member in members:
            if not self.spend(path):
                kept[CUT_NODES] = CUT_NODES
                break
            key = raw if isinstance(raw, str) else str(raw)
            named = names.judge(key, self.mask_keys, self.safe_keys)
            if named is not None:
                kept[key] = self.hide(member, named, f"{path}.{step(key)}")
            elif isinstance(member, _SCALARS):
                kept[key] = member
            else:
                kept[key] = self.named_value(key, member, f"{path}.{step(key)}", depth)
        return kept

    def named_value(self, key: str, member: JSON, path: str, depth: int) -> JSON:
        """The value of a name that says nothing; `query` may be a GraphQL document."""
        if key == graphql.KEY and graphql.is_like(member):
            return self.graphql(member, path)
        return self.value(member, path, depth)

    def graphql(self, document: str, path: str) -> str:
        def judge(name: str) -> Named | None:
            return names.judge(name, self.mask_keys, self.safe_keys)

        def hide(name: str, literal: str, named: Named) -> str:
            return f'"{self.hide(literal, named, f"{path}.{step(name)}")}"'

        left = graphql.without_secrets(document, judge, hide)
        if left is not None:
            return left
        self.notes.add(path, "unparsed")
        return MASK

    def items(self, items: Iterable[JSON], path: str, depth: int) -> JSON:
        kept: list[JSON] = []
        for index, item in enumerate(items):
            if not self.spend(path):
                kept.append(CUT_NODES)
                break
            kept.append(self.value(item, f"{path}.{index}", depth))
        return kept

    def spend(self, path: str) -> bool:
        """Take one node from the budget; the first that is missing is noted."""
        self.nodes -= 1
        if self.nodes == -1:
            self.notes.add(path, "limit:nodes")
        return self.nodes >= 0

    def hide(self, value: JSON, named: Named, path: str) -> JSON:
        if value is None:
            return None
        self.notes.add(path, named.rule)
        return mask(value, keep_last4=named.kind is Kind.CARD)

    def text(self, text: str, path: str, depth: int) -> str:
        """Text that looks like JSON."""
        self.duplicates = False
        if not self.embedded and len(text) <= _MAX_EMBEDDED:
            try:
                value = json.loads(text.lstrip("\ufeff"), object_pairs_hook=self.pairs)
            except (ValueError, RecursionError):
                return self.unparsed(text, path)
            return self.inner(text, value, path, depth)
        return self.unparsed(text, path)

    def inner(self, text: str, value: JSON, path: str, depth: int) -> str:
        before, twice = self.notes.count, self.duplicates
        self.embedded = True
        try:
            value = self.value(value, path, depth)
        finally:
            self.embedded = False
        # A key given twice: json.loads kept the last, so only the text written anew is what we saw.
        altered = self.notes.count != before or twice
        return json.dumps(value, ensure_ascii=False) if altered else text

    def pairs(self, pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
        members = dict(pairs)
        self.duplicates |= len(members) != len(pairs)
        return members

    def unparsed(self, text: str, path: str) -> str:
        """Text like JSON that is not read: masked whole if any quoted key names a secret."""
        for found in _QUOTED_KEY.finditer(text):
            if names.judge(found[1], self.mask_keys, self.safe_keys) is not None:
                self.notes.add(path, "unparsed")
                return MASK
        return text

    def query(self, query: str, path: str) -> str:
        pieces = query.split("&", MAX_NODES)
        kept = [self.piece(piece, path) for piece in pieces[:MAX_NODES]]
        if len(pieces) > MAX_NODES:
            self.notes.add(path, "limit:nodes")
            kept.append(CUT_NODES)
        return "&".join(kept)

    def piece(self, piece: str, path: str) -> str:
        """One `name=value` of a query string."""
        raw, equals, value = piece.partition("=")
        if not value:
            return piece
        key = unquote_plus(raw)
        named = names.judge(key, self.mask_keys, self.safe_keys)
        if named is None:
            plain = unquote_plus(value)
            kept = self.named_value(key, plain, f"{path}.{step(key)}", 0)
            return piece if kept == plain else f"{raw}{equals}{quote_plus(kept)}"
        self.notes.add(f"{path}.{step(key)}", named.rule)
        return f"{raw}{equals}{mask(unquote_plus(value), keep_last4=named.kind is Kind.CARD)}"


def _like_json(text: str) -> bool:
    first = text[:1]
    if first in _BLANK:  # also the empty string
        first = text.lstrip(_BLANK)[:1]
    return first in _JSON_BEGINS
