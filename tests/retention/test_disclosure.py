"""A person gets everything the log holds of them, and nothing of anybody else."""

from __future__ import annotations

import base64
import json
import resource
import signal
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command
from django.db import connection

import audit_log
from audit_log import testing
from audit_log.events import Actor
from audit_log.exceptions import KeysUnavailable
from audit_log.ledger import checkpoints
from audit_log.models import ArchivePart, Record
from audit_log.retention import archive, disclosure, erasure, purge
from audit_log.retention.disclosed import as_html, as_json
from tests.ledger.building import write
from tests.retention.old_records import event_of, noon
from tests.shop.models import Category, Person, Product, Review

pytestmark = pytest.mark.django_db(transaction=True)


def _quiet(_name: str, _done: int, _size: int) -> None:
    pass


def _disclosed(name: str) -> dict[str, Any]:
    found = json.loads("".join(as_json(disclosure.of(name, "default", _quiet))))
    assert found["count"] == len(found["records"])
    return dict(found)


@pytest.fixture
def people() -> tuple[Any, Any]:
    """Ann and Bob, users; each has done something, Ann also to Bob's account."""
    users = get_user_model().objects
    ann = users.create(username="ann.smith", email="ann@example.com")
    bob = users.create(username="bob.jones", email="bob@example.com")
    with audit_log.acting(ann, reason="ticket 1"):
        Category.objects.create(name="made by Ann")
        bob.email = "bob@new.example.com"
        bob.save()
    with audit_log.acting(bob, reason="ticket 2"):
        Category.objects.create(name="made by Bob")
    testing.relay()
    return ann, bob


def test_what_they_did_and_what_was_recorded_of_them(people: tuple[Any, Any]):
    ann, bob = people
    found = _disclosed(f"user:{ann.pk}")
    assert found["subject"] == f"auth.user:{ann.pk}"
    by_role = [(record["action"], record["roles"]) for record in found["records"]]
    assert by_role == [
        ("create", ["subject", "object"]),
        ("create", ["actor", "subject"]),
        ("update", ["actor", "subject"]),
    ]
    account, category, other = found["records"]
    assert account["changes"]["email"] == [None, "ann@example.com"]
    assert category["target"]["label"] == "made by Ann"
    assert category["actor"]["label"] == "ann.smith"
    assert category["actor"]["reason"] == "ticket 1"
    # What she did to Bob's account is hers to know, his address is not.
    assert other["changed_fields"] == ["email"]
    assert other["closed"] == ["sealed_data: the data of another person"]
    text = json.dumps(found)
    assert "bob" not in text.replace(f'"{bob.pk}"', "")


def test_others_who_acted_on_them_are_told_by_kind_only(people: tuple[Any, Any]):
    _, bob = people
    found = _disclosed(f"user:{bob.pk}")
    assert [record["roles"] for record in found["records"]] == [
        ["subject", "object"],
        ["subject", "object"],
        ["actor", "subject"],
    ]
    changed = found["records"][1]
    assert changed["actor"] == {"type": "user"}
    assert changed["changes"]["email"] == ["bob@example.com", "bob@new.example.com"]
    text = json.dumps(found)
    assert "ann" not in text.replace("annot", "")
    assert "ticket 1" not in text


def test_data_subject_who_is_no_user():
    person = Person.objects.create(nickname="carl")
    testing.relay()
    (record,) = _disclosed(f"shop.person:{person.pk}")["records"]
    assert record["roles"] == ["subject", "object"]
    assert record["target"]["label"] is not None


def test_disclosure_is_on_record_before_anything_is_given(people: tuple[Any, Any]):
    ann, _ = people
    disclosure.of(f"user:{ann.pk}", "default", _quiet)  # nothing was read yet
    testing.relay()
    record = Record.objects.get(action="audit_log.exported")
    assert record.target_id == f"auth.user:{ann.pk}"


def test_erased_person_gets_what_is_left(people: tuple[Any, Any]):
    ann, _ = people
    erasure.erase(f"user:{ann.pk}", "request")
    found = _disclosed(f"user:{ann.pk}")
    assert found["erased_at"]
    mine = [record for record in found["records"] if record["stream"] == "default"]
    assert len(mine) == 3
    assert all("Erased on" in record["closed"][0] for record in mine)
    assert "ann.smith" not in json.dumps(found)


def test_what_has_left_the_database_comes_from_the_archive(folder: Path):
    ann = get_user_model().objects.create(username="ann.smith")
    testing.relay()
    actor = Actor(type="user", id=str(ann.pk), label="ann.smith", email="ann@example.com")
    moment = noon() - timedelta(days=60)
    write(
        [
            event_of(moment, actor=actor, reason="long ago"),
            event_of(moment, actor=Actor(type="user", id="1000", label="somebody else")),
        ],
        "old",
    )
    checkpoints.sign_all()
    archive.run()
    purge.run()
    assert not Record.objects.filter(stream="old").exists()
    found = _disclosed(f"user:{ann.pk}")
    (old,) = [record for record in found["records"] if record["stream"] == "old"]
    assert (old["actor"]["reason"], old["actor"]["label"]) == ("long ago", "ann.smith")
    assert "somebody else" not in json.dumps(found)
    # Also as unreadable as the rest once she is erased.
    erasure.erase(f"user:{ann.pk}", "request")
    assert "long ago" not in json.dumps(_disclosed(f"user:{ann.pk}"))
    part = ArchivePart.objects.get(stream="old")
    file = folder / part.key
    kept = file.read_bytes()
    file.chmod(0o600)
    for damaged in (kept[:-20], b"", None):
        file.unlink()
        if damaged is not None:
            file.write_bytes(damaged)
        (unread,) = _disclosed(f"user:{ann.pk}")["unread"]
        assert part.key in unread
        file.touch()
    ArchivePart.objects.filter(stream="old").update(store="s3://elsewhere")
    assert _disclosed(f"user:{ann.pk}")["unread"]


def test_page_is_whole_and_escaped(people: tuple[Any, Any]):
    ann, _ = people
    with audit_log.acting(ann, reason="<script>alert(1)</script>"):
        Category.objects.create(name="</article><b>")
    testing.relay()
    page = "".join(as_html(disclosure.of(f"user:{ann.pk}", "default", _quiet)))
    assert "<script>" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert page.count("<article>") == page.count("</article>") == 4
    assert "http" not in page  # nothing is fetched from anywhere


def test_other_people_stay_out_whatever_names_them(people: tuple[Any, Any]):
    """Open fields of their rows, what references and memberships call them."""
    ann, bob = people
    group = Group.objects.create(name="staff")
    with audit_log.acting(ann):
        get_user_model().objects.filter(pk=bob.pk).update(is_active=False, last_name="Jones")
        get_user_model().objects.filter(pk=bob.pk).update(is_staff=True)  # nothing sealed
        Review.objects.create(product=Product.objects.create(name="p"), author=bob, text="good")
        Review.objects.create(product=Product.objects.create(name="p"), author=ann, text="fine")
        group.user_set.add(bob)
        audit_log.record("a.call", target=bob, data={"minutes": 4711})
        write([event_of(datetime.now(UTC), actor=_actor(ann), data=_members(bob))])
    testing.relay()
    records = _disclosed(f"user:{ann.pk}")["records"]
    text = json.dumps(records)
    for other in ("bob", "Jones", "4711", 'is_staff": [false, true]', 'is_active": [true'):
        assert other not in text
    reviews = [r for r in records if r["target"].get("type") == "shop.review"]
    assert [r["labels"].get("author") for r in reviews] == [None, [None, "ann.smith"]]
    assert all(r["changes"]["text"] for r in reviews)
    assert "4711" in json.dumps(_disclosed(f"user:{bob.pk}"))


def _actor(user: Any) -> Actor:
    return Actor(type="user", id=str(user.pk), label=user.username)


def _members(user: Any) -> dict[str, Any]:
    return {"field": "readers", "type": "auth.user", "ids": ["1"], "labels": [user.username]}


def test_what_the_log_did_with_their_record_is_told(people: tuple[Any, Any]):
    ann, bob = people
    for user in (ann, bob):
        disclosure.of(f"user:{user.pk}", "default", _quiet)
    testing.relay()
    said = [r for r in _disclosed(f"user:{ann.pk}")["records"] if r["stream"] == "audit_log"]
    assert [(r["action"], r["roles"]) for r in said] == [("audit_log.exported", ["object"])]
    assert _disclosed(f"subject:auth.user:{ann.pk}")["records"] == []  # somebody else's name


def test_signs_that_steer_are_shown(people: tuple[Any, Any]):
    ann, _ = people
    with audit_log.acting(ann, reason="a\u202eb\x1b[2Jc\x9bd\u2028e"):
        Category.objects.create(name="c")
    testing.relay()
    found = disclosure.of(f"user:{ann.pk}", "default", _quiet)
    for write_ in (as_json, as_html):
        text = "".join(write_(found))
        assert not {"\u202e", "\x1b", "\x9b", "\u2028"} & {*text}
        assert "\\u202eb" in text
    again = json.loads("".join(as_json(found)))
    assert again["records"][-1]["actor"]["reason"] == "a\u202eb\x1b[2Jc\x9bd\u2028e"


def test_what_cannot_be_opened_is_said(people: tuple[Any, Any], settings: Any, tmp_path: Path):
    ann, _ = people
    settings.AUDIT_LOG = {"ENCRYPTION_KEYS": {"other": base64.b64encode(b"x" * 32).decode()}}
    found = _disclosed(f"user:{ann.pk}")
    assert ["Put the old key back" in text for text in found["unread"]] == [True]
    path = tmp_path / "ann.json"
    with pytest.raises(CommandError, match="not complete"):
        call_command("audit_log", "export", f"--subject=user:{ann.pk}", f"--output={path}")
    assert json.loads(path.read_text())["unread"]


def test_export_is_whole_or_not_there(
    people: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    ann, _ = people
    path = tmp_path / "ann.json"
    words = ["export", f"--output={path}"]
    with pytest.raises(CommandError, match="names nobody"):
        call_command("audit_log", *words, "--subject=ann")
    assert not path.exists()  # nor in the way of the next
    with monkeypatch.context() as patch:
        patch.setattr("audit_log.privacy.data_keys._by_id", {})

        def down(*_: Any) -> None:
            raise KeysUnavailable("AWS KMS cannot be asked now")

        patch.setattr("audit_log.privacy.encryption.KeyRing.decrypt", down)
        with pytest.raises(CommandError, match="cannot be asked now"):
            call_command("audit_log", *words, f"--subject=user:{ann.pk}")
    assert not path.exists()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        if connection.vendor != "sqlite":  # whose own files may not grow either
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, limit[1]))
            with pytest.raises(CommandError, match="too large"):
                call_command("audit_log", *words, f"--subject=user:{ann.pk}")
            assert not path.exists()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    with pytest.raises(CommandError, match="No such file"):
        call_command("audit_log", "export", f"--subject=user:{ann.pk}", f"--output={tmp_path}/no/x")
    call_command("audit_log", *words, f"--subject=user:{ann.pk}")
    assert json.loads(path.read_text())["count"] == 3


def test_verb(people: tuple[Any, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    ann, _ = people
    path = tmp_path / "ann.html"
    words = ["export", f"--subject=user:{ann.pk}", "--format=html", f"--output={path}"]
    call_command("audit_log", *words)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().startswith("<!doctype html>")
    with pytest.raises(CommandError, match="does not exist"):
        call_command("audit_log", *words)
    capsys.readouterr()
    call_command("audit_log", "export", f"--subject=user:{ann.pk}")
    assert json.loads(capsys.readouterr().out)["count"] == 3
    with pytest.raises(CommandError, match="names nobody"):
        call_command("audit_log", "export", "--subject=ann")
    with pytest.raises(CommandError, match="--output"):
        call_command("audit_log", "export", "--subject=user:1", "--format=html", "--json")
