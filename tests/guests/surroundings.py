"""What the host projects leave to the environment: their database, their broker, and us.

Each host's settings call this; `tests.guests.running` sets the variables. A host without
GUEST_AUDIT is a project that has never heard of us. The hosts are typed as most projects are: not.
"""
# The hosts import this from sys.path, as their own: it is no module of the tests package.

from __future__ import annotations

import json
import os
import sys
from typing import Any

AUDIT = os.environ.get("GUEST_AUDIT", "")  # "", "on" or "off" (installed, ENABLED: False)
CELERY = os.environ.get("GUEST_CELERY", "none")  # "none", "eager" or a broker's URL
_MYSQL = ("HOST", "PORT", "USER", "PASSWORD")


def database(suffix: str = "", **settings: Any) -> dict[str, Any]:
    """One of DATABASES, with the options and TEST options of GUEST_OPTIONS and GUEST_TEST."""
    vendor = os.environ.get("GUEST_DB", "sqlite")
    # SQLite's own limit is less than a busy machine may take to write.
    options = {"timeout": 300} if vendor == "sqlite" else {}
    common: dict[str, Any] = {
        "NAME": os.environ["GUEST_DB_NAME"] + suffix,
        "OPTIONS": options | json.loads(os.environ.get("GUEST_OPTIONS", "{}")),
        "TEST": json.loads(os.environ.get("GUEST_TEST", "{}")),
        **settings,
    }
    if vendor == "sqlite":
        return {"ENGINE": "django.db.backends.sqlite3", **common}
    if vendor == "mysql":
        return {
            "ENGINE": "django.db.backends.mysql",
            **{key: os.environ[f"GUEST_MYSQL_{key}"] for key in _MYSQL},
            **common,
        }
    if os.environ.get("GUEST_DRIVER") == "psycopg2":
        # Django prefers psycopg where it can be imported; None says that it cannot.
        sys.modules["psycopg"] = None  # type: ignore[assignment]
    return {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": os.environ["PGHOST"],
        "PORT": os.environ["PGPORT"],
        "USER": os.environ["PGUSER"],
        "PASSWORD": os.environ.get("PGPASSWORD", ""),
        **common,
    }


def apps(*own: str) -> list[str]:
    """INSTALLED_APPS, with ours where we are a guest."""
    return ["audit_log", *own] if AUDIT else list(own)


def middleware(*own: str) -> list[str]:
    """MIDDLEWARE, with ours where we are a guest."""
    return ["audit_log.middleware.AuditMiddleware", *own] if AUDIT else list(own)


def be_patient() -> None:
    """Give a process that ends all the time that its last round takes on a busy machine."""
    if AUDIT == "on":
        from audit_log.recording import nudge

        nudge._EXIT_SECONDS = 240  # type: ignore[misc]


def audit_log() -> dict[str, Any]:
    """AUDIT_LOG, as a project's settings might have it."""
    return {
        "ENABLED": AUDIT == "on",
        "SPOOL_DIR": os.environ["GUEST_SPOOL_DIR"],
        "ENCRYPTION_KEYS": {"guest": "YXVkaXRfbG9nLXRlc3RzLW9ubHktMzItYnl0ZXMtISE="},
    }
