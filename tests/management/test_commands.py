"""`manage.py audit_log <verb>`: what it prints, and how it ends."""

from __future__ import annotations

import argparse
import io
import json
import uuid
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

import audit_log
from audit_log import signals, testing
from audit_log.events import Actor, Target
from audit_log.ledger import checkpoints, notes
from audit_log.management import verbs
from audit_log.management.output import Output, printable
from audit_log.models import Outbox, Record
from audit_log.reading.contents import contents
from tests.ledger.building import a_full_event, a_long_stream, an_event, overwrite, sql, write
from tests.shop.models import Category

pytestmark = pytest.mark.django_db(databases=["default", "other"])


def run(*words: str, **options) -> tuple[str, str]:
    """What a command wrote to stdout and to stderr."""
    out, err = io.StringIO(), io.StringIO()
    call_command("audit_log", *words, stdout=out, stderr=err, **options)
    return out.getvalue(), err.getvalue()


def run_json(*words: str, **options):
    """The one JSON object that a command printed."""
    out, err = run(*words, "--json", **options)
    assert err == ""
    (line,) = out.splitlines()
    return json.loads(line)


def failing(*words: str, **options) -> tuple[CommandError, str]:
    """How a command failed, and what it had printed by then."""
    out = io.StringIO()
    with pytest.raises(CommandError) as caught:
        call_command("audit_log", *words, stdout=out, stderr=io.StringIO(), **options)
    return caught.value, out.getvalue()


def failing_json(*words: str) -> tuple[CommandError, dict[str, Any]]:
    error, out = failing(*words, "--json")
    (line,) = out.splitlines()
    return error, json.loads(line)


# The command itself

# The verbs that cannot do without words. There is nobody and nothing called so.
NEEDED = {
    "erase": ["user:1"],
    "export": ["--subject=user:1"],
    "redact": ["00000000-0000-7000-8000-000000000000", "--reason=test", "--yes"],
}
ALONE = [name for name in verbs.NAMES if name not in {"redact", "export"}]


def test_no_verb_prints_the_help():
    """J2."""
    out, err = run()
    assert out.startswith("usage:")
    assert all(name in out for name in verbs.NAMES)
    assert all(verbs.load(name).HELP[:30] in out for name in verbs.NAMES)
    assert err == ""


def test_unknown_verb_is_an_error_that_lists_the_verbs():
    """J2."""
    error, _ = failing("verfiy")
    assert "verfiy" in str(error)
    assert all(name in str(error) for name in verbs.NAMES)


@pytest.mark.parametrize("verb", verbs.NAMES)
def test_unknown_option_or_word_is_an_error(verb):
    """J2."""
    error, out = failing(verb, *NEEDED.get(verb, ()), "--nonsense")
    assert "--nonsense" in str(error)
    options = [word for word in NEEDED.get(verb, ()) if word.startswith("--")]
    error, out = failing(verb, "nonsense", *options)
    assert "nonsense" in str(error)
    assert out == ""


@pytest.mark.parametrize("verb", verbs.NAMES)
def test_unknown_stream_is_an_error_that_lists_them(verb):
    """J2: of a verb that takes one."""
    parser = argparse.ArgumentParser()
    verbs.load(verb).add_arguments(parser)
    if "--stream" not in parser.format_help():
        return
    write([a_full_event()], "security")
    error, _ = failing(verb, "--stream", "nowhere")
    assert "'nowhere'" in str(error)
    assert "security" in str(error)


@pytest.mark.parametrize("verb", verbs.NAMES)
def test_unknown_database_is_an_error_that_lists_them(verb):
    """J2."""
    error, _ = failing(verb, "--database", "nowhere")
    assert "default" in str(error)
    assert "other" in str(error)


@pytest.mark.parametrize("verb", ALONE)
def test_verbosity_zero_is_silent(verb):
    """J2."""
    write([a_full_event()])
    words = [verb, *NEEDED.get(verb, ())]
    assert run(*words, verbosity=0) == ("", "")
    assert run(*words, "-v", "0") == ("", "")
    assert run(*words, "--progress", verbosity=0) == ("", "")


@pytest.mark.parametrize("verb", ALONE)
def test_json_is_one_object_also_at_verbosity_zero(verb):
    write([a_full_event()])
    words = [verb, *NEEDED.get(verb, ())]
    assert isinstance(run_json(*words), dict)
    assert isinstance(run_json(*words, verbosity=0), dict)


@pytest.mark.parametrize("verb", ALONE)
def test_every_verb_prints_something_for_people(verb):
    write([a_full_event()])
    out, err = run(verb, *NEEDED.get(verb, ()))
    assert out.strip()
    assert err == ""


def test_options_of_django_stand_before_or_behind_the_verb():
    write([a_full_event()])
    before, _ = run("-v", "0", "verify")
    behind, _ = run("verify", "-v", "0", "--no-color", "--traceback")
    assert before == behind == ""


# status


def test_status_has_the_numbers_of_health():
    """K9."""
    write([an_event(), an_event()])
    Category.objects.create(name="waits")
    testing.relay()
    checkpoints.sign_all()
    found = run_json("status")
    assert found["outbox_batches"] == 0
    assert found["healthy"] is True
    assert found["troubles"] == []
    (stream,) = found["streams"]
    assert (stream["name"], stream["size"], stream["signed"]) == ("default", 3, 3)
    assert set(found) == {
        *("outbox_batches", "outbox_events", "outbox_oldest_seconds", "outbox_failing"),
        *("parked", "reasons", "spool_files", "streams", "losses", "troubles", "healthy"),
        "unreachable",
        "alerts_failing",
    }
    out, _ = run("status")
    assert "default: 3 records, 3 signed" in out
    assert "All is well." in out


def _park() -> None:
    from datetime import UTC, datetime

    now = datetime.now(UTC)
    Outbox.objects.create(
        created_at=now, event_count=1, payload=b"", parked_at=now, parked_reason="\x1b[2J forged"
    )


def test_status_shows_troubles_and_fails_only_when_asked_to():
    _park()
    assert run_json("status")["healthy"] is False
    out, _ = run("status")
    assert "! 1 batches are parked" in out
    assert "\x1b" not in out
    error, found = failing_json("status", "--check")
    assert error.returncode == 1
    assert "parked" in str(error)
    assert found["parked"] == 1


def test_status_check_of_a_healthy_log_succeeds():
    assert run_json("status", "--check")["healthy"] is True


def test_status_counts_the_outboxes_of_all_databases_or_of_one():
    """K9."""
    from datetime import UTC, datetime

    for alias in ("default", "other", "other"):
        Outbox.objects.using(alias).create(created_at=datetime.now(UTC), event_count=1, payload=b"")
    assert run_json("status")["outbox_batches"] == 3
    assert run_json("status", "--database", "other")["outbox_batches"] == 2


# relay


def _captured(name: str = "a") -> Category:
    from audit_log.recording import pending

    category = Category.objects.create(name=name)
    pending.write_early(connection)
    return category


def test_relay_says_what_it_moved():
    _captured()
    found = run_json("relay")
    assert found == {
        "batches": 1,
        "events": 1,
        "repeated": 0,
        "failed": 0,
        "parked": 0,
        "waiting": 0,
    }
    assert Record.objects.get().action == "create"
    assert "0 batches moved, 0 records stored" in run("relay")[0]


def test_relay_that_could_not_move_everything_fails():
    from datetime import UTC, datetime

    Outbox.objects.create(created_at=datetime.now(UTC), event_count=1, payload=b"nonsense")
    _captured()
    error, found = failing_json("relay")
    assert error.returncode == 1
    assert "1 batches failed" in str(error)
    assert "audit_log status" in str(error)
    assert (found["events"], found["failed"]) == (1, 1)
    assert Record.objects.count() == 1


def test_relay_that_parked_something_fails():
    from audit_log.recording import outbox

    connection_rows = outbox.rows_of([an_event(id=uuid.uuid4())])
    outbox.insert(connection, connection_rows)
    error, found = failing_json("relay")
    assert "1 events were parked" in str(error)
    assert found["parked"] == 1


# checkpoint


def test_checkpoint_signs_and_prints_the_notes():
    a_long_stream(3)
    (signed,) = run_json("checkpoint")["signed"]
    assert (signed["stream"], signed["size"]) == ("default", 3)
    said = notes.open_note(signed["note"], [checkpoints.signing_key().verifier])
    assert said.root.hex() == signed["root"]
    assert run_json("checkpoint") == {"signed": []}
    assert "Nothing to sign" in run("checkpoint")[0]
    assert "default: 3 records" in run("checkpoint", "--force")[0]


def test_checkpoint_of_a_forked_ledger_ends_with_two():
    a_long_stream(3)
    run("checkpoint")
    sql("UPDATE audit_log_stream SET partial = %s", bytes(3 * 32))
    error, out = failing("checkpoint", "--force")
    assert error.returncode == 2
    assert "verify --stream default" in str(error)
    assert out == ""


# verify


def test_verify_says_what_was_proved():
    a_long_stream(300)
    write([an_event()], "security")
    checkpoints.sign_all()
    a_long_stream(5)
    found = run_json("verify")
    assert found["verified"] is True
    assert found["findings"] == []
    assert found["checkpoints"] == 2
    assert (found["streams"]["default"]["size"], found["streams"]["default"]["signed"]) == (
        305,
        300,
    )
    assert len(found["streams"]["security"]["root"]) == 64
    assert set(found) == {"verified", "streams", "checkpoints", "findings", "redacted", "seconds"}
    out, _ = run("verify")
    assert "default: 305 records, the last 5 under no checkpoint yet" in out
    assert "Verified: 306 records and 2 checkpoints" in out


def test_verify_names_the_altered_row_and_ends_with_one():
    write([a_full_event(n) for n in range(3)])
    row = Record.objects.get(sequence=1)
    overwrite("action", "login", 1)
    error, found = failing_json("verify")
    assert error.returncode == 1
    assert "1 findings" in str(error)
    assert found["verified"] is False
    assert found["findings"] == [
        {
            "stream": "default",
            "kind": "altered",
            "message": "its columns do not give the leaf hash in the tree",
            "sequence": 1,
            "record": str(row.pk),
        }
    ]
    _, out = failing("verify")
    assert f"! default 1 (record {row.pk}): altered: " in out
    assert "nothing was altered" not in out


def test_verify_of_an_empty_ledger_succeeds():
    assert run_json("verify")["verified"] is True


def test_verify_of_one_stream_leaves_the_others_alone():
    write([a_full_event()], "default")
    write([a_full_event()], "security")
    overwrite("action", "login", 0, "security")
    assert list(run_json("verify", "--stream", "default")["streams"]) == ["default"]
    failing("verify", "--stream", "security")


def test_verify_of_an_unknown_stream_lists_those_there_are():
    write([a_full_event()], "security")
    error, _ = failing("verify", "--stream", "default")
    assert "Streams: security." in str(error)


def _bookkeeping() -> list[str]:
    testing.relay()
    rows = Record.objects.filter(stream="audit_log").order_by("sequence")
    return list(rows.values_list("action", flat=True))


def test_verify_is_recorded_with_its_outcome_and_who_ran_it():
    write([a_full_event()])
    run("verify")
    overwrite("action", "login", 0)
    failing("verify")
    assert _bookkeeping() == ["audit_log.verified", "audit_log.verify_failed"]
    passed, failed = Record.objects.filter(stream="audit_log").order_by("sequence")
    assert (passed.outcome, failed.outcome) == ("success", "failure")
    assert (failed.source, failed.actor_type, failed.actor_id) == (
        "command",
        "system",
        "manage.py audit_log",
    )
    assert contents(failed)["actor"]["label"]
    assert contents(failed)["data"]["findings"] == 1


def test_verify_can_leave_no_trace():
    heard: list[object] = []

    def receiver(**kwargs: object) -> None:
        heard.append(kwargs)

    write([a_full_event()])
    run("verify", "--no-record")
    overwrite("action", "login", 0)
    signals.tampering_found.connect(receiver)
    try:
        failing("verify", "--no-record")
        assert heard == []
        failing("verify")
    finally:
        signals.tampering_found.disconnect(receiver)
    assert len(heard) == 1
    assert _bookkeeping() == ["audit_log.verify_failed"]


def test_code_that_calls_the_command_is_believed_about_who_acts():
    write([a_full_event()])
    with audit_log.acting("nightly job"):
        run("verify")
    _bookkeeping()
    assert Record.objects.get(stream="audit_log").actor_id == "nightly job"


# search


def test_search_prints_a_line_for_each_record_newest_first():
    write([a_full_event(1), a_full_event(2, action="delete", outcome="denied")])
    out, _ = run("search")
    second, first = out.splitlines()
    assert "default/1  delete [denied]  shop.product#2 (Product 2)" in second
    assert second.endswith("by user alice")
    assert "default/0  update  shop.product#1 (Product 1): name, price, stock" in first


def test_search_takes_filters_and_a_limit():
    write([a_full_event(n) for n in range(5)])
    assert "shop.product#3" in run("search", "target_id:3")[0]
    assert len(run("search", "action:update", "tenant:acme")[0].splitlines()) == 5
    assert len(run("search", "action:update tenant:acme", "--limit", "2")[0].splitlines()) == 2
    assert run("search", "action:login")[0].strip() == "No record matches."


def test_search_prints_json_lines():
    write([a_full_event(1), a_full_event(2)])
    out, err = run("search", "--json")
    second, first = map(json.loads, out.splitlines())
    assert err == ""
    assert (first["sequence"], second["sequence"]) == (0, 1)
    assert first["actor"] == {"type": "user", "id": "7", "label": "alice"}
    assert first["target"] == {"type": "shop.product", "id": "1", "label": "Product 1"}
    assert uuid.UUID(first["id"]).version == 7
    assert first["occurred_at"].endswith("+00:00")
    assert "contents" not in first
    assert set(first) == {
        *("id", "stream", "sequence", "occurred_at", "recorded_at", "action", "outcome"),
        *("source", "service", "tenant", "request_id", "method", "path", "status"),
        *("changed_fields", "actor", "target"),
    }
    assert run("search", "action:login", "--json") == ("", "")


def test_search_says_nothing_sealed_unless_it_is_told_to_open():
    write([a_full_event()])
    out = run("search")[0] + run("search", "--json")[0]
    for sealed in ("old", "repricing", "203.0.113.9", "alice@example.com", "page=2"):
        assert sealed not in out.replace("changed_fields", "")
    assert _bookkeeping() == []


def test_search_opens_what_is_sealed_and_records_each_opening():
    write([a_full_event(1), a_full_event(2)])
    found = [json.loads(line) for line in run("search", "--open", "--json")[0].splitlines()]
    assert [line["contents"]["reason"] for line in found] == ["repricing"] * 2
    assert found[0]["contents"]["changes"]["name"] == ["old", "new"]
    assert _bookkeeping() == ["audit_log.revealed"] * 2
    rows = Record.objects.filter(stream="audit_log").order_by("sequence")
    assert [row.target_id for row in rows] == [line["id"] for line in found]
    assert {row.source for row in rows} == {"command"}
    out, _ = run("search", "target_id:1", "--open")
    assert "name: 'old' -> 'new'" in out
    assert "reason: repricing" in out
    assert "ip: 203.0.113.9" in out


def test_search_says_why_a_part_cannot_be_opened():
    write([a_full_event()])
    overwrite("sealed_actor", b"\x01" + bytes(80), 0)
    out, _ = run("search", "--open")
    assert "! sealed_actor: " in out
    assert "Product 0" in out


def test_search_that_cannot_be_understood_is_an_error():
    """J2."""
    error, _ = failing("search", "colour:red")
    assert "'colour'" in str(error)
    assert "target" in str(error)
    failing("search", "--limit", "0")


def test_search_output_steers_no_terminal():
    evil = "\x1b[2J\r\nadmin\u202e\u2028\x9b"
    write(
        [
            an_event(
                action="login",
                actor=Actor(type="user", id=evil, label=evil),
                target=Target("shop.product", evil, evil),
                reason=evil,
                changes={evil: [evil, evil]},
            )
        ]
    )
    out, _ = run("search", "--open")
    assert not set("\x1b\r\u202e\u2028\x9b") & set(out)
    assert "\\u001b" in out
    assert len(run("search")[0].splitlines()) == 1
    json_out, _ = run("search", "--json", "--open")
    assert json_out.isascii()


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_search_costs_the_same_for_ten_records_as_for_one(django_assert_num_queries):
    """I4. Opened keys are remembered, but not within a test's own transaction."""
    write([a_full_event(n) for n in range(10)])
    with django_assert_num_queries(1):
        run("search", "--limit", "1")
    with django_assert_num_queries(1):
        run("search", "--limit", "10")


def test_search_of_another_database():
    write([a_full_event()], using="other")
    assert run("search")[0].strip() == "No record matches."
    assert "Product 0 " in run("search", "--database", "other")[0].replace(")", " ")
    assert (
        run_json("verify", "--database", "other", "--no-record")["streams"]["default"]["size"] == 1
    )


# Progress


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _progress(stderr: io.StringIO, *words: str) -> str:
    call_command("audit_log", *words, stdout=io.StringIO(), stderr=stderr, no_color=True)
    return stderr.getvalue()


def test_progress_redraws_one_line_on_a_terminal_only():
    a_long_stream(300)
    shown = _progress(_Terminal(), "verify")
    assert "default: 256 of 300 records" in shown
    assert "\n" not in shown
    assert shown.endswith(" \r")
    assert _progress(io.StringIO(), "verify") == ""
    assert "256 of 300" in _progress(io.StringIO(), "verify", "--progress")
    assert "256 of 300" in _progress(io.StringIO(), "verify", "--progress", "--json")


def test_progress_is_shown_at_most_ten_times_a_second():
    from django.core.management.base import OutputWrapper

    stderr = _Terminal()
    options = {"json": False, "verbosity": 1, "progress": False}
    out = Output(OutputWrapper(io.StringIO()), OutputWrapper(stderr), options)
    for n in range(1000):
        out.progress(str(n))
    assert stderr.getvalue().count("\r") < 50
    out.clear()
    before = stderr.getvalue()
    out.clear()
    assert stderr.getvalue() == before


def test_printable_text_is_left_as_it_is():
    assert printable("Zoë, 日本 🎉 50 %") == "Zoë, 日本 🎉 50 %"
    assert printable("a\tb\nc") == "a\\u0009b\\u000ac"
