"""How each peer is told to record a model, at its documented best.

Peers are imported by name: they are no dependency, and most have no annotations.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Any, NamedTuple

from django.core.management import call_command
from django.db import models

from benchmarks.subjects import FLOOR, TRIGGERS

Model = type[models.Model]


class Models(NamedTuple):
    """What is to be recorded."""

    item: Model
    part: Model
    order: Model
    membership: Model  # between orders and tags


def equip(subject: str, audited: Models) -> None:
    """Have `subject` record the models."""
    if subject in _EQUIP:
        _EQUIP[subject](audited)


def install(subject: str) -> None:
    """What comes after the tables: triggers, which migrations would bring in a project."""
    if subject == "django-pghistory":
        import_module("pgtrigger").install()
    elif subject == TRIGGERS:
        call_command("audit_log", "triggers", "install", verbosity=0)
    elif subject == FLOOR:
        import_module("benchmarks.catalog.floor").install()


def unit(subject: str) -> AbstractContextManager[Any]:
    """What a write has to happen in to be recorded at all: reversion's block."""
    if subject == "django-reversion":
        block: AbstractContextManager[Any] = import_module("reversion").create_revision()
        return block
    return nullcontext()


def _auditlog(audited: Models) -> None:
    register = import_module("auditlog.registry").auditlog.register
    register(audited.item, exclude_fields=["updated_at"])
    register(audited.part, exclude_fields=["updated_at"])
    register(audited.order, m2m_fields={"tags"}, mask_fields=["password"])


def _simple_history(audited: Models) -> None:
    register = import_module("simple_history").register
    app = "benchmarks.catalog"
    register(audited.item, app=app, excluded_fields=["updated_at"])
    register(audited.part, app=app, excluded_fields=["updated_at"])
    register(audited.order, app=app, m2m_fields=["tags"])


def _reversion(audited: Models) -> None:
    register = import_module("reversion").register
    register(audited.item, exclude=["updated_at"])
    register(audited.part, exclude=["updated_at"])
    register(audited.order)


def _pghistory(audited: Models) -> None:
    pghistory = import_module("pghistory")
    for model in audited[:3]:
        pghistory.track(
            pghistory.InsertEvent(),
            pghistory.UpdateEvent(condition=pghistory.AnyChange(exclude_auto=True)),
            pghistory.DeleteEvent(),
        )(model)
    pghistory.track(pghistory.InsertEvent(), pghistory.DeleteEvent())(audited.membership)


_EQUIP: dict[str, Callable[[Models], None]] = {
    "django-auditlog": _auditlog,
    "django-simple-history": _simple_history,
    "django-reversion": _reversion,
    "django-pghistory": _pghistory,
    # django-easy-audit records every model by itself, and so do we.
}
