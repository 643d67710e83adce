"""The numbers behind status, admin and checks."""

from __future__ import annotations

import datetime

import pytest
from django.db import connections

from audit_log import health
from audit_log.ledger import checkpoints
from audit_log.models import Outbox
from audit_log.recording import spool
from tests.ledger.building import an_event, sql, write

pytestmark = pytest.mark.django_db


def batch(using: str = "default", **values):
    least = {"created_at": ago(0), "event_count": 3, "payload": b"x"}
    return Outbox.objects.using(using).create(**{**least, **values})


def ago(seconds: float) -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds)


def recorded(moment: datetime.datetime, sequence: int) -> None:
    raw = Outbox._meta.get_field("created_at").get_db_prep_save(moment, connections["default"])
    sql("UPDATE audit_log_record SET recorded_at = %s WHERE sequence = %s", raw, sequence)


def test_empty_log_is_well():
    found = health.measure()
    assert (found.outbox_batches, found.outbox_events, found.outbox_oldest_seconds) == (0, 0, None)
    assert (found.parked, found.outbox_failing, found.streams, found.reasons) == (0, 0, (), {})
    assert found.troubles == []


def test_outbox_is_counted_and_its_oldest_batch_timed():
    """K9."""
    batch(created_at=ago(100))
    batch(event_count=4)
    found = health.measure()
    assert (found.outbox_batches, found.outbox_events) == (2, 7)
    assert 100 <= (found.outbox_oldest_seconds or 0) < 1000
    assert found.troubles == []


def test_batch_that_waits_long_is_a_trouble():
    """K9."""
    batch(created_at=ago(health.OLD_SECONDS + 1))
    (trouble,) = health.measure().troubles
    assert "is a worker running?" in trouble


def test_parked_batches_are_a_trouble_and_say_why():
    batch(parked_at=ago(0), parked_reason="forged: x", created_at=ago(10_000))
    batch(parked_at=ago(0), parked_reason="forged: x")
    batch(parked_at=ago(0), parked_reason="late: y")
    found = health.measure()
    assert (found.parked, found.outbox_batches, found.outbox_oldest_seconds) == (3, 0, None)
    assert found.reasons == {"forged: x": 2, "late: y": 1}
    (trouble,) = found.troubles
    assert "3 batches are parked" in trouble
    assert "forged: x; late: y" in trouble


def test_failing_batches_are_a_trouble_before_they_are_parked():
    batch(attempts=2, next_attempt_at=ago(0), parked_reason="UnknownKey: no")
    batch()
    found = health.measure()
    assert (found.outbox_failing, found.parked, found.outbox_batches) == (1, 0, 2)
    assert "UnknownKey: no" in found.troubles[0]


def test_spool_files_are_a_trouble(monkeypatch, tmp_path):
    monkeypatch.setattr(spool, "waiting", lambda: [tmp_path / "1.spool"])
    found = health.measure()
    assert found.spool_files == 1
    assert "1 spool files" in found.troubles[0]


def test_streams_say_how_much_is_signed():
    write([an_event(), an_event()], "default")
    write([an_event()], "security")
    checkpoints.sign_all()
    write([an_event()], "default")
    default, security = health.measure().streams
    assert (default.name, default.size, default.signed) == ("default", 3, 2)
    assert default.signed_at is not None
    assert 0 <= (default.unsigned_seconds or -1) < 1000
    assert (security.name, security.size, security.signed) == ("security", 1, 1)
    assert security.unsigned_seconds is None
    assert health.measure().troubles == []


@pytest.mark.parametrize("signed", [0, 1])
def test_records_that_nobody_signs_are_a_trouble(signed):
    write([an_event()])
    if signed:
        checkpoints.sign_all()
        write([an_event()])
    recorded(ago(health.UNSIGNED_SECONDS + 1), signed)
    (trouble,) = health.measure().troubles
    assert "1 records of stream 'default'" in trouble
    assert "audit_log.checkpoint" in trouble


def test_new_records_after_a_long_idle_time_are_no_trouble():
    write([an_event()])
    checkpoints.sign_all()
    recorded(ago(100_000), 0)
    write([an_event()])
    assert health.measure().troubles == []


def test_stream_shorter_than_what_was_signed_is_a_trouble():
    write([an_event(), an_event()])
    checkpoints.sign_all()
    sql("UPDATE audit_log_stream SET size = 1")
    (trouble,) = health.measure().troubles
    assert "verify --stream default" in trouble


def test_queries_do_not_grow_with_the_outbox(django_assert_num_queries):
    for n in range(20):
        batch(attempts=1, parked_reason=f"reason {n}")
    write([an_event()])
    with django_assert_num_queries(9):
        found = health.measure()
    assert len(found.reasons) == 5


@pytest.mark.django_db(databases=["default", "other"])
def test_outboxes_of_all_databases_count_together():
    """K9."""
    batch()
    batch("other", created_at=ago(1000), attempts=1, parked_reason="down")
    batch("other", parked_at=ago(0), parked_reason="forged")
    found = health.measure_everywhere()
    assert (found.outbox_batches, found.outbox_events, found.parked) == (2, 6, 1)
    assert 1000 <= (found.outbox_oldest_seconds or 0) < 2000
    assert found.reasons == {"down": 1, "forged": 1}
    assert health.measure("other").outbox_batches == 1
