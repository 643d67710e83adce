r"""Which characters a part of a regular expression can match, roughly.

ASCII is told apart by character. All others are two lots: those that are words to `\w`, and the
rest. `upper` holds at least what matches, `lower` at most: a lot only where all of it does.
"""

from __future__ import annotations

import re
from re import _constants as sre  # type: ignore[attr-defined]
from typing import Any, Final

Characters = frozenset[int]

_ASCII: Final = range(128)
_OTHER_WORDS: Final = 128
_OTHER_SIGNS: Final = 129
NOTHING: Final = Characters()
EVERY: Final = Characters({*_ASCII, _OTHER_WORDS, _OTHER_SIGNS})

_CLASSES: Final = {
    sre.CATEGORY_DIGIT: re.compile(r"\d"),
    sre.CATEGORY_SPACE: re.compile(r"\s"),
    sre.CATEGORY_WORD: re.compile(r"\w"),
}
_NOT: Final = {
    sre.CATEGORY_NOT_DIGIT: sre.CATEGORY_DIGIT,
    sre.CATEGORY_NOT_SPACE: sre.CATEGORY_SPACE,
    sre.CATEGORY_NOT_WORD: sre.CATEGORY_WORD,
}


def upper(op: Any, argument: Any, flags: int) -> Characters:
    """At least what one character of the pattern can match."""
    if op is sre.ANY:
        return _any(flags)
    if op is sre.NOT_LITERAL:
        return EVERY - lower(sre.LITERAL, argument, flags)
    if op is sre.IN and argument[0][0] is sre.NEGATE:
        return EVERY - lower(sre.IN, argument[1:], flags)
    members = argument if op is sre.IN else [(op, argument)]
    return NOTHING.union(*(_at_least(kind, value, flags) for kind, value in members))


def lower(op: Any, argument: Any, flags: int) -> Characters:
    """At most what one character of the pattern can match."""
    if op is sre.ANY:
        return _any(flags)
    if op is sre.NOT_LITERAL:
        return EVERY - upper(sre.LITERAL, argument, flags)
    if op is sre.IN and argument[0][0] is sre.NEGATE:
        return EVERY - upper(sre.IN, argument[1:], flags)
    members = argument if op is sre.IN else [(op, argument)]
    return NOTHING.union(*(_at_most(kind, value, flags) for kind, value in members))


def _any(flags: int) -> Characters:
    return EVERY if flags & re.DOTALL else EVERY - {ord("\n")}


def _at_least(op: Any, argument: Any, flags: int) -> Characters:
    if op is sre.CATEGORY:
        return _category(argument, flags, whole=False)
    first, last = argument if op is sre.RANGE else (argument, argument)
    found = {code for code in _ASCII if first <= code <= last}
    if last not in _ASCII:
        found |= {_OTHER_WORDS, _OTHER_SIGNS}
    if flags & re.IGNORECASE:
        letters = {code for code in found if chr(code).isalpha()}
        found |= {ord(chr(code).swapcase()) for code in letters if code in _ASCII}
        if letters or last not in _ASCII:
            found |= {_OTHER_WORDS, ord("k"), ord("K"), ord("s"), ord("S"), ord("i"), ord("I")}
    return Characters(found)


def _at_most(op: Any, argument: Any, flags: int) -> Characters:
    if op is sre.CATEGORY:
        return _category(argument, flags, whole=True)
    first, last = argument if op is sre.RANGE else (argument, argument)
    return Characters(code for code in _ASCII if first <= code <= last)


def _category(category: Any, flags: int, *, whole: bool) -> Characters:
    if category in _NOT:
        return EVERY - _category(_NOT[category], flags, whole=not whole)
    found = {code for code in _ASCII if _CLASSES[category].match(chr(code))}
    if flags & re.ASCII:
        return Characters(found)
    if category is sre.CATEGORY_WORD:
        found.add(_OTHER_WORDS)
    elif not whole:  # some of them
        found.add(_OTHER_WORDS if category is sre.CATEGORY_DIGIT else _OTHER_SIGNS)
    return Characters(found)
