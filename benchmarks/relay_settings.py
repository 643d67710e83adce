"""Settings of `benchmarks.relay`: a project of one model, on one database of the benchmark's own.

`AUDIT_LOG_BENCH_DB` is sqlite, postgres or mysql; `AUDIT_LOG_BENCH_NAME` its NAME.
"""

from __future__ import annotations

import os
from typing import Any

from tests.services import MYSQL, POSTGRES

DATABASE = os.environ.get("AUDIT_LOG_BENCH_DB", "sqlite")
NAME = os.environ.get("AUDIT_LOG_BENCH_NAME", ":memory:")


def _server(engine: str, at: dict[str, str], options: dict[str, Any]) -> dict[str, Any]:
    place = {key.upper(): at[key] for key in ("host", "port", "user", "password")}
    engine = f"django.db.backends.{engine}"
    return {"ENGINE": engine, "NAME": NAME, "OPTIONS": options, **place}


_databases: dict[str, dict[str, Any]] = {
    "sqlite": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": NAME,
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
        },
    },
    "postgres": _server("postgresql", POSTGRES, {}),
    "mysql": _server("mysql", MYSQL, {"charset": "utf8mb4"}),
}
DATABASES = {"default": _databases[DATABASE]}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "audit_log",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "benchmarks.workload",
]
MIDDLEWARE = [
    "audit_log.middleware.AuditMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
AUDIT_LOG: dict[str, Any] = {
    "ENCRYPTION_KEYS": {"bench": "YXVkaXRfbG9nLWJlbmNoLW9ubHktMzItYnl0ZXMtISE="},
    "SERVICE": "bench",
}
ROOT_URLCONF = "benchmarks.workload.urls"
ALLOWED_HOSTS = ["*"]
SECRET_KEY = "for the benchmark only"  # noqa: S105 - there is nothing to protect
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
USE_TZ = True
CELERY_BROKER_URL = "memory://"
