"""Put every hook in its place, or take them all off again."""

from __future__ import annotations

from typing import Any

from django.apps import apps

from audit_log.capture import (
    auth,
    bulk,
    commands,
    deletes,
    errors,
    jobs,
    references,
    relations,
    saves,
    spans,
)
from audit_log.capture.triggers import sending
from audit_log.recording import pending


def install() -> None:
    """Hook into Django and Celery. Harmless when done twice."""
    pending.install_everywhere()
    saves.install()
    deletes.install()
    references.install()
    bulk.install()
    relations.install()
    errors.install()
    jobs.install()
    commands.install()
    spans.install()
    sending.install()
    if apps.is_installed("django.contrib.auth"):
        auth.install()
    for room in _of_the_admin():
        room.install()


def uninstall() -> None:
    """As if we were not there."""
    rooms = (
        auth,
        sending,
        spans,
        commands,
        jobs,
        errors,
        relations,
        bulk,
        references,
        deletes,
        saves,
    )
    for room in (*_of_the_admin(), *rooms):
        room.uninstall()
    pending.uninstall_everywhere()


def _of_the_admin() -> list[Any]:
    """Not imported where no project has it."""
    if not apps.is_installed("django.contrib.admin"):
        return []
    from audit_log.capture import admin_pages  # noqa: PLC0415

    return [admin_pages]
