"""Settings, all of them from the environment: the defaults run the bank on a laptop.

DATABASE_URL=postgres://… and CELERY_BROKER_URL=amqp://… are all that a real server changes.
"""

from pathlib import Path
from typing import Any

import environ

env = environ.Env()

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = env.path("BANK_VAR_DIR", default=str(BASE_DIR / "var"))
VAR_PATH = Path(str(VAR_DIR))

SECRET_KEY = env.str("SECRET_KEY", default="django-insecure-for-the-demo-only-set-another-anywhere-else")
DEBUG = env.bool("DEBUG", default=False)
ALLOWED_HOSTS: list[str] = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1"])
