"""Account and card numbers: their check digits (ISO 13616, ISO/IEC 7812-1)."""

import re

from django.core.exceptions import ValidationError

_IBAN = re.compile(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}")
_CARD = re.compile(r"\d{13,19}")
BANK_CODE = "37040044"


def make_iban(account_number: int) -> str:
    """The German IBAN of an account of ours (ten digits)."""
    basic = f"{BANK_CODE}{account_number:010d}"
    return f"DE{98 - _iban_number(basic + 'DE00') % 97:02d}{basic}"


def make_card_number(start: str) -> str:
    """`start` (15 digits) with its check digit."""
    return f"{start}{-_luhn_sum(start + '0') % 10}"


def validate_iban(value: str) -> None:
    """Refuse what is not an IBAN with the right check digits, written without spaces."""
    if not _IBAN.fullmatch(value) or _iban_number(value[4:] + value[:4]) % 97 != 1:
        raise ValidationError("This is not an IBAN.", code="iban")


def validate_card_number(value: str) -> None:
    """Refuse what is not a card number with the right check digit, written without spaces."""
    if not _CARD.fullmatch(value) or _luhn_sum(value) % 10:
        raise ValidationError("This is not a card number.", code="card_number")


def _iban_number(text: str) -> int:
    return int("".join(str(int(character, 36)) for character in text))


def _luhn_sum(digits: str) -> int:
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return sum(int(digit) for digit in digits[-1::-2]) + sum(doubled)
