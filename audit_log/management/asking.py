"""Asking whoever is at the terminal before something goes that does not come back."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import CommandError


def confirm(question: str, options: dict[str, Any], *, nothing: str, answer: str = "yes") -> None:
    """Go on only with `--yes`, or when somebody types the answer.

    `nothing` says what was not done then. Raises CommandError with it.
    """
    if options["yes"]:
        return
    if options["json"] or not sys.stdin.isatty():  # only on a terminal can somebody answer
        raise CommandError(f"{question} {nothing.removesuffix('.')}: say --yes.")
    sys.stderr.write(f'{question}\nType "{answer}" to go on: ')
    sys.stderr.flush()
    if sys.stdin.readline().strip() != answer:
        raise CommandError(nothing)
