"""The Celery app of `benchmarks.latency`: worker and beat as a project has them."""

from __future__ import annotations

import os

from celery import Celery

import audit_log

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.latency_settings")

app = Celery("benchmarks")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.conf.beat_schedule = audit_log.beat_schedule()
