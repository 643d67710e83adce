"""The arguments written into a GraphQL document: `login(password: "x")`.

Variables come beside the document, as JSON, and are walked like everything else. What is written
into it is found by its lexical grammar alone (GraphQL, October 2021, 2.1): a name, a colon, and a
literal. Names of types, enum values and variables are left; they are names, not values.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from audit_log.privacy.names import Named

Judge = Callable[[str], Named | None]
Hide = Callable[[str, str, Named], str]
"""(name, literal as text, what the name says) gives what stands for the literal."""

KEY: Final = "query"
_LONGEST: Final = 16 * 1024
_LIKE: Final = re.compile(
    r"[\s,\ufeff]{0,256}+(?:#[^\n]{0,1024}+\n[\s,]{0,256}+){0,64}+"
    r"(?:(?:query|mutation|subscription|fragment)\b|\{[\s,]{0,256}+(?:[_A-Za-z#]|\.\.\.))"
)
_TOKEN: Final = re.compile(
    r'(?P<block>"""(?:[^"\\]|\\"""|\\|"{1,2}(?!"))*+""")'
    r'|(?P<text>"(?:[^"\\\n]|\\.)*+")'
    r"|(?P<comment>#[^\n]*+)"
    r"|(?P<name>[_A-Za-z][_0-9A-Za-z]*+)"
    r"|(?P<number>-?[0-9][0-9.eE+-]*+)"
    r"|(?P<sign>\.\.\.|[!$&()\[\]{}:=@|])"
    r"|(?P<blank>[\s,\ufeff]++)"
)
_NAMED: Final = re.compile(r"([_A-Za-z][_0-9A-Za-z]{0,63}+)\s{0,8}+:")
_LITERALS: Final = frozenset({"block", "text", "number"})


def is_like(value: object) -> bool:
    """Whether a value is text that begins as a GraphQL document does."""
    return isinstance(value, str) and _LIKE.match(value) is not None


def without_secrets(document: str, judge: Judge, hide: Hide) -> str | None:
    """The document with the literals of tell-tale names hidden, all else to the letter.

    None where it cannot be read and a tell-tale name is in it.
    """
    pieces: list[str] = []
    reader = _Reader(judge, hide)
    place = 0
    while place < len(document):
        token = None if len(document) > _LONGEST else _TOKEN.match(document, place)
        if token is None:
            tells = any(judge(found[1]) for found in _NAMED.finditer(document))
            return None if tells else document
        pieces.append(reader.token(token.lastgroup or "", token[0]))
        place = token.end()
    return "".join(pieces)


class _Reader:
    """What was read last: the name, and whether the value of a tell-tale one comes or is open."""

    def __init__(self, judge: Judge, hide: Hide) -> None:
        self.judge = judge
        self.hide = hide
        self.name = ""
        self.named: Named | None = None  # of the name whose value comes
        self.typed: Named | None = None  # of a variable: `$pin: Int = 1`, the value may come later
        self.depth = 0

    def token(self, kind: str, text: str) -> str:
        """What is left of a token."""
        if kind == "comment":
            told = [(name, self.judge(name)) for name in _NAMED.findall(text)]
            hidden = [self.hide(name, "", named) for name, named in told if named is not None]
            return f"# {hidden[0]}" if hidden else text
        if kind == "name":
            self.of_name(text)
        elif kind == "sign":
            self.of_sign(text)
        elif kind in _LITERALS and self.named is not None:
            text = self.hide(self.name, text.strip('"'), self.named)
            self.closed()
        return text

    def of_name(self, text: str) -> None:
        if self.named is None:
            self.name = text
        else:
            self.closed()

    def of_sign(self, sign: str) -> None:
        if self.named is None:
            if sign == ":":
                self.named = self.judge(self.name)
            elif sign == "=":
                self.named = self.typed
            if sign not in {"!", "="}:
                self.typed = None
        elif sign in {"[", "{"}:
            self.depth += 1
        elif sign in {"]", "}"}:
            self.depth -= 1
            self.closed()
        elif sign in {"$", ")"} and not self.depth:
            self.named = None  # a variable, which is judged where it is given

    def closed(self) -> None:
        """A value has ended; inside a list or an object it goes on."""
        if self.depth <= 0:
            self.typed, self.named, self.depth = self.named, None, 0
