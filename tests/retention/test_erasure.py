"""A person is erased: nothing of theirs opens any more, and every proof still holds."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import connection, connections, transaction

import audit_log
from audit_log import context, testing
from audit_log.events import Actor
from audit_log.exceptions import (
    ConfigurationError,
    Erased,
    ErasureRefused,
    InvalidProof,
    KeysUnavailable,
    RetentionRefused,
)
from audit_log.ledger import checkpoints
from audit_log.ledger.verification import verify
from audit_log.models import ArchivePart, DataKey, LegalHold, Outbox, Record
from audit_log.privacy import data_keys
from audit_log.privacy.encryption import key_id_of
from audit_log.reading import contents, persons
from audit_log.reading.contents import labels
from audit_log.retention import archive, erasure, holds, nightly, purge
from audit_log.retention.certificates import Certificate
from audit_log.retention.parts import read_part
from tests.retention.old_records import days
from tests.shop.models import Category, Person

pytestmark = pytest.mark.django_db(transaction=True)

ON_RECORD = "audit_log.erased"


@pytest.fixture
def ann() -> Any:
    """A user who has done something, and about whom something was recorded."""
    user = get_user_model().objects.create(username="ann.smith", email="ann@example.com")
    with audit_log.acting(user, reason="ticket of Ann's"):
        Category.objects.create(name="made by Ann")
    Category.objects.create(name="made by nobody")
    testing.relay()
    return user


def _of(user: Any) -> list[Record]:
    return list(Record.objects.filter(actor_id=str(user.pk), actor_type="user"))


def _subject(user: Any) -> str:
    return f"auth.user:{user.pk}"


def test_person_is_erased_and_everything_still_verifies(ann: Any):
    (did,) = _of(ann)
    about = Record.objects.get(target_type="auth.user", action="create")
    before = contents.contents(did)
    assert before["actor"]["label"] == "ann.smith"
    assert before["reason"] == "ticket of Ann's"
    assert contents.contents(about)["target_label"] == "ann.smith"
    assert did.actor_token
    leaves = list(Record.objects.order_by("pk").values_list("pk", "sealed_actor", "sealed_data"))

    done = erasure.erase(f"user:{ann.pk}", "request 17")

    today = f"erased on {datetime.now(UTC):%Y-%m-%d}"
    opened = contents.contents(did)
    assert opened["actor"] == {"label": today, "email": None, "ip": None, "user_agent": None}
    assert opened["reason"] is None
    assert opened["erased"] == {"actor": today, "data": None}
    assert "Erased on" in opened["closed"][0]
    assert contents.contents(about)["target_label"] == today
    assert contents.contents(about)["erased"]["data"] == today
    assert labels([did, about])[did.pk][0] == today
    assert labels([did, about])[about.pk][1] == today
    did.refresh_from_db()
    assert [did.actor_token, did.ip_token, did.net_token, did.agent_token] == [None] * 4
    assert done.tokens == 1
    # Not one byte of what is proved has changed.
    kept = Record.objects.filter(pk__in=[pk for pk, *_ in leaves]).order_by("pk")
    assert list(kept.values_list("pk", "sealed_actor", "sealed_data")) == leaves
    found = verify()
    assert found.ok, found.findings
    # What others did is as it was.
    other = Record.objects.filter(target_type="shop.category").exclude(pk=did.pk).get()
    assert contents.contents(other)["target_label"] == "made by nobody"


def test_erasure_is_on_record_and_its_certificate_proves_it(ann: Any):
    done = erasure.erase(_subject(ann), "request 17")
    record = Record.objects.get(action=ON_RECORD)
    assert record.pk == done.record
    assert (record.target_type, record.target_id) == ("subject", _subject(ann))
    assert contents.contents(record)["reason"] == "request 17"
    assert done.certificate is not None
    certificate = Certificate.parse(done.certificate.encode())
    certificate.verify(checkpoints.verifiers())
    destroyed = DataKey.objects.filter(wrapped=None)
    assert sorted(certificate.facts.keys) == sorted(str(row.pk) for row in destroyed)
    assert done.keys == len(destroyed)
    assert certificate.facts.subject == _subject(ann)


ALTERATIONS: dict[str, Callable[[Any], Any]] = {
    "subject": lambda raw: raw["facts"].update(subject="auth.user:1000"),
    "keys": lambda raw: raw["facts"].update(keys=[]),
    "action": lambda raw: raw.update(entry=raw["entry"].replace(".erased", ".erasee")),
    "no salt": lambda raw: raw.update(salt=""),
    "salt": lambda raw: raw.update(salt="!"),
    "stream": lambda raw: raw.update(stream="default"),
    "version": lambda raw: raw.update(version=2),
    "index": lambda raw: raw.update(proof=raw["proof"].replace("index ", "index 1")),
    "no note": lambda raw: raw.update(proof=raw["proof"].partition("\n\n")[0]),
    "no hash": lambda raw: raw.update(proof="c2sp.org/tlog-proof@v1\nindex 0\n?\n\n"),
    "unknown": lambda raw: raw.update(more=1),
    "record": lambda raw: raw.update(record="0190f0c2-0000-7000-8000-000000000000"),
    "sequence": lambda raw: raw.update(sequence=raw["sequence"] + 1),
}


# What detectors mask in the data of every record; names should not look so, and yet some do.
LOOKALIKES = [
    "ann@example.com",
    "4111111111111111",
    "123-45-6789",
    "a:b:c",
    "Ü \u202e ß ",
    "x" * 300,
]


@pytest.mark.parametrize("value", LOOKALIKES)
def test_certificate_names_whoever_was_erased(folder: Path, value: str):
    name = f"subject:{value}"
    before = datetime.now(UTC)
    scope = data_keys.subject_scope(name)
    data_keys.key_for(scope, "default", 0)
    backup = list(DataKey.objects.all())
    done = erasure.erase(name, "request 17")
    assert done.certificate is not None
    done.certificate.verify(checkpoints.verifiers())
    assert done.certificate.subject == name
    for restored in (backup, []):
        _restore(restored)
        assert erasure.reapply().persons == [name]
        with pytest.raises(Erased):
            data_keys.key_for(scope, "default", 0, before)
    testing.relay()
    assert verify().ok


@pytest.mark.parametrize("alter", ALTERATIONS.values(), ids=ALTERATIONS)
def test_certificate_that_was_altered_does_not_hold(ann: Any, alter: Callable[[Any], None]):
    done = erasure.erase(_subject(ann), "request 17")
    assert done.certificate is not None
    raw = json.loads(done.certificate.encode())
    alter(raw)
    with pytest.raises(InvalidProof):
        Certificate.parse(json.dumps(raw).encode()).verify(checkpoints.verifiers())


def test_certificate_of_another_log_erases_nobody(ann: Any, settings: Any):
    done = erasure.erase(_subject(ann), "request 17")
    assert done.certificate is not None
    with pytest.raises(InvalidProof, match="No known signature"):
        done.certificate.verify([])


def test_what_waits_in_the_outbox_is_not_readable_again(ann: Any):
    """The relay comes after the erasure, with what happened before it."""
    with audit_log.acting(ann):
        Category.objects.create(name="waits")
    # Not by `erase`, which relays what waits.
    with transaction.atomic():
        data_keys.destroy(data_keys.subject_scope(_subject(ann)), datetime.now(UTC), "default")
    testing.relay()
    record = _of(ann)[-1]
    assert record.sealed_actor is None
    assert record.actor_token is None
    assert {"path": "sealed_actor", "rule": "erased"} in (record.redactions or [])
    assert contents.contents(record)["target_label"] == "waits"  # of nobody in particular
    assert verify().ok


def test_person_without_a_key_is_erased_before_the_relay_comes():
    user = get_user_model().objects.create(username="early")
    erasure.erase(_subject(user), "request 18")
    testing.relay()
    about = Record.objects.get(target_type="auth.user", action="create")
    assert about.sealed_data is None
    assert {"path": "sealed_data", "rule": "erased"} in (about.redactions or [])
    assert not DataKey.objects.filter(scope__contains=_subject(user), wrapped__isnull=False)


def test_who_comes_back_gets_a_new_key(ann: Any):
    erasure.erase(_subject(ann), "request 17")
    with audit_log.acting(ann):
        Category.objects.create(name="back again")
    testing.relay()
    old, new = _of(ann)
    assert contents.contents(new)["actor"]["label"] == "ann.smith"
    assert contents.contents(old)["actor"]["label"].startswith("erased on")
    erasure.erase(_subject(ann), "request 19")
    assert contents.contents(new)["actor"]["label"].startswith("erased on")
    assert verify().ok


def test_second_erasure_covers_what_waits_as_well(ann: Any):
    """Who came back has no new key yet: nothing of theirs was relayed."""
    erasure.erase(_subject(ann), "request 17")
    with audit_log.acting(ann):
        Category.objects.create(name="back again")
    erasure.erase(_subject(ann), "request 19")
    testing.relay()
    assert [record.sealed_actor is None for record in _of(ann)] == [False, True]
    with audit_log.acting(ann):
        Category.objects.create(name="and again")
    testing.relay()
    assert contents.contents(_of(ann)[-1])["actor"]["label"] == "ann.smith"
    assert erasure.reapply().persons == []
    assert verify().ok


def test_batch_that_is_redelivered_after_the_erasure_is_no_conflict(ann: Any):
    """Another process has the key open, and the event is stored; what repeats it has no name."""
    with audit_log.acting(ann):
        Category.objects.create(name="twice")
    payloads = [bytes(row.payload) for row in Outbox.objects.all()]
    testing.relay()
    record = _of(ann)[-1]
    opened = dict(data_keys._by_id)
    assert key_id_of(bytes(record.sealed_actor or b"")) in opened
    erasure.erase(_subject(ann), "request 17")
    data_keys._by_id.update(opened)
    now = datetime.now(UTC)
    Outbox.objects.bulk_create(
        [Outbox(created_at=now, event_count=1, payload=payload) for payload in payloads]
    )
    assert testing.relay().parked == 0
    assert Outbox.objects.count() == 0


def test_key_that_a_relay_makes_meanwhile_is_destroyed_too(monkeypatch: pytest.MonkeyPatch):
    scope, made = data_keys.subject_scope("auth.user:9"), list[DataKey]()
    real = data_keys._insert_tombstone

    def late(*arguments: Any) -> bool:
        if not made:
            made.append(data_keys._create(scope, 0, 0, "default"))
        return real(*arguments)

    monkeypatch.setattr(data_keys, "_insert_tombstone", late)
    done = erasure.erase("user:9", "request")
    assert done.keys == 1
    (key,) = DataKey.objects.filter(scope=scope)
    assert (key.generation, key.wrapped) == (0, None)


def test_keys_that_other_processes_remember_seal_nothing_old(ann: Any):
    """The new key is in the cache when an event from before the erasure comes along."""
    scope = data_keys.subject_scope(_subject(ann))
    before = datetime.now(UTC)
    erasure.erase(_subject(ann), "request 17")
    later = datetime.now(UTC) + timedelta(seconds=1)
    made = data_keys.key_for(scope, "default", 0, later)
    assert data_keys.key_for(scope, "default", 0, later).id == made.id
    with pytest.raises(Erased):
        data_keys.key_for(scope, "default", 0, before)
    data_keys.forget()
    data_keys.refresh([scope], "default")
    with pytest.raises(Erased):
        data_keys.key_for(scope, "default", 0, before)
    assert data_keys.key_for(scope, "default", 0, later).id == made.id


def test_legal_hold_forbids_erasure_and_says_why(ann: Any):
    with context.changed(actor=Actor(type="user", id="lawyer")):
        hold = holds.place(_subject(ann), "case 2026/7, court of Bonn", "default")
    with pytest.raises(ErasureRefused, match="case 2026/7, court of Bonn"):
        erasure.erase(_subject(ann), "request 17")
    assert DataKey.objects.filter(wrapped=None).count() == 0
    assert contents.contents(_of(ann)[0])["actor"]["label"] == "ann.smith"
    holds.lift(hold.pk, "case closed", "default")
    erasure.erase(_subject(ann), "request 17")
    testing.relay()
    actions = [r.action for r in Record.objects.filter(target_type="audit_log.legalhold")]
    assert sorted(actions) == ["audit_log.held", "audit_log.released"]
    hold.refresh_from_db()
    assert (hold.placed_by, hold.lifted_at is not None) == ("lawyer", True)


def _waits_for(pool: ThreadPoolExecutor, call: Callable[[], Any]) -> Future[Any]:
    """Begin a call that has to wait for what this thread's transaction holds."""

    def run() -> Any:
        try:
            return call()
        finally:
            connections.close_all()

    future = pool.submit(run)
    with suppress(TimeoutError):
        pytest.fail(f"It did not wait: {future.result(1)}")
    return future


def test_erasure_waits_for_a_hold_that_is_being_placed(ann: Any):
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            holds.place(_subject(ann), "case 7", "default")
            erasing = _waits_for(pool, lambda: erasure.erase(_subject(ann), "request 17"))
        with pytest.raises(ErasureRefused, match="case 7"):
            erasing.result(300)
    assert contents.contents(_of(ann)[0])["actor"]["label"] == "ann.smith"


def test_hold_waits_for_an_erasure_that_is_under_way(ann: Any, monkeypatch: pytest.MonkeyPatch):
    """Whoever placed one may rely on it: nothing is erased after that."""
    real, placing = erasure._record, []

    def late(*arguments: Any) -> Any:
        call = lambda: holds.place(_subject(ann), "case 7", "default")  # noqa: E731
        placing.append(_waits_for(pool, call))
        return real(*arguments)

    with ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr(erasure, "_record", late)
        erasure.erase(_subject(ann), "request 17")
        hold = placing[0].result(300)
    erased = DataKey.objects.filter(destroyed_at__isnull=False)
    assert all(key.destroyed_at < hold.placed_at for key in erased)


def test_hold_stops_a_purge_that_is_under_way(folder: Path, monkeypatch: pytest.MonkeyPatch):
    days((60, 20), (1, 5))
    archive.run()
    monkeypatch.setattr(purge, "BATCH", 5)
    placed: list[LegalHold] = []

    def progress(_stream: str, _done: int, _total: int) -> None:
        if not placed:
            placed.append(holds.place("auth.user:1", "case 7", "default"))

    done = purge.run(progress=progress)
    assert done.total == 5
    assert "legal hold" in done.failures[0]
    testing.relay()
    assert verify().ok
    holds.lift(placed[0].pk, "closed", "default")
    assert purge.run().total == 15
    testing.relay()
    assert verify().ok


def test_hold_on_one_name_is_a_hold_on_every_spelling(ann: Any):
    for name in (f"User:{ann.pk}", f" AUTH.User:{ann.pk} "):
        hold = holds.place(persons.named(name), "case", "default")
        with pytest.raises(ErasureRefused):
            erasure.erase(f"auth.user:{ann.pk}", "request")
        holds.lift(hold.pk, "closed", "default")
    with pytest.raises(RetentionRefused, match="255"):
        holds.place("subject:" + "x" * 300, "case", "default")


def test_erasure_is_done_although_its_record_cannot_be_stored_yet(
    ann: Any, monkeypatch: pytest.MonkeyPatch
):
    def down(*_: Any, **__: Any) -> None:
        raise KeysUnavailable("AWS KMS cannot be asked now")

    with monkeypatch.context() as patch:
        patch.setattr("audit_log.delivery.relay.relay", down)
        done = erasure.erase(_subject(ann), "request 17")
    assert "cannot be asked now" in done.why
    assert contents.contents(_of(ann)[0])["actor"]["label"].startswith("erased on")
    testing.relay()
    checkpoints.sign_all()
    assert erasure.certificate(done.record).subject == _subject(ann)


def test_hold_needs_a_reason_and_is_lifted_once():
    with pytest.raises(RetentionRefused, match="needs a reason"):
        holds.place("auth.user:1", " ", "default")
    hold = holds.place("auth.user:1", "case", "default")
    with pytest.raises(RetentionRefused, match="needs a reason"):
        holds.lift(hold.pk, "", "default")
    holds.lift(hold.pk, "closed", "default")
    with pytest.raises(RetentionRefused, match="no standing hold"):
        holds.lift(hold.pk, "closed", "default")


def test_nothing_is_purged_under_a_hold(folder: Path):
    days((60, 20), (1, 5))
    archive.run()
    assert purge.due().total == 20
    hold = holds.place("auth.user:1", "case", "default")
    assert "legal hold" in purge.due().off
    assert purge.run().total == 0
    holds.lift(hold.pk, "closed", "default")
    assert purge.run().total == 20


def test_everything_recorded_about_a_person_goes(ann: Any):
    """Whoever recorded it, and whenever it comes."""
    past = {"occurred_at": datetime.now(UTC) - timedelta(days=3), "target": ann}
    changes = {"email": ["ann@old.example.com", "ann@example.com"]}
    audit_log.record("account.reviewed", target=ann, data={"note": "Ann asked twice"})
    audit_log.viewed(ann)
    audit_log.backfill([{**past, "action": "update", "changes": changes}])
    testing.relay()
    erasure.erase(_subject(ann), "request 17")
    audit_log.backfill([{**past, "action": "update", "changes": changes}])
    testing.relay()
    about = Record.objects.filter(target_type="auth.user", target_id=str(ann.pk))
    assert about.count() == 5
    said = json.dumps([contents.contents(record) for record in about]).lower()
    assert "ann" not in said
    assert verify().ok


@pytest.mark.parametrize("reason", ["", "  "])
def test_erasure_needs_a_reason(ann: Any, reason: str):
    with pytest.raises(ErasureRefused, match="needs a reason"):
        erasure.erase(_subject(ann), reason)


@pytest.mark.parametrize("name", ["", "42", "user:", ":42", "no.such:1", "shop.nothing:1"])
def test_name_that_is_nobodys_is_refused(name: str):
    with pytest.raises(ConfigurationError, match=r"app\.model:id|no model"):
        persons.named(name)


def test_names_have_one_spelling():
    assert persons.named("user:7") == persons.named(" Auth.User:7 ") == "auth.user:7"
    assert persons.named("Subject:Ann:Smith ") == "subject:Ann:Smith "  # as it stands
    assert persons.named("subject:a\0b\udcff") == "subject:a\ufffdb\ufffd"


def test_data_subject_who_is_no_user():
    """`subject="id"` of a model: its rows are the person."""
    person = Person.objects.create(nickname="bob")
    testing.relay()
    record = Record.objects.get(target_type="shop.person")
    assert contents.contents(record)["target_label"] is not None
    found = erasure.plan(f"shop.person:{person.pk}")
    assert (found.keys, found.counts.data_sealed, found.counts.acted) == (1, 1, 0)
    erasure.erase(f"shop.person:{person.pk}", "request")
    assert contents.contents(record)["target_label"].startswith("erased on")
    assert verify().ok


# Archived parts, backups.


def test_archived_part_is_as_unreadable_as_the_database(ann: Any, folder: Path):
    archived = _archive_everything()
    done = erasure.erase(_subject(ann), "request 17")
    assert done.certificate is not None
    lines = [line for part in archived for line in _lines(folder / part.key)]
    assert any(line.sealed_actor for line in lines)
    keys = {row.pk.bytes for row in DataKey.objects.filter(wrapped=None)}
    under = keys & {key_id_of(line.sealed_actor) for line in lines if line.sealed_actor}
    assert under
    for key in under:
        with pytest.raises(Erased):
            data_keys.cipher_for(key, "default")
    # Every part still verifies, and the list of erasures lies beside them.
    assert [path.name for path in (folder / "erasures").iterdir()] == [done.certificate.name]


def _archive_everything() -> list[ArchivePart]:
    from audit_log.retention import clock

    with pytest.MonkeyPatch.context() as patch:
        later = datetime.now(UTC) + timedelta(days=2)
        for module in ("archive", "planning", "steps"):
            patch.setattr(f"audit_log.retention.{module}.database_now", lambda _using: later)
        assert clock.database_now("default") < later
        archive.run()
    parts = list(ArchivePart.objects.filter(stream="default").exclude(key=""))
    assert parts
    return parts


def _lines(path: Path) -> list[Any]:
    with path.open("rb") as file:
        return list(read_part(file))


def test_restored_backup_does_not_bring_them_back(ann: Any, folder: Path):
    backup = list(DataKey.objects.all())
    erasure.erase(_subject(ann), "request 17")
    (did,) = _of(ann)
    _restore(backup)
    assert contents.contents(did)["actor"]["label"] == "ann.smith"
    nightly.run()
    assert contents.contents(did)["actor"]["label"].startswith("erased on")
    again = Record.objects.filter(action=ON_RECORD).last()
    testing.relay()
    assert again is not None
    assert erasure.reapply().persons == []  # once


def _restore(rows: list[DataKey]) -> None:
    DataKey.objects.all().delete()
    DataKey.objects.bulk_create(rows)
    data_keys.forget()


def test_backup_from_before_two_erasures(ann: Any, folder: Path):
    """What happened between the two may still wait somewhere."""
    backup = list(DataKey.objects.all())
    erasure.erase(_subject(ann), "request 17")
    between = datetime.now(UTC)
    erasure.erase(_subject(ann), "request 19")
    _restore(backup)
    assert erasure.reapply().persons == [_subject(ann)] * 2
    with pytest.raises(Erased):
        data_keys.key_for(data_keys.subject_scope(_subject(ann)), "default", 0, between)
    assert erasure.reapply().persons == []


def test_backup_from_before_their_first_key(ann: Any, folder: Path):
    before = datetime.now(UTC)
    erasure.erase(_subject(ann), "request 17")
    _restore([])
    assert erasure.reapply().persons == [_subject(ann)]
    with pytest.raises(Erased):
        data_keys.key_for(data_keys.subject_scope(_subject(ann)), "default", 0, before)


def test_certificate_from_a_file_reapplies_without_an_archive(ann: Any, tmp_path: Path):
    backup = list(DataKey.objects.all())
    path = tmp_path / "certificate.json"
    call_command(
        "audit_log", "erase", _subject(ann), "--yes", "--reason=17", f"--certificate={path}"
    )
    _restore(backup)
    call_command("audit_log", "erase", "--reapply", str(path))
    assert contents.contents(_of(ann)[0])["actor"]["label"].startswith("erased on")


def test_certificates_outlive_a_signing_key_that_is_listed(ann: Any, folder: Path, settings: Any):
    old, new = (base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2))
    base = settings.AUDIT_LOG
    settings.AUDIT_LOG = {**base, "SIGNING_KEY": old}
    done = erasure.erase(_subject(ann), "request 17")
    assert done.certificate is not None
    settings.AUDIT_LOG = {**base, "SIGNING_KEY": [new, old]}
    done.certificate.verify(checkpoints.verifiers())
    erasure.certificate(done.record).verify(checkpoints.verifiers())
    assert erasure.reapply().refused == []
    settings.AUDIT_LOG = {**base, "SIGNING_KEY": new}
    (refused,) = erasure.reapply().refused
    assert "No known signature" in refused


def test_forged_list_erases_nobody(ann: Any, folder: Path, capsys: pytest.CaptureFixture[str]):
    erasure.erase(_subject(ann), "request 17")
    (path,) = (folder / "erasures").iterdir()
    raw = json.loads(path.read_bytes())
    bob = get_user_model().objects.create(username="bob")
    testing.relay()
    key = DataKey.objects.get(scope__endswith=f"auth.user:{bob.pk}")
    raw["facts"].update(subject=_subject(bob), keys=[str(key.pk)])
    path.chmod(0o600)
    path.write_text(json.dumps(raw))
    with pytest.raises(CommandError, match="do not hold"):
        call_command("audit_log", "erase", "--reapply")
    key.refresh_from_db()
    assert key.wrapped is not None


def test_certificate_that_could_not_be_kept_is_kept_by_the_next_night(ann: Any, folder: Path):
    folder.mkdir()
    blocker = folder / "erasures"
    blocker.write_text("in the way")
    done = erasure.erase(_subject(ann), "request 17")
    assert done.certificate is not None
    assert done.why
    blocker.unlink()
    nightly.run()
    assert [path.name for path in blocker.iterdir()] == [done.certificate.name]


def test_tokens_that_came_late_are_dropped_at_night(ann: Any, folder: Path):
    erasure.erase(_subject(ann), "request 17")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE audit_log_record SET ip_token = 'x'")
    erasure.settle()
    assert [record.ip_token for record in _of(ann)] == [None]


# The verb.


def _verb(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    call_command("audit_log", *arguments, "--json")
    return json.loads(capsys.readouterr().out)


def test_verb_says_first_what_would_go(ann: Any, capsys: pytest.CaptureFixture[str]):
    said = _verb(capsys, "erase", f"user:{ann.pk}")
    assert said["erased"] is False
    assert (said["keys"], said["acted"], said["actor_sealed"], said["data_sealed"]) == (1, 1, 1, 1)
    assert DataKey.objects.filter(wrapped=None).count() == 0
    with pytest.raises(CommandError, match="say --yes"):
        call_command("audit_log", "erase", f"user:{ann.pk}", "--execute", "--reason=17", "--json")
    assert DataKey.objects.filter(wrapped=None).count() == 0
    said = _verb(capsys, "erase", f"user:{ann.pk}", "--yes", "--reason", "17")
    assert said["erased"] is True
    Certificate.parse(said["certificate"].encode()).verify(checkpoints.verifiers())
    with pytest.raises(CommandError, match="holds nothing of"):
        call_command("audit_log", "erase", "subject:nobody", "--yes", "--reason=17")


def test_certificate_that_cannot_be_written_is_printed(
    ann: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "nowhere" / "certificate.json"
    words = [f"user:{ann.pk}", "--yes", "--reason=17", f"--certificate={path}"]
    with pytest.raises(CommandError, match=r"No such file.*All is erased"):
        call_command("audit_log", "erase", *words)
    said = capsys.readouterr().out
    printed = said[said.index("{") : said.rindex("}") + 1]
    assert Certificate.parse(printed.encode()).subject == _subject(ann)


def test_tokens_of_who_is_called_by_an_address_go():
    """Of an id that looks like an e-mail address the record holds a mask."""
    others = [Actor(type="user", id=f"a{n}@example.com", label=f"a{n}") for n in range(2)]
    for actor in others:
        with context.changed(actor=actor):
            Category.objects.create(name="c")
    testing.relay()
    assert Record.objects.filter(actor_token__isnull=False).count() == 2
    erasure.erase("user:a0@example.com", "request")
    (left,) = Record.objects.filter(actor_token__isnull=False)
    assert contents.contents(left)["actor"]["label"] == "a1"
    assert verify().ok


def test_verb_tells_people_what_goes_and_what_stays(ann: Any, capsys: pytest.CaptureFixture[str]):
    holds.place(_subject(ann), "case 7", "default")
    call_command("audit_log", "erase", f"user:{ann.pk}")
    said = capsys.readouterr().out
    assert "becomes unreadable" in said
    assert "stays:" in said
    assert "forbids it: case 7" in said
    assert "Nothing was erased" in said


def test_verb_for_holds(capsys: pytest.CaptureFixture[str]):
    placed = _verb(capsys, "hold", "place", "user:7", "--reason", "case 7")
    (hold,) = placed["holds"]
    assert hold["subject"] == "auth.user:7"
    assert _verb(capsys, "hold") == placed
    _verb(capsys, "hold", "lift", str(hold["id"]), "--reason", "closed")
    assert _verb(capsys, "hold") == {"holds": []}
    assert LegalHold.objects.count() == 1
    for wrong in (["place"], ["lift"], ["lift", "x", "--reason=r"], ["place", "user:7"]):
        with pytest.raises(CommandError):
            call_command("audit_log", "hold", *wrong)
