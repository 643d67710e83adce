"""The Celery app of the fault tests' processes, on the broker that the environment names."""

from __future__ import annotations

import os
from typing import Any

import django
from celery import Celery
from django.conf import settings as django_settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.faults.settings")
django.setup()

import audit_log  # noqa: E402 - needs the settings

settings: Any = django_settings
app = Celery("faults")
app.conf.update(
    broker_url=settings.FAULTS_BROKER,
    broker_transport_options=settings.FAULTS_TRANSPORT_OPTIONS,
    broker_connection_retry_on_startup=True,
    task_default_queue=settings.FAULTS_QUEUE,
    task_default_queue_type=settings.FAULTS_QUEUE_TYPE,
    worker_hijack_root_logger=False,
    imports=["audit_log.tasks"],
)
app.conf.beat_schedule = audit_log.beat_schedule()
