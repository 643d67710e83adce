"""Streams, checkpoints, parts and alerts, and the header that says how far the log is signed."""

from __future__ import annotations

import base64
import re
from datetime import UTC, date, datetime
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from audit_log.ledger import checkpoints, heads
from audit_log.models import Alert, ArchivePart, Checkpoint, Record, Stream
from audit_log.reading import streams
from tests.api.asking import ROOT, all_pages, get, refused
from tests.api.conftest import ALERTS
from tests.ledger.building import a_long_stream, an_event, sql, write

pytestmark = pytest.mark.django_db(databases=["default", "other"])  # health looks at both
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def a_part(first: int, **columns: Any) -> ArchivePart:
    values: dict[str, Any] = {
        "stream": "default",
        "day": date(2026, 3, 1),
        "first": first,
        "last": first + 9,
        "count": 10,
        "min_time": NOON,
        "max_time": NOON,
        "planned_at": NOON,
        **columns,
    }
    return ArchivePart.objects.create(**values)


def an_alert(**columns: Any) -> Alert:
    values: dict[str, Any] = {
        "rule": "mass_delete",
        "group": "7",
        "measured": 120,
        "threshold": 100,
        "window_start": NOON,
        "window_end": NOON,
        "stream": "default",
        "sequence": 5,
        "fired_at": NOON,
        "channels": {"log": "2026-03-01T12:00:00Z"},
        **columns,
    }
    return Alert.objects.create(**values)


def test_streams_say_how_long_and_how_far_signed_they_are(reader):
    a_long_stream(3)
    write([an_event()], "security")
    checkpoints.sign("default", "default")
    write([an_event()])
    Stream.objects.filter(pk="default").update(purged=1, purged_through=NOON)
    default, security = get(reader, "streams/")
    signed = Checkpoint.objects.get()
    assert default.pop("recorded_at") is not None
    assert default == {
        "name": "default",
        "size": 4,
        "purged": 1,
        "purged_through": "2026-03-01T12:00:00.000000Z",
        "checkpoint": {
            "size": 3,
            "root": signed.root,
            "created_at": signed.created_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        },
    }
    assert (security["name"], security["size"], security["checkpoint"]) == ("security", 1, None)


def test_checkpoints_hold_their_notes(reader):
    a_long_stream(2)
    write([an_event()], "security")
    checkpoints.sign_all()
    write([an_event()])
    checkpoints.sign_all()
    rows = all_pages(reader, "checkpoints/", page_size=1)
    assert [(row["stream"], row["size"]) for row in rows] == [
        ("default", 3),
        ("security", 1),
        ("default", 2),
    ]
    said = checkpoints.opened(rows[0]["note"], "default")
    assert (said.size, said.root.hex()) == (3, rows[0]["root"])
    assert len(all_pages(reader, "checkpoints/", stream="security")) == 1
    assert "size" in refused(reader, "checkpoints/", size=3)


def test_parts_show_how_far_each_has_come(reader):
    a_part(0, state=ArchivePart.State.PURGED, purged_at=NOON)
    a_part(10)
    newer, older = all_pages(reader, "parts/", page_size=1)
    assert (newer["first"], newer["state"], newer["purged_at"]) == (10, "planned", None)
    assert (older["day"], older["last"]) == ("2026-03-01", 9)
    assert older["purged_at"] == "2026-03-01T12:00:00.000000Z"
    assert [row["first"] for row in all_pages(reader, "parts/", state="purged")] == [0]
    assert "state" in refused(reader, "parts/", state="lost")


def test_alerts_show_what_fired(person):
    watch = person(ALERTS, name="watch")
    an_alert()
    an_alert(rule="logins")
    logins, deletes = all_pages(watch, "alerts/", page_size=1)
    assert (logins["rule"], deletes["rule"]) == ("logins", "mass_delete")
    assert deletes["channels"] == {"log": "2026-03-01T12:00:00Z"}
    assert (deletes["measured"], deletes["threshold"], deletes["group"]) == (120, 100, "7")
    assert len(all_pages(watch, "alerts/", rule="logins")) == 1


def test_replies_name_the_newest_checkpoints(reader):
    a_long_stream(2)
    write([an_event()], "security")
    checkpoints.sign_all()
    header = reader.get(f"{ROOT}records/")["Audit-Checkpoint"]
    found = re.findall(r'"([^"]+)";size=(\d+);root=:([^:]+):', header)
    assert {name: (int(size), base64.b64decode(root).hex()) for name, size, root in found} == {
        row.stream: (row.size, row.root) for row in Checkpoint.objects.all()
    }
    only = reader.get(f"{ROOT}records/", {"stream": "security"})["Audit-Checkpoint"]
    assert only.startswith('"security";size=1;')
    row = Record.objects.filter(stream="default").first()
    assert row is not None
    assert reader.get(f"{ROOT}records/{row.pk}/")["Audit-Checkpoint"].count("size=") == 1


def test_refused_replies_name_no_checkpoint(person):
    a_long_stream(2)
    checkpoints.sign_all()
    assert "Audit-Checkpoint" not in person(name="eve").get(f"{ROOT}records/")


def test_nothing_signed_gives_no_header(reader):
    a_long_stream(2)
    assert "Audit-Checkpoint" not in reader.get(f"{ROOT}records/")


def test_header_costs_no_query_for_five_seconds(reader, monkeypatch):
    a_long_stream(2)
    checkpoints.sign_all()
    get(reader, "records/")
    with CaptureQueriesContext(connection) as queries:
        get(reader, "records/")
    assert not any("checkpoint" in query["sql"] for query in queries)
    write([an_event()])
    checkpoints.sign_all()
    monkeypatch.setattr(streams, "_CACHE_SECONDS", 0)
    assert "size=3" in reader.get(f"{ROOT}records/")["Audit-Checkpoint"]


def test_stream_with_a_strange_name_stays_one_item(reader):
    write([an_event()], 'a"b\\ü,')
    checkpoints.sign('a"b\\ü,', "default")
    header = reader.get(f"{ROOT}records/")["Audit-Checkpoint"]
    assert header.startswith('"a\\"b\\\\\\\\xfc,";size=1;')


@pytest.mark.parametrize("root", ["no root", "", "\n"])
def test_checkpoint_that_was_altered_is_left_out_of_the_header(reader, root):
    a_long_stream(2)
    write([an_event()], "security")
    checkpoints.sign_all()
    sql("UPDATE audit_log_checkpoint SET root = %s WHERE stream = 'default'", root)
    header = reader.get(f"{ROOT}records/")["Audit-Checkpoint"]
    assert header.startswith('"security";')


def test_health_is_200_while_all_is_well(reader):
    a_long_stream(2)
    checkpoints.sign_all()
    found = get(reader, "health/")
    assert found["healthy"] is True
    assert found["troubles"] == []
    (stream,) = (s for s in found["streams"] if s["name"] == heads.DEFAULT)
    assert (stream["size"], stream["signed"]) == (2, 2)


def test_health_is_503_when_somebody_should_look(reader, store):
    from audit_log.models import Outbox

    Outbox.objects.create(
        created_at=NOON, event_count=1, payload=b"", parked_at=NOON, parked_reason="torn"
    )
    found = get(reader, "health/", 503)
    assert found["healthy"] is False
    assert "parked" in found["troubles"][0]
    assert found["parked"] == 1
