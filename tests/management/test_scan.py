"""`manage.py audit_log scan`: what today's rules would mask in what yesterday's stored."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command

import audit_log
from audit_log import testing
from audit_log.events import Actor, Target, emitter
from audit_log.ledger import scrubbing
from audit_log.ledger.verification import verify
from audit_log.models import Record
from audit_log.reading.contents import contents
from audit_log.reading.scanning import Scan
from tests.ledger.building import an_event, overwrite, write
from tests.shop.models import Country, Person, Product

pytestmark = pytest.mark.django_db(databases=["default", "other"])

CARD = "4111 1111 1111 1111"
TOKEN = "ghp_abcdefghijklmnopqrstuvwxyzABCDEFGHIJ"
EMAIL = "someone@example.org"


@pytest.fixture
def yesterday(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Stores what was captured so far as if there were no detectors yet."""

    def store() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(scrubbing, "suspects", lambda *_, **__: ())
            testing.relay()

    return store


def scan(*words: str) -> tuple[list[dict[str, Any]], dict[str, Any], str]:
    """What is found, the summary, and how the command ended ("" where it did well)."""
    out, ended = io.StringIO(), ""
    try:
        call_command("audit_log", "scan", "--json", *words, stdout=out, stderr=io.StringIO())
    except CommandError as error:
        ended = f"{error.returncode}: {error}"
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert all(secret not in out.getvalue() + ended for secret in (CARD, TOKEN, EMAIL))
    return lines[:-1], lines[-1], ended


def marks(*words: str) -> set[tuple[str, str]]:
    return {(found["path"], found["rule"]) for found in scan(*words)[0]}


def test_what_was_stored_by_todays_rules_has_nothing_to_mask(db: None):
    person = Person.objects.create(
        nickname=f"{CARD} {EMAIL}",
        full_name="Ada",
        email=EMAIL,
        password="hunter2hunter2",
        card_number=CARD,
        notes=f"see {TOKEN} and {EMAIL}",
        extra={"password": "x", "card_number": CARD, "json": json.dumps({"pin": "1", "pan": CARD})},
    )
    audit_log.record("a.b", data={"token": TOKEN, "n": 4111111111111111, "card_number": CARD})
    audit_log.record("a.b", reason=f"{CARD} of {EMAIL}", target=person)
    testing.relay()
    found, summary, ended = scan("--sealed")
    assert (found, ended) == ([], "")
    assert summary["records"] == Record.objects.count() == 3
    assert (summary["findings"], summary["closed"], summary["unreadable"]) == (0, 0, 0)


def test_requests_and_log_ins_have_nothing_to_mask_either(client: Any):
    body = {"password": "hunter2hunter2", "email": EMAIL, "note": TOKEN, "card_number": CARD}
    client.post(f"/create/?token=abc&email={EMAIL}&q={CARD}", body, content_type="application/json")
    client.post("/create/?token=abc&pan=4111111111111111", {"pin": "1234", "note": CARD})
    client.post(f"/people/{EMAIL}/")
    client.post("/log-in/", {"username": TOKEN, "password": "x"})
    testing.relay()
    assert Record.objects.filter(action="request").count() == 4
    assert marks("--sealed") == set()


def test_forms_that_were_not_known_are_found_where_they_stand(yesterday):
    audit_log.record("a.b", data={"n": 4111111111111111}, target=Target(type="x", id=TOKEN))
    with audit_log.acting(Actor(type="service", id=EMAIL, via=TOKEN), tenant=TOKEN):
        Person.objects.create(nickname=f"{CARD} {EMAIL}")
    yesterday()
    assert marks() == {
        ("data.n", "detector:card"),
        ("target_id", "detector:vendor_token"),
        ("actor_id", "detector:email"),
        ("actor_via", "detector:vendor_token"),
        ("tenant", "detector:vendor_token"),
        ("changes.nickname.1", "detector:card"),
        ("changes.nickname.1", "detector:email"),
    }


def test_sealed_contents_are_looked_at_where_asked(yesterday):
    person = Person.objects.create(nickname="n", notes=TOKEN, extra={"deep": [TOKEN]})
    audit_log.record("a.b", reason=CARD, data={"note": EMAIL, "other": TOKEN}, target=person)
    yesterday()
    assert marks() == set()
    assert marks("--sealed") == {
        ("changes.notes.1", "detector:vendor_token"),
        ("changes.extra.1.deep.0", "detector:vendor_token"),
        ("reason", "detector:card"),
        ("data.other", "detector:vendor_token"),  # the address may be sealed
    }


def test_names_and_policies_that_came_later_are_found(settings: Any):
    product = Product.objects.create(name="x", stock=7, price=3)
    audit_log.record("a.b", data={"badge": 1234, "deep": {"badge": "x"}}, target=product)
    testing.relay()
    assert marks("--sealed") == set()
    settings.AUDIT_LOG = {
        **settings.AUDIT_LOG,
        "MASK_KEYS": ["badge"],
        "MASK_FIELDS": ["shop.product.stock"],
        "SEALED_FIELDS": ["shop.product.price"],
    }
    assert marks() == {
        ("data.badge", "setting:MASK_KEYS"),
        ("changes.stock", "setting:MASK_FIELDS"),
        ("changes.price", "setting:SEALED_FIELDS"),
    }
    assert marks("--sealed") - marks() == {("data.deep.badge", "setting:MASK_KEYS")}
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "SAFE_KEYS": ["badge"]}
    assert ("data.badge", "setting:MASK_KEYS") not in marks("--sealed")


def test_fields_of_models_that_are_gone_are_judged_by_their_names(db: None):
    write(
        [
            an_event(
                target=Target(type="gone.account", id="1"),
                changes={"email": [None, "x"], "password": [None, "y"], "pin": [None, "[MASKED]"]},
            )
        ]
    )
    assert marks() == {("changes.email", "name:contact"), ("changes.password", "name:secret")}


def test_secret_keys_are_found_and_numbers_of_rows_are_not(settings: Any):
    country = Country.objects.create(code=CARD[:20], name="x")
    # No row of that number: a server would count on from there, in every test behind this one.
    audit_log.record("probe.fired", target=Target(type="shop.category", id="4111111111111111"))
    testing.relay()
    assert country.pk == CARD
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "SAFE_KEYS": []}
    assert ("target_id", "detector:card") in marks()
    assert {found["sequence"] for found in scan()[0] if found["path"] == "target_id"} == {0}


def test_finding_names_its_record_and_never_its_value(yesterday):
    Person.objects.create(nickname="harmless")
    Person.objects.create(nickname=CARD)
    yesterday()
    [found], summary, ended = scan()
    row = Record.objects.get(sequence=1)
    assert found == {
        "record": str(row.pk),
        "stream": "default",
        "sequence": 1,
        "path": "changes.nickname.1",
        "rule": "detector:card",
    }
    assert summary == {
        "records": 2,
        "affected": 1,
        "findings": 1,
        "rules": {"detector:card": 1},
        "closed": 0,
        "unreadable": 0,
        "after": {"default": 1},
    }
    assert ended.startswith("1: 1 of 2 records hold what would be masked today, in 1 places.")
    assert "redact <id> --reason" in ended


def test_key_that_is_itself_a_secret_is_not_printed(yesterday):
    Person.objects.create(nickname="x", extra={TOKEN: 1, CARD: {"note": CARD}})
    yesterday()
    found = marks("--sealed")
    assert found
    assert all(TOKEN not in path and CARD not in path for path, _ in found)


def test_words_for_people(yesterday, capsys: pytest.CaptureFixture[str]):
    Person.objects.create(nickname=CARD)
    yesterday()
    row = Record.objects.get()
    with pytest.raises(CommandError):
        call_command("audit_log", "scan")
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"default/0  {row.pk}  changes.nickname.1: detector:card",
        "detector:card: 1",
    ]


def test_looking_is_recorded_and_changes_nothing(yesterday, capsys: pytest.CaptureFixture[str]):
    Person.objects.create(nickname=CARD)
    yesterday()
    before = list(Record.objects.values())
    scan("--sealed")
    assert list(Record.objects.values()) == before
    testing.relay()
    (row,) = Record.objects.filter(stream="audit_log")
    assert (row.action, row.actor_id) == ("audit_log.viewed", "manage.py audit_log")
    said = contents(row)["data"]
    assert said["what"] == "scan"
    assert said["streams"] == {"default": "0"}
    assert (said["records"], said["findings"], said["sealed"]) == (
        1,
        2,
        True,
    )  # it is also called so
    assert verify().ok
    assert marks("--stream", "audit_log", "--sealed") == set()


def test_one_stream_from_a_number_or_a_time(db: None):
    now = datetime.now(UTC)
    for ago in (3, 2, 1):
        moment = now - timedelta(days=ago)
        values = {"target": Target(type="gone.account"), "changes": {"token": [None, "x"]}}
        write([an_event(id=emitter().id_for(moment), occurred_at=moment, **values)])

    def numbers(*words: str) -> list[int]:
        return [found["sequence"] for found in scan(*words)[0]]

    assert len(numbers()) == 3
    assert numbers("--stream", "default", "--from-sequence", "1") == [1, 2]
    since = (now - timedelta(days=2, hours=1)).isoformat()
    assert numbers("--since", since) == [1, 2]
    assert numbers("--since", since, "--stream", "default", "--from-sequence", "2") == [2]
    assert numbers("--since", (now + timedelta(days=1)).isoformat()) == []
    assert numbers("--stream", "default", "--from-sequence", "99") == []


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--from-sequence", "1"], r"--from-sequence is a number of one stream.*Streams: default"),
        (["--stream", "defualt"], r"no stream 'defualt' in 'default'\. Streams: default"),
        (["--since", "monday"], "since:monday is not a date"),
        (["--stream", "default", "--from-sequence", "-1"], "must be 0 at least"),
    ],
)
def test_wrong_options_are_refused(words: list[str], why: str, db: None):
    write([an_event()])
    with pytest.raises(CommandError, match=why):
        call_command("audit_log", "scan", *words)


def test_interrupted_scan_says_where_to_go_on(db: None, monkeypatch: pytest.MonkeyPatch):
    from audit_log.reading import exposed

    write([an_event() for _ in range(5)])
    seen: list[Any] = []

    def in_envelope(row: Any) -> Any:
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.append(row)
        return iter(())

    monkeypatch.setattr(exposed, "in_envelope", in_envelope)
    with pytest.raises(CommandError, match=r"--stream default --from-sequence 3\.") as caught:
        call_command("audit_log", "scan")
    assert caught.value.returncode == 130
    testing.relay()
    assert Record.objects.filter(action="audit_log.viewed").count() == 1


def test_altered_and_closed_records_do_not_stop_it(yesterday):
    Person.objects.create(nickname="a", notes=TOKEN)
    Person.objects.create(nickname=CARD)
    yesterday()
    overwrite("sealed_data", b"\1rubbish", 0)
    overwrite("changes", ["no", "mapping"], 0)
    overwrite("data", 7, 0)
    found, summary, _ = scan("--sealed")
    assert [each["sequence"] for each in found if each["path"].startswith("changes")] == [1]
    assert summary["closed"] == 1


def test_memory_stays_constant(db: None):
    def peak(records: int) -> int:
        for _ in range(records // 500):
            write([an_event(changes={"note": [None, "x" * 500]}) for _ in range(500)])
        scan_ = Scan("default")
        tracemalloc.start()
        try:
            assert sum(1 for _ in scan_.run("default")) == 0
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    small = peak(1_500)
    assert peak(3_000) < small * 1.5
