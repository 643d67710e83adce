"""One string of the corpus, and the places that values stand in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Final


@dataclass(frozen=True, slots=True)
class Sample:
    """A text, and what is true of it.

    `kind` is the detector that ought to fire, None for a look-alike; `hidden` is what must not be
    left. `undecidable` says of a look-alike that nobody could tell it from what that detector looks
    for: a random number that is a valid card number, say.
    """

    text: str
    generator: str
    kind: str | None = None
    hidden: str = ""
    undecidable: str | None = None


Value = Callable[[Random], str]
Samples = Callable[[Random], Iterator[Sample]]

_SENTENCES: Final = (
    "{}",
    "Please use {} for the next order.",
    "The customer wrote: my number is {}, call me back!",
    "({})",
    "ref={};",
    "Changed from {} to unknown",
    "«{}»",
    "Kunde meldet {} als verloren.",
    "a\n{}\nb",
)


def placed(random: Random, value: str) -> str:
    """A value by itself, in a sentence, in JSON or in a line of a log."""
    place = random.randrange(4)
    if place == 0:
        return value
    if place == 1:
        return random.choice(_SENTENCES).format(value)
    if place == 2:  # noqa: PLR2004 - of four
        member = {"id": random.randrange(10**6), "value": value, "ok": True}
        return json.dumps(member, ensure_ascii=random.random() < 0.5)  # noqa: PLR2004 - half
    level = random.choice(["INFO", "WARNING", "ERROR"])
    moment = (
        f"2026-11-{random.randrange(1, 29):02d} 1{random.randrange(10)}:15:0{random.randrange(10)}"
    )
    return f"{moment},{random.randrange(1000):03d} {level} shop.views: got {value} from client"
