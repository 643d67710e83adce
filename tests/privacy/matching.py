"""A regular expression matched as Python's `re` does it, counting every character it looks at."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any

_CATEGORIES = {
    sre.CATEGORY_WORD: r"\w",
    sre.CATEGORY_DIGIT: r"\d",
    sre.CATEGORY_NOT_WORD: r"\W",
}
_SINGLE = {sre.LITERAL, sre.NOT_LITERAL, sre.ANY, sre.IN}


class Counting:
    """One attempt at the start of a text."""

    def __init__(self, pattern: str, text: str) -> None:
        self.text = text
        self.steps = 0
        self.end = next(self._all(list(_parser.parse(pattern)), 0), None)

    def _all(self, items: Sequence[Any], place: int) -> Iterator[int]:
        if not items:
            yield place
            return
        for behind in self._one(items[0], place):
            yield from self._all(items[1:], behind)

    def _one(self, item: Any, place: int) -> Iterator[int]:
        op, argument = item
        if op in _SINGLE:
            self.steps += 1
            if place < len(self.text) and _is_one(op, argument, self.text[place]):
                yield place + 1
        elif op is sre.AT:
            self.steps += 1
            if self._is_at(argument, place):
                yield place
        elif op in {sre.ASSERT, sre.ASSERT_NOT}:
            found = next(self._all(argument[1], place), None) is not None
            if found is (op is sre.ASSERT):
                yield place
        else:
            yield from self._inner(op, argument, place)

    def _inner(self, op: Any, argument: Any, place: int) -> Iterator[int]:
        if op is sre.SUBPATTERN:
            yield from self._all(argument[3], place)
        elif op is sre.BRANCH:
            for each in argument[1]:
                yield from self._all(each, place)
        elif op is sre.ATOMIC_GROUP:
            yield from self._first(self._all(argument, place))
        else:
            yield from self._repeat(op, argument, place)

    def _repeat(self, op: Any, argument: Any, place: int) -> Iterator[int]:
        least, most, body = argument
        if op is sre.POSSESSIVE_REPEAT:
            yield from self._first(self._greedy(least, most, body, place))
        elif op is sre.MAX_REPEAT:
            yield from self._greedy(least, most, body, place)
        else:
            yield from self._lazy(least, most, body, place)

    def _greedy(self, least: int, most: int, body: Any, place: int) -> Iterator[int]:
        if most:
            for behind in self._all(body, place):
                if behind > place or least:
                    yield from self._greedy(max(least - 1, 0), most - 1, body, behind)
                else:  # of nothing there is one
                    yield behind
        if not least:
            yield place

    def _lazy(self, least: int, most: int, body: Any, place: int) -> Iterator[int]:
        if not least:
            yield place
        if most:
            for behind in self._all(body, place):
                if behind > place or least:
                    yield from self._lazy(max(least - 1, 0), most - 1, body, behind)

    @staticmethod
    def _first(found: Iterator[int]) -> Iterator[int]:
        for end in found:
            yield end
            return

    def _is_at(self, where: Any, place: int) -> bool:
        around = [place > 0 and self._is_word(place - 1), self._is_word(place)]
        return {
            sre.AT_BOUNDARY: around[0] is not around[1],
            sre.AT_END: self.text[place:] in {"", "\n"},
            sre.AT_END_STRING: place == len(self.text),
        }[where]

    def _is_word(self, place: int) -> bool:
        return place < len(self.text) and re.match(r"\w", self.text[place]) is not None


def _is_one(op: Any, argument: Any, sign: str) -> bool:
    if op is sre.IN:
        if argument[0][0] is sre.NEGATE:
            return not _is_one(op, argument[1:], sign)
        return any(_is_one(kind, value, sign) for kind, value in argument)
    if op is sre.CATEGORY:
        return re.match(_CATEGORIES[argument], sign) is not None
    first, last = argument if op is sre.RANGE else (argument, argument)
    inside = sign == "\n" if op is sre.ANY else first <= ord(sign) <= last
    return inside is (op not in {sre.ANY, sre.NOT_LITERAL})
