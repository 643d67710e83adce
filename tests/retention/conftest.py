from __future__ import annotations

import secrets
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from pathlib import Path
from typing import Any

import boto3
import pytest

from audit_log.conf.retention import Archive, ArchiveOptions
from audit_log.retention.stores.s3 import Bucket
from tests.faults.servers import free_port


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 180
    while process.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=30).close()
        except (OSError, HTTPException):
            time.sleep(0.05)
        else:
            return
    pytest.fail(f"The S3 server at {url} did not start.")


@pytest.fixture(autouse=True)
def _one_day() -> None:
    """No test begins before and ends after a day is closed, or comes to an age that counts.

    Midnight, the archive's hour of grace after it, and noon, when the records of these tests are a
    day older.
    """
    now = datetime.now(UTC)
    soon = now + timedelta(seconds=100)
    if soon.hour != now.hour and soon.hour in {0, 1, 12}:
        time.sleep((soon.replace(minute=0, second=1) - now).total_seconds())


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The URL of an S3 server of this session's own (moto, a process), and credentials for it."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ACCESS_KEY_ID", "tests")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "tests")
        environment.setenv("AWS_DEFAULT_REGION", "eu-central-1")
        environment.setenv("AWS_CONFIG_FILE", "/dev/null")
        environment.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        try:
            _wait_for(f"http://127.0.0.1:{port}/moto-api/", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def s3(s3_endpoint: str) -> Any:
    """A client of that server."""
    return boto3.client("s3", endpoint_url=s3_endpoint)


@pytest.fixture
def s3_options(s3_endpoint: str) -> ArchiveOptions:
    """How to reach that server."""
    return ArchiveOptions(endpoint=s3_endpoint, region="eu-central-1", path_style=True)


@pytest.fixture
def bucket_name(s3: Any) -> str:
    """A new bucket, with versions."""
    name = f"audit-{secrets.token_hex(6)}"
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


@pytest.fixture
def bucket(bucket_name: str, s3_options: ArchiveOptions) -> Bucket:
    """A store over that bucket."""
    return Bucket(Archive("s3", bucket_name), s3_options)


@pytest.fixture
def retained(settings: Any) -> Callable[..., None]:
    """Set `ARCHIVE` and more of AUDIT_LOG; records stay 30 days in the database."""

    def set_(archive: str | None, **more: Any) -> None:
        policy = {"RETENTION": {"database": "30d"}, "ARCHIVE": archive, **more}
        settings.AUDIT_LOG = {**settings.AUDIT_LOG, **policy}

    return set_


@pytest.fixture
def folder(retained: Callable[..., None], tmp_path: Path) -> Path:
    """The archive is this folder."""
    path = tmp_path / "archive"
    retained(f"file://{path}")
    return path
