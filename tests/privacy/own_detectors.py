"""What the setting DETECTORS names in tests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from audit_log.privacy.detectors import Detector
from audit_log.privacy.finders import ByPattern, Fingerprint

badge = Detector.of_pattern("badge", r"BADGE-[0-9]{4}")
EMPLOYEE_ID = re.compile(r"EMP-[0-9]{6}")
employee = Detector.of_pattern("employee", EMPLOYEE_ID, pretest="EMP-", personal=True)
slow = re.compile(r"(a+)+$")
slow_by_hand = Detector(
    "slow", bool, ByPattern(re.compile(r"([0-9]{1,20}[.,]?){1,20}EUR"), lambda match, _: "EUR")
)
second_badge = Detector.of_pattern("badge", "B-[0-9]{4}")
second_card = Detector.of_pattern("card", "C-[0-9]{4}")
number = 7
badly_named = Detector("No Name", bool, badge.find)
without_find = Detector("lame", bool, None)  # type: ignore[arg-type]


def both() -> tuple[Detector, ...]:
    return badge, employee


def one() -> Detector:
    return badge


def none() -> list[Detector]:
    return []


def mixed() -> list[Any]:
    return [badge, "text"]


def fails() -> Detector:
    raise RuntimeError("no key server")


def _fail(text: str, start: int, stop: int, _: Fingerprint) -> Iterator[tuple[int, int, str]]:
    raise RuntimeError(text[start:stop])


broken = Detector("broken", lambda text: "break me" in text, _fail)
