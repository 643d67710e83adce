"""The project that is measured. Which subject, and which database, the environment says."""

from __future__ import annotations

import os
from typing import Any

from benchmarks.subjects import BY_NAME, NONE
from tests import services

_subject = BY_NAME[os.environ.get("BENCHMARK_SUBJECT", NONE)]


def _database(engine: str) -> dict[str, Any]:
    # Connections are kept, or every request would begin with a new one.
    shared = {"NAME": os.environ.get("BENCHMARK_DATABASE", "postgres"), "CONN_MAX_AGE": None}
    if engine == "sqlite":
        # As docs/databases.md advises.
        options = {"timeout": 20, "init_command": "PRAGMA journal_mode=WAL"}
        return {"ENGINE": "django.db.backends.sqlite3", "OPTIONS": options, **shared}
    server = {"postgres": services.POSTGRES, "mysql": services.MYSQL}[engine]
    where = {key.upper(): value for key, value in server.items()}
    backend = {"postgres": "postgresql", "mysql": "mysql"}[engine]
    return {"ENGINE": f"django.db.backends.{backend}", **where, **shared}


DATABASES = {"default": _database(os.environ.get("BENCHMARK_ENGINE", "postgres"))}
SECRET_KEY = "for the benchmark only"  # noqa: S105 - it is none
USE_TZ = True
DEBUG = False
ALLOWED_HOSTS = ["testserver"]
ROOT_URLCONF = "benchmarks.catalog.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    *_subject.apps,
    "benchmarks.catalog",
]
if _subject.outermost:  # ours comes first in both lists
    INSTALLED_APPS = [
        *_subject.apps,
        *[name for name in INSTALLED_APPS if name not in _subject.apps],
    ]
MIDDLEWARE = [
    *_subject.outermost,
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    *_subject.innermost,
]
LOGGING = {"version": 1, "loggers": {"django.request": {"level": "ERROR"}}}  # 404 are meant
globals().update(_subject.settings)
