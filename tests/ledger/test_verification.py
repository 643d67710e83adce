"""What verification looks at, and how it goes about it."""

from __future__ import annotations

import threading

import pytest
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext

from audit_log import signals, testing
from audit_log.ledger import checkpoints, findings, rows
from audit_log.ledger.verification import streams, verify
from audit_log.models import Record, Stream
from audit_log.reading.contents import contents
from tests.ledger.building import a_full_event, a_long_stream, an_event, overwrite, sql, write


@pytest.mark.django_db
def test_empty_ledger_verifies():
    result = verify()
    assert result.ok
    assert (result.streams, result.roots, result.checkpoints) == ({}, {}, 0)


@pytest.mark.django_db
def test_stream_without_records_has_the_empty_root():
    Stream.objects.create(name="default")
    result = verify()
    assert result.ok
    assert result.roots["default"].startswith("e3b0c44298fc1c14")


@pytest.mark.django_db
def test_every_stream_is_verified_and_one_can_be_asked_for():
    write([a_full_event()], "default")
    write([a_full_event(), a_full_event()], "security")
    checkpoints.sign_all()
    assert streams() == ["default", "security"]
    assert verify().streams == {"default": 1, "security": 2}
    assert verify().signed == {"default": 1, "security": 2}
    overwrite("action", "login", 0, "security")
    assert verify(stream="default").ok
    assert [f.stream for f in verify().findings] == ["security"]


@pytest.mark.django_db
def test_stream_nobody_knows_is_empty():
    assert verify(stream="nowhere").ok


@pytest.mark.django_db
def test_records_after_the_last_checkpoint_are_verified_but_unsigned():
    write([a_full_event()])
    checkpoints.sign_all()
    write([a_full_event()])
    result = verify()
    assert result.ok
    assert (result.streams["default"], result.signed["default"]) == (2, 1)
    overwrite("action", "login", 1)
    assert [f.sequence for f in verify().findings] == [1]


@pytest.mark.django_db
def test_progress_is_told_until_the_end():
    a_long_stream(600)
    seen: list[tuple[str, int, int]] = []
    verify(progress=lambda *step: seen.append(step))
    assert seen == [("default", done, 600) for done in (256, 512, 600)]


@pytest.mark.django_db
@pytest.mark.parametrize("chunk", [1, 2, 7, 600, 601])
def test_rows_are_read_by_chunks_of_any_size(monkeypatch, chunk):
    a_long_stream(600 if chunk > 7 else 20)
    monkeypatch.setattr(rows, "_CHUNK", chunk)
    overwrite("action", "login", 7)
    overwrite("action", "login", 8)
    assert [(f.kind, f.sequence) for f in verify().findings] == [("altered", 7), ("altered", 8)]


@pytest.mark.django_db
def test_no_query_reads_more_than_a_chunk(monkeypatch):
    """Constant memory: the number of queries grows with the ledger, what each returns does not."""
    a_long_stream(600)
    monkeypatch.setattr(rows, "_CHUNK", 100)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert verify().ok
    reads = [q["sql"] for q in queries if "sealed_actor" in q["sql"]]
    assert all("LIMIT 100" in read for read in reads)
    assert len(reads) == 7  # one row is read twice at each seam
    assert not any("OFFSET" in read for read in reads)


@pytest.mark.django_db
def test_too_many_findings_end_a_stream_but_not_the_next(monkeypatch):
    monkeypatch.setattr(findings, "MAX_FINDINGS", 10)
    a_long_stream(50, "default")
    write([an_event()], "security")
    sql("UPDATE audit_log_record SET action = 'login'")
    found = verify().findings
    assert [f.sequence for f in found if f.stream == "default"] == [*range(10), None]
    assert found[10].kind == "stopped"
    assert [f.sequence for f in found if f.stream == "security"] == [0]


@pytest.mark.django_db
def test_what_is_appended_and_signed_meanwhile_is_no_finding():
    a_long_stream(600)
    appended: list[int] = []

    def append(_name: str, done: int, _size: int) -> None:
        a_long_stream(150)
        checkpoints.sign_all()
        appended.append(done)

    result = verify(progress=append)
    assert len(appended) == 3
    assert result.ok, result.findings
    assert result.streams == {"default": 600}
    assert Record.objects.count() == 1050
    assert verify().ok


@pytest.mark.django_db(transaction=True)
def test_verification_beside_a_busy_relay_finds_nothing():
    done = threading.Event()
    failures: list[BaseException] = []

    def append() -> None:
        try:
            for _ in range(60):
                write([an_event(changes={"n": [None, n]}) for n in range(20)])
                checkpoints.sign_all()
        except BaseException as error:
            failures.append(error)
            raise
        finally:
            connections.close_all()
            done.set()

    relay = threading.Thread(target=append)
    relay.start()
    sizes = []
    while not done.is_set():
        result = verify()
        assert result.ok, result.findings
        sizes.append(result.streams.get("default", 0))
    relay.join()
    assert failures == []
    assert verify().streams == {"default": 1200}
    assert sizes == sorted(sizes)


@pytest.mark.django_db
def test_tampering_is_told_to_receivers_and_recorded():
    heard: list[dict[str, object]] = []

    def receiver(**kwargs: object) -> None:
        heard.append(kwargs)

    def broken(**_: object) -> None:
        raise RuntimeError("a receiver's own fault")

    write([a_full_event()])
    overwrite("action", "login", 0)
    signals.tampering_found.connect(broken)
    signals.tampering_found.connect(receiver)
    try:
        result = verify()
        findings.announce(result)
    finally:
        signals.tampering_found.disconnect(receiver)
        signals.tampering_found.disconnect(broken)
    assert [call["findings"] for call in heard] == [result.findings]
    testing.relay()
    row = Record.objects.get(action="audit_log.verify_failed")
    assert (row.stream, row.outcome) == ("audit_log", "failure")
    assert contents(row)["data"]["first"] == [
        "default 0: its columns do not give the leaf hash in the tree"
    ]


@pytest.mark.django_db
def test_verification_without_findings_is_recorded_and_nobody_told():
    heard: list[object] = []

    def receiver(**kwargs: object) -> None:
        heard.append(kwargs)

    write([a_full_event()])
    signals.tampering_found.connect(receiver)
    try:
        findings.announce(verify())
    finally:
        signals.tampering_found.disconnect(receiver)
    assert heard == []
    testing.relay()
    row = Record.objects.get(action="audit_log.verified")
    assert contents(row)["data"]["streams"] == {"default": "1"}
