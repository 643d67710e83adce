"""The Celery app: worker and beat start from here (celery -A example_project worker --beat)."""

import os

from celery import Celery
from celery.schedules import crontab

import audit_log

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_project.settings")

app = Celery("example_project")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

app.conf.beat_schedule = {
    "apply-interest": {"task": "bank.apply_interest", "schedule": crontab(hour="1", minute="0")},
}
app.conf.beat_schedule |= audit_log.beat_schedule()
