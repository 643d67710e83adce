"""A process of the project's: it saves, and sends tasks on behalf of somebody.

`python -m tests.leaks.driver <save|act|task>`; the secrets come as JSON on the standard input.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import audit_log
from audit_log.events import Actor
from tests.leaks import celery_app  # sets Django up
from tests.shop.models import Category, Person


def save(secrets: list[str]) -> None:
    """Commit, so that Celery is told that there is work."""
    for secret in secrets:
        Person.objects.create(nickname="by a process", password=secret)


def act(secrets: list[list[str]]) -> None:
    """Send tasks whose arguments are harmless, for reasons that are not."""
    for label, reason in secrets:
        with audit_log.acting(Actor(type="user", id="7", label=label), reason=reason):
            celery_app.save.delay("[harmless]", api_token="[harmless]", notes="[harmless]")
            Category.objects.create(name="acted")


if __name__ == "__main__":
    given: Any = json.load(sys.stdin)
    calls: dict[str, Callable[[Any], None]]
    calls = {"save": save, "act": act, "task": celery_app.send}
    calls[sys.argv[1]](given)
