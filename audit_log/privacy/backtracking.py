"""How much work a regular expression can make at one place of a text, at worst.

Python's `re` goes back and tries again: `(a+)+$` on thirty letters takes hours. A pattern of a
project's runs over what strangers send, so it is weighed before it is taken. For each part there is
an upper bound of the steps to try all of it, and of the ways it can match at one place; a sequence
multiplies the ways, an alternation adds them, a repeat raises them to a power. What leaves only one
way counts one: an atomic group, a possessive repeat (`{1,64}+`), alternatives that begin with
different characters, and a repeat that what follows cannot be taken for (`[a-z]{1,64}@`), since
each shorter try then fails at its first character.

The tree is that of `re`'s own parser, which is no public part of Python: what is not known here is
refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any, Final, NamedTuple

from audit_log.privacy.characters import EVERY, NOTHING, Characters, lower, upper

MAX_STEPS: Final = 20_000
_COUNTLESS: Final = 10**12  # more is not told apart
_LARGE_POWER: Final = 40
_SINGLE: Final = frozenset({sre.LITERAL, sre.NOT_LITERAL, sre.ANY, sre.IN})
_REPEATS: Final = frozenset({sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT})
_LOOKS: Final = frozenset({sre.ASSERT, sre.ASSERT_NOT})

_Item = tuple[Any, Any]
_Items = Sequence[_Item]


class Refused(Exception):
    """The reason, as the end of a sentence that begins with "the pattern"."""


class Weight(NamedTuple):
    """Of a part: the characters it can match, the ways at one place, the steps to try all."""

    low: int
    high: int
    ways: int
    steps: int


_NO_WEIGHT: Final = Weight(0, 0, 1, 0)


def weigh(pattern: re.Pattern[str], *, longest: int) -> Weight:
    """What a pattern can cost at one place of a text. Raises Refused where that is too much."""
    if not isinstance(pattern.pattern, str):
        raise Refused("is of bytes, and texts are strings")
    weight = _Weigher().sequence(*_parsed(pattern), follow=NOTHING)
    if weight.low == 0:
        raise Refused("can match nothing at all, and would do so everywhere")
    if weight.high > longest:
        raise Refused(
            f"can match {weight.high} characters, and no more than {longest} are looked at together"
        )
    if weight.steps > MAX_STEPS:
        many = "countless" if weight.steps >= _COUNTLESS else f"{weight.steps}"
        raise Refused(
            f"can take {many} steps at each character of a text, and {MAX_STEPS} are allowed: give "
            "repeats lower maxima or make them possessive (`{1,64}+`), and put between two of them "
            "what neither can match"
        )
    return weight


def required_text(pattern: re.Pattern[str]) -> str:
    """The longest piece of text that is in every match, or an empty one.

    Without what JSON would write otherwise: it may be looked for in encoded values.
    """
    runs = [""]
    items, flags = _parsed(pattern)
    if not flags & re.IGNORECASE:
        _collect(items, runs)
    return max(runs, key=len)


def _collect(items: _Items, runs: list[str]) -> None:
    for op, argument in items:
        if op is sre.LITERAL and chr(argument).isprintable() and chr(argument) not in '"\\':
            runs[-1] += chr(argument)
        elif op is sre.SUBPATTERN and not argument[1] & re.IGNORECASE:
            _collect(argument[3], runs)
        elif op is not sre.AT and op not in _LOOKS:
            runs.append("")
            if op in _REPEATS and argument[0] > 0:
                _collect(argument[2], runs)
                runs.append("")


def _parsed(pattern: re.Pattern[str]) -> tuple[_Items, int]:
    try:
        tree = _parser.parse(pattern.pattern, pattern.flags & ~re.DEBUG)
    except RecursionError as error:
        raise Refused("is nested too deep") from error
    return list(tree), pattern.flags


class _Weigher:
    """Weighs parts; `follow` is what can come behind one: NOTHING where it ends the match."""

    def sequence(self, items: _Items, flags: int, *, follow: Characters) -> Weight:
        total = _NO_WEIGHT
        for place, (op, argument) in enumerate(items):
            rest = items[place + 1 :]
            weight = self.item((op, argument), flags, rest, follow)
            steps = total.steps + total.ways * weight.steps
            total = Weight(
                total.low + weight.low,
                total.high + weight.high,
                min(total.ways * weight.ways, _COUNTLESS),
                min(steps, _COUNTLESS),
            )
        return total

    def item(self, item: _Item, flags: int, rest: _Items, follow: Characters) -> Weight:
        op, argument = item
        if op in _SINGLE:
            return Weight(1, 1, 1, 1)
        if op is sre.AT or op is sre.FAILURE:
            return Weight(0, 0, 1, 1)
        if op in _REPEATS:
            return self.repeat(item, flags, rest, follow)
        if op in _LOOKS:
            return self.look(argument, flags)
        if op in {sre.GROUPREF, sre.GROUPREF_EXISTS}:
            raise Refused("refers back to a group, so its work cannot be bounded")
        return self.group(item, flags, rest, follow)

    def group(self, item: _Item, flags: int, rest: _Items, follow: Characters) -> Weight:
        op, argument = item
        if op is sre.BRANCH:
            return self.branch(argument[1], flags, first(rest, flags, follow))
        if op is sre.SUBPATTERN:
            inner = (flags | argument[1]) & ~argument[2]
            behind = first(rest, flags, follow, before=last(argument[3], inner))
            return self.sequence(argument[3], inner, follow=behind)
        if op is sre.ATOMIC_GROUP:
            low, high, _, steps = self.sequence(argument, flags, follow=NOTHING)
            return Weight(low, high, 1, steps)
        raise Refused(f"has a part that is not known here ({op})")

    def look(self, argument: tuple[int, _Items], flags: int) -> Weight:
        direction, body = argument
        weight = self.sequence(body, flags, follow=NOTHING)
        if direction < 0 and weight.low != weight.high:
            raise Refused("looks behind for something of no fixed length")
        return Weight(0, 0, 1, weight.steps + 1)

    def branch(self, branches: Sequence[_Items], flags: int, follow: Characters) -> Weight:
        weights = [self.sequence(each, flags, follow=follow) for each in branches]
        starts = [first(each, flags, follow) for each in branches]
        apart = all(weight.low for weight in weights) and sum(map(len, starts)) == len(
            NOTHING.union(*starts)
        )
        ways = [weight.ways for weight in weights]
        return Weight(
            min(weight.low for weight in weights),
            max(weight.high for weight in weights),
            max(ways) if apart else sum(ways),
            sum(weight.steps for weight in weights) + len(weights),
        )

    def repeat(self, item: _Item, flags: int, rest: _Items, follow: Characters) -> Weight:
        op, (least, most, body) = item
        if most is sre.MAXREPEAT:
            raise Refused(
                "has a repeat without an end (`*`, `+` or `{n,}`): give it a maximum (`{1,64}`)"
            )
        start = first(body, flags, EVERY)
        possessive = op is sre.POSSESSIVE_REPEAT
        before = last(body, flags) if least else EVERY  # of none, something else stands before
        behind = first(rest, flags, follow, before=before)
        weight = self.sequence(body, flags, follow=NOTHING if possessive else start | behind)
        ways, steps = _power(weight, least, most)
        # Where there was one more, what follows begins with something else.
        certain = weight.ways == 1 and weight.low > 0 and start.isdisjoint(behind)
        return Weight(
            least * weight.low,
            most * weight.high,
            1 if possessive or certain else ways,
            steps,
        )


def _power(weight: Weight, least: int, most: int) -> tuple[int, int]:
    """The ways and the steps of a repeat."""
    if weight.ways == 1:
        return most - least + 1, most * (weight.steps + 1)
    if most > _LARGE_POWER:
        return _COUNTLESS, _COUNTLESS
    powers = [weight.ways**number for number in range(most + 1)]
    return (
        min(sum(powers[least:]), _COUNTLESS),
        min(sum(powers[:-1]) * (weight.steps + 1), _COUNTLESS),
    )


def first(
    items: _Items, flags: int, follow: Characters, *, before: Characters = EVERY
) -> Characters:
    """What the text can go on with, if these match and then `follow` does; rather too much.

    `before` is what stands before it. NOTHING: whatever comes, no try is lost.
    """
    found = NOTHING
    for op, argument in items:
        starts, may_be_empty = _starts(op, argument, flags, before)
        found |= starts
        if not may_be_empty:
            return found
    return found | follow


def _starts(op: Any, argument: Any, flags: int, before: Characters) -> tuple[Characters, bool]:
    """What one item can begin with, and whether it can be empty."""
    if op in _SINGLE:
        return upper(op, argument, flags), False
    if op is sre.AT:
        return _behind_place(argument, flags, before), False
    if op in _LOOKS:
        return _behind_look(op, argument, flags), False
    branches, inner = _branches(op, argument, flags)
    if not branches:
        return EVERY, False
    starts = (first(each, inner, NOTHING, before=before) for each in branches)
    return NOTHING.union(*starts), _can_be_empty(op, argument)


def _branches(op: Any, argument: Any, flags: int) -> tuple[Sequence[_Items], int]:
    """The sequences an item may begin with, and their flags."""
    if op in _REPEATS:
        return [argument[2]], flags
    if op is sre.SUBPATTERN:
        return [argument[3]], (flags | argument[1]) & ~argument[2]
    if op is sre.ATOMIC_GROUP:
        return [argument], flags
    return (argument[1] if op is sre.BRANCH else []), flags


def _behind_place(place: Any, flags: int, before: Characters) -> Characters:
    """What can come where a word or a text ends."""
    if place is sre.AT_END_STRING:
        return NOTHING
    if place is sre.AT_END:
        return Characters({ord("\n")})
    words = lower(sre.IN, [(sre.CATEGORY, sre.CATEGORY_WORD)], flags)
    if place is sre.AT_BOUNDARY and before <= words:
        return EVERY - words
    return EVERY


def _behind_look(op: Any, argument: tuple[int, _Items], flags: int) -> Characters:
    """What can come where somebody looks ahead."""
    direction, body = argument
    if direction > 0 and op is sre.ASSERT:
        return EVERY if _is_empty(body) else first(body, flags, EVERY)
    if direction > 0 and len(body) == 1 and body[0][0] in _SINGLE:
        return EVERY - lower(*body[0], flags)
    return EVERY


def last(items: _Items, flags: int) -> Characters:
    """What the last character matched is one of; rather too much."""
    if not items:
        return EVERY
    op, argument = items[-1]
    if op in _SINGLE:
        return upper(op, argument, flags)
    if op in _REPEATS and argument[0] > 0:
        return last(argument[2], flags)
    if op is sre.SUBPATTERN:
        return last(argument[3], (flags | argument[1]) & ~argument[2])
    return EVERY


def _is_empty(items: _Items) -> bool:
    """Whether these can match without a character."""
    return all(_can_be_empty(op, argument) for op, argument in items)


def _can_be_empty(op: Any, argument: Any) -> bool:
    if op in _SINGLE:
        return False
    if op in _REPEATS and argument[0] == 0:
        return True
    branches, _ = _branches(op, argument, 0)
    return not branches or any(map(_is_empty, branches))
