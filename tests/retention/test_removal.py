"""The contents of a record are removed, on record, and its proof stays."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import connection

import audit_log
from audit_log import testing
from audit_log.admin.integrity import integrity_of
from audit_log.exceptions import RetentionRefused
from audit_log.ledger import checkpoints
from audit_log.ledger.proofs import prove
from audit_log.ledger.verification import verify
from audit_log.models import ArchivePart, Record
from audit_log.reading.contents import contents
from audit_log.retention import archive, holds, purge, removal
from audit_log.retention.manifests import Manifest
from audit_log.retention.parts import manifest_key, read_part, verify_part
from tests.retention.old_records import days

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def record() -> Record:
    """A record with something open and something sealed in it."""
    audit_log.record("bank.asked", data={"amount": 4711, "text": "sealed words"})
    audit_log.record("bank.other", data={"amount": 1})
    testing.relay()
    checkpoints.sign_all()
    return Record.objects.get(action="bank.asked")


def test_open_contents_go_and_everything_verifies(record: Record):
    done = removal.redact(record.pk, "a card number in an amount")
    assert done.columns == ("data",)
    assert done.archived_in == ""
    record.refresh_from_db()
    assert (record.data, record.changes, record.salt) == (None, None, None)
    assert contents(record)["data"] == {"text": "sealed words"}
    before = verify()  # what says so waits in the outbox
    testing.relay()
    checkpoints.sign_all()
    for found in (before, verify()):
        assert found.ok, found.findings
        (redacted,) = found.redacted
        assert redacted.record == str(record.pk)
        assert redacted.message == f"redacted, authorised by record {done.record}"
    said = Record.objects.get(pk=done.record)
    assert (said.action, said.target_id) == ("audit_log.redacted", str(record.pk))
    assert contents(said)["reason"] == "a card number in an amount"
    found_intact = integrity_of(record, "default")
    assert found_intact.intact
    assert "on record" in found_intact.message
    entry, proof = prove(record, "default")
    proof.verify(entry, checkpoints.verifiers())


def test_sealed_contents_go_too_where_asked(record: Record):
    done = removal.redact(record.pk, "all of it", sealed=True)
    assert done.columns == ("data", "sealed_data")
    record.refresh_from_db()
    assert record.sealed_data is None
    assert verify().ok


def test_sealed_contents_may_go_later(record: Record):
    removal.redact(record.pk, "a card number")
    for relayed in (False, True):
        assert verify().ok
        if relayed:
            testing.relay()
    with pytest.raises(RetentionRefused, match="redacted before"):
        removal.redact(record.pk, "again")
    done = removal.redact(record.pk, "all of it", sealed=True)
    assert done.columns == ("sealed_data",)
    for _ in range(2):
        found = verify()
        assert found.ok, found.findings
        assert [each.message for each in found.redacted] == [
            f"redacted, authorised by record {done.record}"
        ]
        assert integrity_of(Record.objects.get(pk=record.pk), "default").intact
        testing.relay()
    with pytest.raises(RetentionRefused, match="redacted before"):
        removal.redact(record.pk, "all of it", sealed=True)
    _set("outcome = 'failure'")(record)
    assert [each.kind for each in verify().findings] == ["altered"]


def test_tokens_of_what_was_sealed_go_with_it():
    """A keyed hash of a name can be guessed by whoever has the key."""
    with audit_log.acting(get_user_model().objects.create(username="ann")):
        audit_log.record("bank.asked", data={"amount": 1})
    testing.relay()
    record = Record.objects.get(action="bank.asked")
    assert record.actor_token
    removal.redact(record.pk, "reason")
    record.refresh_from_db()
    assert record.actor_token
    removal.redact(record.pk, "reason", sealed=True)
    record.refresh_from_db()
    left = Record.objects.filter(pk=record.pk, sealed_actor=None, actor_token=None)
    assert left.exists()
    assert verify().ok


def test_contents_put_into_a_redacted_record_are_found(record: Record):
    removal.redact(record.pk, "reason", sealed=True)
    testing.relay()
    columns = ["changes = '{\"amount\": 1}'", "data = '{\"amount\": 1}'"]
    for column in columns:
        _set(column)(record)
        (found,) = verify().findings
        assert (found.kind, found.record) == ("altered", str(record.pk))
        assert verify().redacted == []
        _set(f"{column.partition(' ')[0]} = NULL")(record)
        assert verify().ok


def test_redaction_of_one_record_does_not_cover_another(record: Record):
    removal.redact(record.pk, "reason")
    testing.relay()
    other = Record.objects.get(action="bank.other")
    _set("data = NULL, salt = NULL")(record)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE audit_log_record SET data = NULL, salt = NULL WHERE action = 'bank.other'"
        )
        cursor.execute(
            "UPDATE audit_log_record SET target_id = %s WHERE action = 'audit_log.redacted'",
            [str(other.pk)],
        )
    assert len(verify().findings) == 3  # the two, and what says so


def _set(columns: str) -> Callable[[Record], None]:
    def alter(record: Record) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"UPDATE audit_log_record SET {columns} WHERE action = 'bank.asked'")

    return alter


def test_removed_without_a_record_is_found(record: Record):
    _set("data = NULL, salt = NULL")(record)
    (found,) = verify().findings
    assert (found.kind, found.record) == ("altered", str(record.pk))
    assert found.message == "its contents were removed, and no redaction is on record"


def test_redaction_on_record_covers_nothing_else(record: Record):
    removal.redact(record.pk, "reason")
    testing.relay()
    _set("action = 'bank.asked', outcome = 'failure'")(record)
    (found,) = verify().findings
    assert found.kind == "altered"
    assert verify().redacted == []


def test_altered_authorisation_authorises_nothing(record: Record):
    done = removal.redact(record.pk, "reason")
    testing.relay()
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE audit_log_record SET outcome = 'denied' WHERE action = 'audit_log.redacted'"
        )
    found = verify()
    assert {finding.record for finding in found.findings} == {str(record.pk), str(done.record)}


def test_altered_record_is_not_redacted(record: Record):
    _set("outcome = 'failure'")(record)
    with pytest.raises(RetentionRefused, match="it was altered"):
        removal.redact(record.pk, "reason")
    assert Record.objects.get(pk=record.pk).data


def test_what_cannot_be_redacted(record: Record):
    with pytest.raises(RetentionRefused, match="needs a reason"):
        removal.redact(record.pk, " ")
    with pytest.raises(RetentionRefused, match="There is no record"):
        removal.redact(uuid.uuid4(), "reason")
    done = removal.redact(record.pk, "reason")
    testing.relay()
    with pytest.raises(RetentionRefused, match="redacted before"):
        removal.redact(record.pk, "reason")
    with pytest.raises(RetentionRefused, match="about itself"):
        removal.redact(done.record, "reason")
    other = Record.objects.get(action="bank.other")
    hold = holds.place("auth.user:1", "case 7", "default")
    with pytest.raises(RetentionRefused, match="case 7"):
        removal.redact(other.pk, "reason")
    holds.lift(hold.pk, "closed", "default")
    removal.redact(other.pk, "reason")
    audit_log.record("bank.empty")
    testing.relay()
    with pytest.raises(RetentionRefused, match="no contents"):
        removal.redact(Record.objects.get(action="bank.empty").pk, "reason")


def test_redacted_record_is_archived_without_its_contents(folder: Path, settings: Any):
    days((60, 20), (1, 5))
    record = Record.objects.filter(stream="default").order_by("sequence")[3]
    assert record.changes
    removal.redact(record.pk, "reason")
    archive.run()
    part = ArchivePart.objects.filter(stream="default").order_by("first")[0]
    with (folder / part.key).open("rb") as file:
        line = list(read_part(file))[3]
    assert (line.changes, line.salt) == (None, None)
    assert line.columns()["changes"]  # its digest
    manifest = Manifest.parse((folder / manifest_key(part.key)).read_bytes())
    with (folder / part.key).open("rb") as file:
        verify_part(manifest, file, checkpoints.verifiers())


def test_part_that_still_holds_it_is_named(folder: Path):
    days((60, 20), (1, 5))
    archive.run()
    record = Record.objects.filter(stream="default").order_by("sequence")[3]
    done = removal.redact(record.pk, "reason")
    part = ArchivePart.objects.filter(stream="default").order_by("first")[0]
    assert done.archived_in == part.key


def test_what_authorises_stays_while_its_record_does(retained: Callable[..., None], tmp_path: Path):
    """The bookkeeping stream is kept for a shorter time than the record."""
    from tests.ledger.building import write
    from tests.retention.old_records import event_of, noon

    long = {"audit_log": {"retention": {"database": "30d"}}}
    retained(f"file://{tmp_path}/a", RETENTION={"database": "150d"}, STREAMS=long)
    days((60, 3))
    kept = Record.objects.filter(stream="default").first()
    assert kept is not None
    moment = noon() - timedelta(days=50)
    from audit_log.events import Target
    from audit_log.ledger.entries import contents_digest
    from audit_log.ledger.heads import BOOKKEEPING

    digest = contents_digest(bytes(kept.salt or b""), kept.changes)
    said = event_of(
        moment,
        action="audit_log.redacted",
        target=Target(type="audit_log.record", id=str(kept.pk)),
        data={"digests": {"changes": digest}},
    )
    write([said], BOOKKEEPING)
    checkpoints.sign_all()
    archive.run()
    assert purge.due(stream=BOOKKEEPING).total == 0
    assert datetime.now(UTC) > moment


def test_verb(record: Record, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(CommandError, match="say --yes"):
        call_command("audit_log", "redact", str(record.pk), "--reason=x", "--json")
    capsys.readouterr()
    call_command("audit_log", "redact", str(record.pk), "--reason=x", "--yes", "--json")
    assert json.loads(capsys.readouterr().out)["columns"] == ["data"]
    call_command("audit_log", "verify")
    assert f"(record {record.pk}): redacted: redacted, authorised" in capsys.readouterr().out
    with pytest.raises(CommandError, match="redacted before"):
        call_command("audit_log", "redact", str(record.pk), "--reason=x", "--yes")
