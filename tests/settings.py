"""Settings of the tests: on SQLite, or what AUDIT_LOG_TEST_DB names; two databases always."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from tests.services import MYSQL, POSTGRES

DATABASE = os.environ.get("AUDIT_LOG_TEST_DB", "sqlite")

# One name for the databases of this run, so that two runs at once do not drop each other's. Set in
# the environment: the processes that a test starts, and xdist's workers, are of the same run.
RUN = os.environ.setdefault("AUDIT_LOG_TEST_RUN", str(os.getpid()))
DIRECTORY = Path(tempfile.gettempdir()) / f"audit_log-tests-{RUN}"  # made by conftest.py


def _sqlite(alias: str) -> dict[str, Any]:
    # Files, not memory: other threads and processes have to see them.
    path = str(DIRECTORY / f"{alias}.sqlite3")
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get(f"AUDIT_LOG_TEST_NAME_{alias.upper()}", path),
        "TEST": {"NAME": path},
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 300,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
        },
    }


def _postgres(alias: str) -> dict[str, Any]:
    name = f"audit_log_{alias}_{RUN}"
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ.get(f"AUDIT_LOG_TEST_NAME_{alias.upper()}", name),
        "TEST": {"NAME": f"test_{name}"},
        "HOST": POSTGRES["host"],
        "PORT": POSTGRES["port"],
        "USER": POSTGRES["user"],
        "PASSWORD": POSTGRES["password"],
    }


def _mysql(alias: str) -> dict[str, Any]:
    name = f"audit_log_{alias}_{RUN}"
    return {
        "ENGINE": "django.db.backends.mysql",
        "NAME": os.environ.get(f"AUDIT_LOG_TEST_NAME_{alias.upper()}", name),
        "TEST": {"NAME": f"test_{name}", "CHARSET": "utf8mb4"},
        "HOST": MYSQL["host"],
        "PORT": MYSQL["port"],
        "USER": MYSQL["user"],
        "PASSWORD": MYSQL["password"],
        "OPTIONS": {"charset": "utf8mb4", "isolation_level": "read committed"},
    }


_databases = {"sqlite": _sqlite, "postgres": _postgres, "mysql": _mysql}
if DATABASE not in _databases:
    raise ValueError(f"AUDIT_LOG_TEST_DB is {DATABASE!r}; it can be {', '.join(_databases)}.")
DATABASES = {alias: _databases[DATABASE](alias) for alias in ("default", "other")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "audit_log",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "tests.shop",
]
MIDDLEWARE = [
    "audit_log.middleware.AuditMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
AUDIT_LOG: dict[str, Any] = {
    "ENCRYPTION_KEYS": {"test": "YXVkaXRfbG9nLXRlc3RzLW9ubHktMzItYnl0ZXMtISE="},
}

ROOT_URLCONF = "tests.urls"
ALLOWED_HOSTS = ["*"]
STATIC_URL = "/static/"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

SECRET_KEY = "for the tests only"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # speed, not safety
USE_TZ = True
TIME_ZONE = "UTC"
CELERY_BROKER_URL = "memory://"
