"""The whole way through S3, and what an attacker may do there."""

from __future__ import annotations

import gzip

import pytest

from audit_log.ledger import checkpoints
from audit_log.ledger.verification import verify
from audit_log.models import Record
from audit_log.retention import archive, purge
from audit_log.retention.manifests import Manifest
from audit_log.retention.parts import manifest_key, verify_part
from audit_log.retention.stores.s3 import Bucket
from tests.retention.old_records import days, numbers, parts, states

pytestmark = pytest.mark.django_db


@pytest.fixture
def in_bucket(retained, bucket_name, s3_endpoint):
    """The archive is a bucket of the S3 server."""
    options = {"endpoint": s3_endpoint, "region": "eu-central-1", "path_style": True}
    retained(f"s3://{bucket_name}/audit", ARCHIVE_OPTIONS=options)


@pytest.mark.usefixtures("in_bucket")
def test_closed_days_move_to_the_bucket_and_leave_the_database(bucket: Bucket):
    days((40, 3), (39, 4), (2, 5), (0, 2))
    assert archive.run().failures == []
    assert states() == ["purgeable"] * 3
    assert verify().ok
    done = purge.run()
    assert (done.total, done.failures) == (7, [])
    assert numbers() == list(range(7, 14))
    assert verify().ok
    for part in parts():
        assert part.key.startswith("audit/default/date=")
        with bucket.open(manifest_key(part.key)) as source:
            manifest = Manifest.parse(source.read())
        with bucket.open(part.key, part.version_id) as source:
            verify_part(manifest, source, checkpoints.verifiers())


@pytest.mark.usefixtures("in_bucket")
def test_part_that_was_deleted_or_replaced_in_the_bucket_is_not_purged(s3, bucket_name):
    """s3_deleted_after_verify, s3_corrupt."""
    days((40, 3), (0, 1))
    archive.run()
    (part,) = parts()
    s3.delete_object(Bucket=bucket_name, Key=part.key, VersionId=part.version_id)
    assert len(purge.run().failures) == 1
    s3.put_object(Bucket=bucket_name, Key=part.key, Body=gzip.compress(b"{}\n"))
    assert len(purge.run().failures) == 1
    assert Record.objects.filter(stream="default").count() == 4
    assert states() == ["purgeable"]
    assert verify().ok


@pytest.mark.usefixtures("in_bucket")
def test_part_behind_a_delete_marker_or_another_version_is_not_purged(s3, bucket_name):
    """s3_deleted_after_verify: its version is still there, until a lifecycle rule takes it."""
    days((40, 3), (0, 1))
    archive.run()
    (part,) = parts()
    marker = s3.delete_object(Bucket=bucket_name, Key=part.key)
    assert marker["DeleteMarker"]
    assert "moved or deleted" in purge.run().failures[0]
    s3.delete_object(Bucket=bucket_name, Key=part.key, VersionId=marker["VersionId"])
    newer = s3.put_object(Bucket=bucket_name, Key=part.key, Body=gzip.compress(b"{}\n"))
    assert "not what was archived" in purge.run().failures[0]
    s3.delete_object(Bucket=bucket_name, Key=part.key, VersionId=newer["VersionId"])
    assert (purge.run().total, verify().ok) == (3, True)
