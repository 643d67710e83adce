"""Check digits and issuers, written for the corpus: nothing here is the app's."""

from __future__ import annotations

from random import Random
from typing import Final

DIGITS: Final = "0123456789"
LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LOWER: Final = LETTERS.lower()
ALPHANUMERIC: Final = DIGITS + LETTERS + LOWER
HEX: Final = "0123456789abcdef"
URL_SAFE: Final = ALPHANUMERIC + "-_"

# (issuer's first digits, lengths, groups): from the brands' own pages.
BRANDS: Final[dict[str, tuple[tuple[str, ...], tuple[int, ...]]]] = {
    "Visa": (("4",), (16, 16, 16, 13, 19)),
    "Mastercard": (tuple(map(str, (*range(51, 56), *range(2221, 2721)))), (16,)),
    "American Express": (("34", "37"), (15,)),
    "Discover": (("6011", *map(str, range(644, 650)), "65"), (16, 16, 16, 17, 18, 19)),
    "Diners Club": (
        ("300", "301", "302", "303", "304", "305", "3095", "36", "38", "39"),
        (14, 14, 16, 19),
    ),
    "JCB": (tuple(map(str, range(3528, 3590))), (16, 16, 16, 17, 18, 19)),
    "UnionPay": (("62",), (16, 17, 18, 19)),
    "Mir": (("2200", "2201", "2202", "2203", "2204"), (16, 17, 18, 19)),
    "RuPay": (("60",), (16,)),
    "Maestro": (
        ("5018", "5020", "5038", "5893", "6304", "6759", "6761", "6762", "6763"),
        (13, 14, 15, 16, 17, 18, 19),
    ),
}


def digits(random: Random, count: int) -> str:
    """So many random digits."""
    return "".join(random.choices(DIGITS, k=count))


def word(random: Random, alphabet: str, count: int) -> str:
    """So many random characters of an alphabet."""
    return "".join(random.choices(alphabet, k=count))


def luhn_digit(body: str) -> str:
    """The last digit that makes a number hold (ISO/IEC 7812-1): doubled from the right."""
    total = 0
    for place, sign in enumerate(reversed(body)):
        value = int(sign) * (2 if place % 2 == 0 else 1)
        total += value // 10 + value % 10
    return str((10 - total % 10) % 10)


def is_card(number: str) -> bool:
    """Whether a number could have been issued as a card: nobody could tell by looking."""
    if luhn_digit(number[:-1]) != number[-1]:
        return False
    return any(
        number.startswith(starts) and len(number) in lengths for starts, lengths in BRANDS.values()
    )


def iban(country: str, body: str) -> str:
    """The IBAN of a country and an account (ISO 13616): 98 minus what is left over 97."""
    number = "".join(str(ord(sign) - 55) if sign.isalpha() else sign for sign in body + country)
    return f"{country}{98 - int(number + '00') % 97:02d}{body}"


def mod97_holds(text: str) -> bool:
    """Whether the check digits of a would-be IBAN hold."""
    turned = text[4:] + text[:4]
    return int("".join(str(ord(s) - 55) if s.isalpha() else s for s in turned)) % 97 == 1


def isbn13(random: Random) -> str:
    """An ISBN with its own check digit: one and three by turns."""
    body = random.choice(["978", "979"]) + digits(random, 9)
    total = sum(int(sign) * (1, 3)[place % 2] for place, sign in enumerate(body))
    return body + str((10 - total % 10) % 10)


# The registry's BBAN structures: n digits, a capitals, c either.
IBAN_FORMS: Final = {
    "AD": "8n12c", "AE": "19n", "AL": "8n16c", "AT": "16n", "AZ": "4a20c", "BA": "16n",
    "BE": "12n", "BG": "4a6n8c", "BH": "4a14c", "BI": "23n", "BR": "23n1a1c", "BY": "4c4n16c",
    "CH": "5n12c", "CR": "18n", "CY": "8n16c", "CZ": "20n", "DE": "18n", "DJ": "23n", "DK": "14n",
    "DO": "4c20n", "EE": "16n", "EG": "25n", "ES": "20n", "FI": "14n", "FK": "2a12n", "FO": "14n",
    "FR": "10n11c2n", "GB": "4a14n", "GE": "2a16n", "GI": "4a15c", "GL": "14n", "GR": "7n16c",
    "GT": "20c4n", "HN": "4a20n", "HR": "17n", "HU": "24n", "IE": "4a14n", "IL": "19n",
    "IQ": "4a15n", "IS": "22n", "IT": "1a10n12c", "JO": "4a4n18c", "KW": "4a22c", "KZ": "3n13c",
    "LB": "4n20c", "LC": "4a24c", "LI": "5n12c", "LT": "16n", "LU": "3n13c", "LV": "4a13c",
    "LY": "21n", "MC": "10n11c2n", "MD": "20c", "ME": "18n", "MK": "3n10c2n", "MN": "16n",
    "MR": "23n", "MT": "4a5n18c", "MU": "4a19n3a", "NI": "4a20n", "NL": "4a10n", "NO": "11n",
    "OM": "3n16c", "PK": "4a16c", "PL": "24n", "PS": "4a21c", "PT": "21n", "QA": "4a21c",
    "RO": "4a16c", "RS": "18n", "RU": "14n15c", "SA": "2n18c", "SC": "4a20n3a", "SD": "14n",
    "SE": "20n", "SI": "15n", "SK": "20n", "SM": "1a10n12c", "SO": "19n", "ST": "21n",
    "SV": "4a20n", "TL": "19n", "TN": "20n", "TR": "6n16c", "UA": "6n19c", "VA": "18n",
    "VG": "4a16n", "XK": "16n", "YE": "4a4n18c",
}  # fmt: skip
