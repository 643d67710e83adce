"""Many keys in few characters: `["1-500", "502"]`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from audit_log.capture.plans import Plan

MAX_CHARACTERS: Final = 16_000  # of an event's 64 KiB


class Ranges:
    """The keys of one statement's rows, whole numbers that follow each other as a range.

    `parts` says which there are; once they fill their place, `omitted` counts the others.
    """

    def __init__(self, plan: Plan, keys: Iterable[Any] = ()) -> None:
        self.plan = plan
        self.parts: list[str] = []
        self.omitted = 0
        self.count = 0
        self._run: tuple[int, int] | None = None
        self._room = MAX_CHARACTERS
        for key in keys:
            self.add(key)
        self.close()

    def add(self, key: Any) -> None:
        """One key more. Ranges come of keys in ascending order."""
        self.count += 1
        if key.__class__ is not int or not self.plan.key_is_shown:
            self.close()
            self._list(self.plan.target_id(key) or "", 1)
        elif self._run is not None and key == self._run[1] + 1:
            self._run = (self._run[0], key)
        else:
            self.close()
            self._run = (key, key)

    def close(self) -> None:
        """End the range that may still go on."""
        if self._run is not None:
            first, last = self._run
            self._list(str(first) if first == last else f"{first}-{last}", last - first + 1)
            self._run = None

    def _list(self, text: str, count: int) -> None:
        if self._room < len(text):
            self._room = 0  # what is listed is a beginning, without gaps of its own
            self.omitted += count
            return
        self._room -= len(text) + 4  # quotes and comma
        self.parts.append(text)


def in_order(keys: Iterable[Any]) -> list[Any]:
    """Keys ascending where they can be compared, else as they came."""
    listed = list(keys)
    try:
        return sorted(listed)
    except TypeError:
        return listed
