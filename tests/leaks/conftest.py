from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache

from audit_log import context
from audit_log.privacy import data_keys
from audit_log.reading import access, streams
from audit_log.recording import losses

# A server of S3, as the tests of retention have it.
from tests.retention.conftest import bucket_name, s3, s3_endpoint  # noqa: F401

UNLIMITED = dict.fromkeys(("audit_log", "audit_log_contents", "audit_log_statistics"))


@pytest.fixture(autouse=True)
def apart(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test has its own spool, keys and first warnings, and pages without limits."""
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "SPOOL_DIR": str(tmp_path / "spool")}
    settings.REST_FRAMEWORK = {"DEFAULT_THROTTLE_RATES": UNLIMITED}
    settings.ROOT_URLCONF = "tests.leaks.urls"
    monkeypatch.setattr(losses, "_WARN_EVERY_SECONDS", 0.0)  # each of them is printed
    context.clear()
    for forget in (access.forget, streams.forget, data_keys.forget, cache.clear):
        forget()
    yield
    for forget in (access.forget, streams.forget, data_keys.forget, cache.clear):
        forget()
