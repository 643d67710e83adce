"""Kinds of arguments that several verbs take."""

from __future__ import annotations

from argparse import ArgumentTypeError


def number(text: str) -> int:
    """A whole number from 1 on."""
    found = int(text)
    if found < 1:
        raise ArgumentTypeError("must be 1 at least")
    return found
