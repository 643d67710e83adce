"""How card, bank account and telephone numbers are made: issuers, lengths, check digits."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

_DOUBLED: Final = bytes.maketrans(b"0123456789", b"0246813579")
_ZERO: Final = ord("0")
_13_TO_19: Final = range(13, 20)
_16_TO_19: Final = range(16, 20)
# First and last issuer prefix, and the lengths that go with them (ISO/IEC 7812; the brands' pages).
_ISSUERS: Final = (
    ("4", "4", (13, 16, 19)),  # Visa
    ("51", "55", (16,)),  # Mastercard
    ("2221", "2720", (16,)),
    ("34", "34", (15,)),  # American Express
    ("37", "37", (15,)),
    ("6011", "6011", _16_TO_19),  # Discover
    ("644", "659", _16_TO_19),
    ("300", "305", (14, 16, 19)),  # Diners Club
    ("3095", "3095", (14, 16, 19)),
    ("36", "36", (14, 16, 19)),
    ("38", "39", (14, 16, 19)),
    ("3528", "3589", _16_TO_19),  # JCB
    ("62", "62", _16_TO_19),  # UnionPay
    ("2200", "2204", _16_TO_19),  # Mir
    ("60", "60", (16,)),  # RuPay
    ("5018", "5018", _13_TO_19),  # Maestro
    ("5020", "5020", _13_TO_19),
    ("5038", "5038", _13_TO_19),
    ("5893", "5893", _13_TO_19),
    ("6304", "6304", _13_TO_19),
    ("6759", "6763", _13_TO_19),
)
# SWIFT's IBAN registry, release 99.
_IBAN_LENGTHS: Final = {
    country: length
    for length, countries in {
        15: "NO",
        16: "BE",
        18: "DK FI FK FO GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU YE",
        31: "MT SC",
        32: "LC",
        33: "RU",
    }.items()
    for country in countries.split()
}
# E.164 country codes of one digit, and the first digits of those of three; all others have two.
_ONE_DIGIT: Final = ("1", "7")
_THREE_DIGITS: Final = (
    *(
        "21",
        "22",
        "23",
        "24",
        "25",
        "26",
        "29",
        "35",
        "37",
        "38",
        "42",
        "50",
        "59",
        "67",
        "68",
        "69",
    ),
    *("80", "85", "87", "88", "96", "97", "99"),
)


@lru_cache(maxsize=10_000)
def card_lengths(start: str) -> tuple[int, ...]:
    """The lengths a card number may have that begins with these four digits, longest first."""
    possible = {
        length
        for first, last, lengths in _ISSUERS
        if first <= start[: len(first)] <= last
        for length in lengths
    }
    return tuple(sorted(possible, reverse=True))


def passes_luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    codes = digits.encode()
    total = sum(codes[::-2]) + sum(codes[-2::-2].translate(_DOUBLED))
    return (total - len(codes) * _ZERO) % 10 == 0


def iban_length(start: str) -> int:
    """The length of the IBANs of the country `start` begins with, or 0 where there are none."""
    return _IBAN_LENGTHS.get(start[:2].upper(), 0)


def passes_mod97(iban: str) -> bool:
    """Whether the check digits of an IBAN without spaces hold (ISO 13616)."""
    turned = iban[4:] + iban[:4]
    return int("".join(str(int(sign, 36)) for sign in turned)) % 97 == 1


def calling_code(digits: str) -> str:
    """The country code that an international number begins with (ITU-T E.164)."""
    if digits.startswith(_ONE_DIGIT):
        return digits[:1]
    return digits[:3] if digits.startswith(_THREE_DIGITS) else digits[:2]
