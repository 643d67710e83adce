"""Customers that do not exist: the same seed gives the same ones on every machine."""

import datetime
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeVar

from example_project.bank.numbers import make_card_number, make_iban
from example_project.bank.services import Order

T = TypeVar("T")

FIRST_NAMES = ("Ada", "Bruno", "Clara", "Dario", "Elif", "Femi", "Greta", "Hiro", "Ines", "Jonas")
LAST_NAMES = ("Almeida", "Berg", "Castro", "Dubois", "Ekman", "Fischer", "Greco", "Horvat", "Ito")
STREETS = ("Hill Road", "Station Street", "Mill Lane", "Harbour Way", "Garden Close")
SHOPS = ("Corner Books", "Green Grocer", "City Power", "North Rail", "Blue Cafe")
SEGMENTS = ("families", "mortgage", "students", "travellers")


@dataclass(frozen=True, slots=True)
class Person:
    """What the bank asks a new customer, and gives them."""

    name: str
    email: str
    phone: str
    date_of_birth: datetime.date
    national_id: str
    address: str
    vip: bool
    segment: str
    iban: str
    balance: Decimal
    card_number: str


def person(seed: int, number: int) -> Person:
    """The customer `number` of this seed."""
    key = f"{seed}:customer:{number}"
    first, last = _pick(f"{key}:first", FIRST_NAMES), _pick(f"{key}:last", LAST_NAMES)
    return Person(
        name=f"{first} {last}",
        email=f"{first}.{last}.{seed}.{number}@example.com".lower(),
        phone=f"+4930{_number(f'{key}:phone', 10**7):07d}",
        date_of_birth=datetime.date(1950, 1, 1)
        + datetime.timedelta(days=_number(f"{key}:birth", 20_000)),
        national_id=f"T{_number(f'{key}:national', 10**8):08d}",
        address=f"{1 + _number(f'{key}:house', 99)} {_pick(f'{key}:street', STREETS)}, Berlin",
        vip=_number(f"{key}:vip", 4) == 0,
        segment=_pick(f"{key}:segment", SEGMENTS),
        iban=make_iban(_number(f"{key}:account", 10**10)),
        balance=Decimal(500_000 + _number(f"{key}:balance", 500_000)) / 100,
        card_number=make_card_number(f"411111{_number(f'{key}:card', 10**9):09d}"),
    )


def order(seed: int, customer: int, number: int, *, card_id: int) -> Order:
    """The payment `number` of a customer of this seed; every second one is by card."""
    key = f"{seed}:order:{customer}:{number}"
    shop = _pick(f"{key}:shop", SHOPS)
    return Order(
        counterparty_iban=make_iban(_number(f"{key}:shop-account:{shop}", 10**10)),
        counterparty_name=shop,
        amount=Decimal(100 + _number(f"{key}:amount", 20_000)) / 100,
        card_id=card_id if number % 2 else None,
        note=f"Invoice {_number(f'{key}:invoice', 10**5):05d}",
        metadata={"channel": "sample"},
    )


def _number(key: str, below: int) -> int:
    # A hash rather than random.Random: its numbers do not depend on the order they are drawn in.
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) % below


def _pick(key: str, choices: Sequence[T]) -> T:
    return choices[_number(key, len(choices))]
