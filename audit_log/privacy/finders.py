"""What looks for something in text: a finder, and two ways to make one of a pattern.

A finder takes (text, start, stop, fingerprint) and yields (start, end, replacement) for what it
finds in that part of the text; it may look at what stands around.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

Fingerprint = Callable[[str, str], str]
Span = tuple[int, int, str]
Finder = Callable[[str, int, int, Fingerprint], Iterator[Span]]


def no_fingerprint(_kind: str, _value: str) -> str:
    """Stand in for a fingerprint where only the finding counts."""
    return "00000000"


# What this app leaves in place of what it found.
MASKS: Final = re.compile(
    r"\[MASKED(?::[a-z0-9_]{1,40}+)?(?: fp=[0-9a-f]{8})?\]"
    r"|\[JWT alg=[A-Za-z0-9+_-]{0,20}+ fp=[0-9a-f]{8}\]"
)
_LONGEST_MASK: Final = 70
_HIDING: Final = frozenset("*…")


@dataclass(frozen=True, slots=True)
class ByPattern:
    """A finder that replaces each match by what `replace` makes of it, unless that is None."""

    pattern: re.Pattern[str]
    replace: Callable[[re.Match[str], Fingerprint], str | None]

    def __call__(
        self, text: str, start: int, stop: int, fingerprint: Fingerprint
    ) -> Iterator[Span]:
        for match in self.pattern.finditer(text, start, stop):
            replacement = self.replace(match, fingerprint)
            if replacement is not None and replacement != match[0]:
                yield match.start(), match.end(), replacement


def by_name(
    name: str, pattern: re.Pattern[str], holds: Callable[[str], bool] | None = None
) -> ByPattern:
    """A finder that leaves `[MASKED:name fp=…]`, always as wide, and nothing inside a mask.

    `holds` says of a match whether it is one.
    """

    def replaced(match: re.Match[str], fingerprint: Fingerprint) -> str | None:
        if holds is not None and not holds(match[0]):
            return None
        start, end = match.span()
        around = MASKS.finditer(match.string, max(0, start - _LONGEST_MASK), end + _LONGEST_MASK)
        if any(mask.start() <= start and end <= mask.end() for mask in around):
            return None
        return f"[MASKED:{name} fp={fingerprint(name, match[0])}]"

    return ByPattern(pattern, replaced)


def still_holds(replacement: str, found: str) -> bool:
    """Whether what was found can be read in what is to stand for it, whatever is between."""
    if replacement == found and (_HIDING.intersection(found) or MASKS.search(found)):
        return False  # a mask that was found again
    hidden = _squashed(found)
    return bool(hidden) and hidden in _squashed(MASKS.sub("", replacement))


def _squashed(text: str) -> str:
    return "".join(filter(str.isalnum, text)).casefold()
