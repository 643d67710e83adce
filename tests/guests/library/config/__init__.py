# mypy: ignore-errors
# As Celery's manual has it.
from surroundings import CELERY

if CELERY != "none":
    from config.celery import app as celery_app

    __all__ = ["celery_app"]
