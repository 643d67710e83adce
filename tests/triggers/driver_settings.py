"""The tests' settings with another driver: AUDIT_LOG_TEST_DRIVER is psycopg2 or server-side."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

from tests import settings

globals().update({name: getattr(settings, name) for name in dir(settings) if name.isupper()})

DRIVER = os.environ["AUDIT_LOG_TEST_DRIVER"]
if DRIVER == "psycopg2":
    # Django prefers psycopg where it can be imported; None says that it cannot.
    held: Any = sys.modules.get("psycopg")
    sys.modules["psycopg"] = None  # type: ignore[assignment]
    try:
        driver = import_module("django.db.backends.postgresql.base").Database.__name__
    finally:
        del sys.modules["psycopg"]
        if held is not None:
            sys.modules["psycopg"] = held
    if driver != "psycopg2":
        raise RuntimeError(f"Django has chosen {driver} already.")
OPTIONS = {"server_side_binding": True} if DRIVER == "server-side" else {}
DATABASES = {
    alias: {**database, "OPTIONS": OPTIONS} for alias, database in settings.DATABASES.items()
}
