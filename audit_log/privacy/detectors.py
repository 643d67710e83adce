"""Secrets and personal data in text, found by their form: the worker's part of masking.

A detector is a name, a cheap pre-test and a finder (`patterns`). Long text is searched in windows,
so that no text can stop a worker. A detector that fails masks the whole string. Detectors that a
project adds (the setting DETECTORS) are further `Detector` objects: see `configured`.

Secrets are looked for in every value; what is `personal` (e-mail, phone, IBAN, SSN) only where the
value is to be stored open. UUIDs, ISO dates and hex digests are never card numbers.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from audit_log.events import JSON, Redaction
from audit_log.exceptions import ConfigurationError
from audit_log.privacy import finders, patterns
from audit_log.privacy.backtracking import Refused, required_text, weigh
from audit_log.privacy.finders import Finder, Fingerprint, Span
from audit_log.privacy.redaction import Notes, step

logger = logging.getLogger(__name__)

UNCLASSIFIED: Final = "[MASKED:unclassified]"
WINDOW: Final = 16 * 1024
OVERLAP: Final = 24 * 1024  # longer than the longest thing any pattern matches
MAX_DEPTH: Final = 64  # no event is deeper: its values were cut long before
_LONG_NUMBERS: Final = range(10**12, 10**19)
_PLAIN_KEY: Final = re.compile(r"(?!.*[0-9]{9})[a-z_][a-z0-9_]{0,19}")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")


@dataclass(frozen=True, slots=True)
class Detector:
    """One kind of thing to find.

    `pretest(text)` says quickly whether looking is worth it; it must say so of a longer text too,
    if it does of a part, and of JSON: so it may look for no quotes, backslashes or line breaks.
    `find(text, start, stop, fingerprint)` yields (start, end, replacement) in order, for what
    begins in that part of the text. `personal` ones are looked for where values are stored open,
    the others also where they are sealed.
    """

    name: str
    pretest: Callable[[str], object]
    find: Finder
    personal: bool = False

    @property
    def rule(self) -> str:
        return f"detector:{self.name}"

    @classmethod
    def of_pattern(
        cls,
        name: str,
        pattern: str | re.Pattern[str],
        *,
        pretest: str | None = None,
        personal: bool = False,
    ) -> Detector:
        """Finds what matches, and leaves `[MASKED:name fp=…]`.

        `pretest` is text without which there is no match; by itself it is the longest that the
        pattern has, if any. Raises ConfigurationError for a pattern that some text could keep busy,
        that can match nothing, or whose matches can be longer than what is looked at together.
        """
        checked_name(name)
        try:
            compiled = re.compile(pattern)
            weigh(compiled, longest=OVERLAP)
        except (re.error, Refused) as error:
            shown = pattern if isinstance(pattern, str) else pattern.pattern
            raise ConfigurationError(
                f"The detector {name!r} is refused: the pattern {shown!r} {_said(error)}."
            ) from error
        mark = required_text(compiled) if pretest is None else _checked_mark(name, pretest)
        ignoring = pretest is not None and compiled.flags & re.IGNORECASE
        asked = _any_case(mark.lower()) if ignoring else _any_of(mark)
        return cls(name, asked, finders.by_name(name, compiled), personal)


def checked_name(name: object) -> str:
    """The name of a detector, as it stands in masks and rules. Raises ConfigurationError."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"A detector cannot be called {name!r}: a name is at most 40 lower-case letters, "
            "digits and underscores, such as 'employee_id'."
        )
    return name


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, Refused) else f"is no regular expression ({error})"


def _checked_mark(name: str, mark: str) -> str:
    if not mark.isprintable() or not mark or set(mark) & {'"', "\\"}:
        raise ConfigurationError(
            f"The detector {name!r} is refused: its pretest must be text without quotes, "
            f"backslashes and line breaks, which JSON writes otherwise, not {mark!r}."
        )
    return mark


def _any_of(*marks: str) -> Callable[[str], bool]:
    def pretest(text: str) -> bool:
        for mark in marks:  # noqa: SIM110 - every string passes here: any() takes twice as long
            if mark in text:
                return True
        return False

    return pretest


def _token_of(*marks: str) -> Callable[[str], bool]:
    found = _any_of(*marks)
    return lambda text: patterns.like_token(text) and found(text)


def _any_case(*marks: str) -> Callable[[str], bool]:
    found = _any_of(*marks)
    return lambda text: found(text.lower())


_VENDORS: Final = (
    *("gho_", "ghp_", "ghs_", "ghu_", "ghr_", "github_pat_", "glpat-", "xox"),
    *("k_live_", "k_test_", "AIza", "SG.", "npm_", "pypi-", "whsec_", "hf_", "shp", "dop_v1_"),
    *("GOCSPX-", "ya29.", "sk-ant-", "sk-proj-", "sq0", "xapp-", "hvs.", "dckr_pat_"),
)

DETECTORS: Final = (
    Detector("private_key", _any_of("-----BEGIN"), patterns.find_private_key),
    Detector("jwt", _any_of("eyJ"), patterns.find_jwt),
    Detector("bearer", _any_case("bearer", "basic", "token"), patterns.find_scheme),
    Detector("vendor_token", _token_of(*_VENDORS), patterns.find_vendor),
    Detector("aws_key", _token_of("AKIA", "ASIA", "ABIA", "ACCA", "A3T"), patterns.find_aws_id),
    Detector("aws_secret", _any_case("aws", "access"), patterns.find_aws_secret),
    Detector("url_credentials", _any_of("://"), patterns.find_url),
    # Before cards: the digits of an IBAN can pass for one.
    Detector("iban", patterns.like_iban, patterns.find_iban, personal=True),
    Detector("card", patterns.like_card, patterns.find_card),
    Detector("ssn", patterns.like_ssn, patterns.find_ssn, personal=True),
    Detector("email", _any_of("@"), patterns.find_email, personal=True),
    Detector("phone", _any_of("+"), patterns.find_phone, personal=True),
)

BUILT_IN: Final = frozenset(detector.name for detector in DETECTORS)
# What was masked may have hidden what stood right beside it.
_PASSES: Final = 3
_source: list[Callable[[], tuple[Detector, ...]]] = []


def in_force() -> tuple[Detector, ...]:
    """Those that run where nobody names others: the built-in ones, and what settings say."""
    return _source[0]() if _source else DETECTORS


def take_from(source: Callable[[], tuple[Detector, ...]]) -> None:
    """Have `in_force` ask `source`: this module reads no settings."""
    _source[:] = [source]


def scrub(
    text: str,
    *,
    personal: bool,
    fingerprint: Fingerprint,
    detectors: tuple[Detector, ...] | None = None,
) -> tuple[str, tuple[str, ...]]:
    """The text with what was found replaced, and the rules that fired. Never raises.

    `fingerprint(kind, value)` gives 8 hex digits of a keyed hash: the same secret is recognised
    again without being kept.
    """
    fired: dict[str, None] = {}
    active = _active(detectors, personal=personal)
    try:
        for _ in range(_PASSES):
            before = text
            for detector in active:
                if detector.pretest(text):
                    left = _replaced(detector, text, fingerprint)
                    if left != text:
                        fired[detector.rule] = None
                        text = left
            if text == before:
                break
    except Exception as error:  # noqa: BLE001 - a project's detector can raise anything
        # The error's text and traceback may hold the value: only its type is logged.
        logger.error("A detector failed (%s); its text was masked.", type(error).__name__)  # noqa: TRY400
        return UNCLASSIFIED, ("unclassified",)
    return text, tuple(fired)


def _active(detectors: tuple[Detector, ...] | None, *, personal: bool) -> list[Detector]:
    every = in_force() if detectors is None else detectors
    return [detector for detector in every if personal or not detector.personal]


def suspects(
    text: str, *, personal: bool, detectors: tuple[Detector, ...] | None = None
) -> tuple[Detector, ...]:
    """The detectors that could find something in any part of the text: mostly none.

    Ask about the texts of many events together: a dozen pretests of each would take longer than all
    the rest of the relay.
    """
    asked = _active(detectors, personal=personal)
    try:
        return tuple([detector for detector in asked if detector.pretest(text)])
    except Exception:  # noqa: BLE001 - `scrub` meets it again, and masks the text it failed on
        return tuple(asked)


def is_suspect(text: str, suspected: Iterable[Detector]) -> bool:
    """Whether a part of the text that `suspects` was asked about is to be scrubbed."""
    try:
        return any(detector.pretest(text) for detector in suspected)
    except Exception:  # noqa: BLE001 - as above
        return True


def detect(
    text: str, *, personal: bool, detectors: tuple[Detector, ...] | None = None
) -> tuple[str, ...]:
    """The rules that would fire: a last look before a record is written, and the dry run."""
    return scrub(text, personal=personal, fingerprint=finders.no_fingerprint, detectors=detectors)[
        1
    ]


def _replaced(detector: Detector, text: str, fingerprint: Fingerprint) -> str:
    pieces: list[str] = []
    done = 0
    for start, end, replacement in _spans(detector, text, fingerprint):
        if end > len(text):
            raise ValueError("A span ends behind the text.")
        # Ours may keep a part, and what they keep is tested.
        if detector.name not in BUILT_IN and finders.still_holds(replacement, text[start:end]):
            raise ValueError("What stands for what was found still holds it.")
        pieces += text[done:start], replacement
        done = end
    return "".join((*pieces, text[done:]))


def _spans(detector: Detector, text: str, fingerprint: Fingerprint) -> Iterator[Span]:
    """What the detector finds, window by window: each owns what begins in it."""
    done = 0
    for window in range(0, len(text), WINDOW):
        stop = min(len(text), window + WINDOW + OVERLAP)
        for span in detector.find(text, max(window, done), stop, fingerprint):
            if span[0] >= window + WINDOW:
                break
            if done <= span[0] < span[1]:  # not inside what was found before it
                yield span
                done = span[1]


def scrub_value(
    value: JSON,
    path: str,
    *,
    personal: bool,
    fingerprint: Fingerprint,
    detectors: tuple[Detector, ...] | None = None,
) -> tuple[JSON, list[Redaction]]:
    """`scrub` for every string, key and long number in a value. Never raises.

    The value given is not altered. What lies deeper than any event may be is masked.
    """
    walk = _Walk(
        lambda text: scrub(text, personal=personal, fingerprint=fingerprint, detectors=detectors)
    )
    return walk.value(value, path, 0), walk.notes.redactions


class _Walk:
    """One pass over a value."""

    def __init__(self, scrubbed: Callable[[str], tuple[str, tuple[str, ...]]]) -> None:
        self.scrubbed = scrubbed
        self.notes = Notes()

    def value(self, value: JSON, path: str, depth: int) -> JSON:
        if isinstance(value, str):
            return self.text(value, path)
        if isinstance(value, (dict, list)):
            return self.container(value, path, depth + 1)
        if isinstance(value, int) and value in _LONG_NUMBERS:
            left = self.text(str(value), path)
            return value if left == str(value) else left
        return value

    def container(self, value: dict[str, JSON] | list[JSON], path: str, depth: int) -> JSON:
        if depth > MAX_DEPTH:
            self.notes.add(path, "limit:depth")
            return UNCLASSIFIED
        if isinstance(value, list):
            return [self.value(item, f"{path}.{n}", depth) for n, item in enumerate(value)]
        kept: dict[str, JSON] = {}
        for key, member in value.items():
            left = key if _PLAIN_KEY.fullmatch(key) else self.text(key, path)
            while left in kept:
                left += "*"
            kept[left] = self.value(member, f"{path}.{step(left)}", depth)
        return kept

    def text(self, text: str, path: str) -> str:
        left, rules = self.scrubbed(text)
        for rule in rules:
            self.notes.add(path, rule)
        return left
