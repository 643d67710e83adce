"""Telephone numbers by the numbering plans of all countries: phonenumberslite, extra `phone`.

`detector` finds what begins with a plus, however it is grouped and with its extension; the built-in
detector looks at the shape alone. Numbers as they are written inside a country are found by a
detector for these regions, in a module of the project's that DETECTORS names:

    phones = phone_numbers.for_regions("DE", "US")
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from audit_log.exceptions import ConfigurationError
from audit_log.privacy.detectors import Detector
from audit_log.privacy.finders import Fingerprint, Span
from audit_log.privacy.patterns import is_identifier

phonenumbers: Any = None
with suppress(ImportError):
    import phonenumbers

_NAME: Final = "phone_number"
_SHORTEST: Final = "0" * 7
_SHAPE: Final = str.maketrans(string.digits, "0" * 10, " \u00a0-./()")


def detector() -> Detector:
    """Finds international numbers. Raises ConfigurationError without the library."""
    _needed()
    return Detector(_NAME, _has_plus, _Finder((None,)), personal=True)


def for_regions(*regions: str) -> Detector:
    """Finds also those as they are written in these countries (ISO 3166: "DE", "US").

    The more regions, the more order numbers look like one. Raises ConfigurationError.
    """
    _needed()
    unknown = sorted(set(regions) - set(phonenumbers.SUPPORTED_REGIONS))
    if unknown or not regions:
        raise ConfigurationError(
            f"phone_numbers.for_regions() takes countries such as 'DE', not {unknown or 'nothing'}."
        )
    return Detector(_NAME, _has_digits, _Finder(regions), personal=True)


def _needed() -> None:
    if phonenumbers is None:
        raise ConfigurationError(
            "It needs phonenumberslite: pip install 'django-audit-ledger[phone]'."
        )


def _has_plus(text: str) -> bool:
    return "+" in text or "\uff0b" in text


def _has_digits(text: str) -> bool:
    return _SHORTEST in text.translate(_SHAPE)


class _Finder:
    """`Detector.find` for numbers as they are written in some regions; None: international."""

    def __init__(self, regions: tuple[str | None, ...]) -> None:
        self.regions = regions

    def __call__(self, text: str, start: int, stop: int, _: Fingerprint) -> Iterator[Span]:
        part = text[start:stop]
        found: dict[int, Span] = {}
        for region in self.regions:
            for match in phonenumbers.PhoneNumberMatcher(part, region, max_tries=len(part)):
                first, end = start + match.start, start + match.end
                if not is_identifier(text, first, end):
                    found.setdefault(first, (first, end, _mask(match.number)))
        yield from (found[first] for first in sorted(found))


def _mask(number: Any) -> str:
    """As the built-in detector does it."""
    return f"+{number.country_code} *** *** {str(number.national_number)[-4:]}"
