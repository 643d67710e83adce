"""A project's Celery app: tasks that are given secrets, and a store of their results."""

from __future__ import annotations

import logging
import os
from typing import Any

from tests.faults.celery_app import app
from tests.shop.models import Category, Person

app.conf.update(
    result_backend=os.environ.get("LEAKS_RESULTS"),
    result_extended=False,
    worker_redirect_stdouts=False,
)

if "LEAKS_LOG" in os.environ:  # our own lines apart, down to the last
    _ours = logging.getLogger("audit_log")
    _ours.addHandler(logging.FileHandler(os.environ["LEAKS_LOG"]))
    _ours.setLevel(logging.DEBUG)


@app.task(name="leaks.save", ignore_result=False)
def save(password: str, *, api_token: str, notes: str) -> int:
    """Saves what it is given under names and in text."""
    person = Person.objects.create(
        nickname="by a task", password=password, api_token=api_token, notes=notes
    )
    return int(person.pk)


@app.task(name="leaks.fail")
def fail(secret: str) -> None:
    """Changes something, and fails with a secret in its words."""
    Category.objects.create(name="before it fails")
    raise LookupError(secret)


def send(secrets: dict[str, list[Any]]) -> None:
    """Send tasks; each of `secrets` is the arguments of one."""
    for password, api_token, notes in secrets["save"]:
        save.delay(password, api_token=api_token, notes=notes)
    for (secret,) in secrets["fail"]:
        fail.delay(secret)
