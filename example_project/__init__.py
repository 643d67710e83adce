"""A small bank that is audited: copy from it."""

from example_project.celery import app as celery_app

__all__ = ["celery_app"]
