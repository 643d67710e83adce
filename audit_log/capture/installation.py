"""Put every hook in its place, or take them all off again."""

from __future__ import annotations

from django.apps import apps

from audit_log.capture import auth, bulk, deletes, jobs, references, relations, saves
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
    jobs.install()
    sending.install()
    if apps.is_installed("django.contrib.auth"):
        auth.install()


def uninstall() -> None:
    """As if we were not there."""
    for room in (auth, sending, jobs, relations, bulk, references, deletes, saves):
        room.uninstall()
    pending.uninstall_everywhere()
