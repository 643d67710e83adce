"""Plausible values, the same for every subject."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from typing import Any, Final

_numbers = count()
_DESCRIPTION: Final = (
    "Galvanised steel bracket for shelves up to 40 cm deep, with four holes for screws of 5 mm. "
    "Carries 60 kg if mounted in pairs. Delivered in boxes of twelve, without screws. "
)


def values(**given: Any) -> dict[str, Any]:
    """The fields that items and parts share, other ones each time."""
    number = next(_numbers)
    return {
        "name": f"Bracket {number}",
        "sku": f"BR-{number:08}",
        "status": "stocked",
        "category": "hardware",
        "supplier": "Miller and Daughters",
        "description": _DESCRIPTION,
        "price": Decimal(number % 9000) + Decimal("12.50"),
        "released_at": datetime(2026, 3, 1, 9, 30, tzinfo=UTC),
        **given,
    }


def item_values(**given: Any) -> dict[str, Any]:
    """All ten fields of an item."""
    attributes = {"colour": "grey", "holes": [5, 5, 5, 5], "box": {"pieces": 12, "weight": 4.2}}
    return values(attributes=attributes, **given)


def part_values(**given: Any) -> dict[str, Any]:
    """All ten fields of a part."""
    return values(location="aisle 4, shelf 12", **given)
