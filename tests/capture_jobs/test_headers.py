"""The header that a task carries: encrypted, bound to its message, never forged."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from celery.app.task import Context as TaskRequest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client, override_settings

import audit_log
from audit_log import context
from audit_log.capture import jobs as capture
from audit_log.events import Actor
from audit_log.recording import losses
from tests.capture_jobs.conftest import Jobs

ANNA = Actor(type="user", id="7", label="anna", email="anna@example.com")


def _refused() -> int:
    return losses.counts().get("task_header_refused", 0)


def _received(headers: Any, name: str = "t.write", task_id: str = "id-1") -> context.Context:
    """The context that a worker would run a task with these headers in."""
    request = TaskRequest({"id": task_id, "task": name, **(headers or {})})
    task = SimpleNamespace(name=name, request=request)
    capture._prerun(task_id=task_id, task=task)
    seen = context.current()
    capture._postrun(task_id=task_id)
    assert context.current() == context.Context()
    return seen


def _published(name: str = "t.write", task_id: str = "id-1") -> dict[str, Any]:
    headers: dict[str, Any] = {"id": task_id}
    capture._publish(sender=name, headers=headers, body=([], {}, {}))
    return headers


def test_the_header_restores_actor_request_tenant_reason_and_trace():
    """F10"""
    with context.changed(actor=ANNA, tenant="acme", reason="ticket 42", trace_id="t" * 32):
        headers = _published()
    seen = _received(headers)
    assert (seen.actor, seen.tenant, seen.reason, seen.trace_id) == (
        ANNA,
        "acme",
        "ticket 42",
        "t" * 32,
    )
    assert (seen.source, seen.task, seen.parent_id) == ("task", "id-1", "id-1")


def test_nothing_is_clear_in_the_message(jobs: Jobs):
    """F10, H3"""
    with context.changed(actor=ANNA, tenant="acme-tenant", reason="ticket 42"):
        jobs.write.delay("x")
    message = jobs.message()
    raw = json.dumps([message.headers, message.properties], default=str) + str(message.body)
    assert message.headers[capture.HEADER]
    for text in ("anna", "example.com", "acme-tenant", "ticket 42"):
        assert text not in raw
        assert base64.b64encode(text.encode()).decode().rstrip("=") not in raw
    assert [key for key in message.headers if "audit" in key] == [capture.HEADER]


def test_nothing_is_clear_in_the_folder_of_a_broker(tmp_path: Path):
    """F10, H3"""
    made = Jobs(
        "filesystem://",
        broker_transport_options={
            "data_folder_in": str(tmp_path),
            "data_folder_out": str(tmp_path),
            "control_folder": str(tmp_path / "control"),
        },
    )
    with audit_log.acting(ANNA, reason="ticket 42"):
        made.write.delay("x")
    made.app.close()
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    raw = b"".join(files)
    assert b"t.write" in raw
    assert b"audit_log" in raw
    decoded = b"".join(base64.b64decode(part + b"==") for part in raw.split(b'"') if len(part) > 40)
    for text in (b"anna", b"example.com", b"ticket 42"):
        assert text not in raw
        assert text not in decoded


def test_without_anybody_acting_nothing_is_added(jobs: Jobs):
    jobs.write.delay("x")
    assert capture.HEADER not in jobs.message().headers


def test_a_task_without_a_header_is_the_systems(db: None):
    """F10: published by a process that knows nothing of us."""
    seen = _received({})
    assert seen.actor == Actor(type="system", id="t.write")


@pytest.mark.parametrize(
    "forged",
    [
        "",
        "nonsense",
        "AAAA",
        "\xff",
        7,
        {"actor": {"type": "admin", "id": "1"}},
        ["x"],
        base64.b64encode(b'{"actor":{"type":"admin","id":"1"}}').decode(),
        base64.b64encode(b"\x01\x00" + b"\0" * 60).decode(),
    ],
)
def test_a_forged_header_is_refused_and_counted(forged: Any):
    """F10, forged_task"""
    before = _refused()
    seen = _received({capture.HEADER: forged})
    assert seen.actor == Actor(type="system", id="t.write")
    assert seen.request is None
    assert _refused() == before + 1


def test_an_altered_header_is_refused():
    """F10"""
    with context.changed(actor=ANNA):
        headers = _published()
    raw = bytearray(base64.b64decode(headers[capture.HEADER]))
    raw[-1] ^= 1
    before = _refused()
    seen = _received({capture.HEADER: base64.b64encode(bytes(raw)).decode()})
    assert seen.actor == Actor(type="system", id="t.write")
    assert _refused() == before + 1


@pytest.mark.parametrize(("name", "task_id"), [("t.write", "id-2"), ("t.other", "id-1")])
def test_a_header_copied_into_another_message_is_refused(name: str, task_id: str):
    """F10: who reads the broker does not act as somebody else either."""
    with context.changed(actor=ANNA):
        headers = _published()
    before = _refused()
    seen = _received({capture.HEADER: headers[capture.HEADER]}, name, task_id)
    assert seen.actor == Actor(type="system", id=name)
    assert _refused() == before + 1


def test_a_header_of_unknown_fields_or_types_is_refused():
    from audit_log.privacy.encryption import key_ring

    place = capture._place("t.write", "id-1")
    for plaintext in (b"[]", b'{"actor": "anna"}', b"\xff"):
        sealed = key_ring().encrypt(capture._PURPOSE, plaintext, place)
        before = _refused()
        seen = _received({capture.HEADER: base64.b64encode(sealed).decode()})
        assert seen.actor == Actor(type="system", id="t.write")
        assert _refused() == before + 1


def test_a_header_under_a_key_we_do_not_have_is_refused():
    with context.changed(actor=ANNA):
        headers = _published()
    before = _refused()
    other = {"ENCRYPTION_KEYS": {"new": base64.b64encode(b"n" * 32).decode()}}
    with override_settings(AUDIT_LOG=other):
        seen = _received(headers)
    assert seen.actor == Actor(type="system", id="t.write")
    assert _refused() == before + 1


def test_a_header_under_an_older_key_is_read():
    with context.changed(actor=ANNA):
        headers = _published()
    ring = {"new": base64.b64encode(b"n" * 32).decode(), **settings.AUDIT_LOG["ENCRYPTION_KEYS"]}
    with override_settings(AUDIT_LOG={"ENCRYPTION_KEYS": ring}):
        assert _received(headers).actor == ANNA


def test_a_failure_to_seal_does_not_stop_the_task(jobs: Jobs, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object) -> str:
        raise RuntimeError

    before = losses.counts().get("task_header_failed", 0)
    monkeypatch.setattr(capture, "_sealed", broken)
    with context.changed(actor=ANNA):
        jobs.write.delay("x")
    assert jobs.message() is not None
    assert losses.counts()["task_header_failed"] == before + 1


def test_a_project_that_reuses_its_headers_finds_them_unaltered(jobs: Jobs):
    mine = {"x-mine": "1"}
    with context.changed(actor=ANNA):
        jobs.write.apply_async(("x",), headers=mine)
    assert mine == {"x-mine": "1"}
    assert jobs.message().headers["x-mine"] == "1"


def test_a_stale_header_that_a_retry_brings_along_is_replaced_or_removed():
    with context.changed(actor=ANNA):
        headers = _published()
    capture._publish(sender="t.write", headers=headers, body=([], {}, {}))
    assert capture.HEADER not in headers


def test_protocol_1_carries_it_as_well(jobs: Jobs):
    """F10"""
    jobs.app.conf.task_protocol = 1
    with context.changed(actor=ANNA):
        jobs.write.delay("x")
    message = jobs.message()
    body = json.loads(base64.b64decode(message.body) if message.body[:1] != b"{" else message.body)
    seen = _received({capture.HEADER: message.headers[capture.HEADER]}, "t.write", body["id"])
    assert seen.actor == ANNA


def test_protocol_1_without_headers_does_not_crash(jobs: Jobs):
    """F10"""
    jobs.app.conf.task_protocol = 1
    jobs.write.delay("x")
    assert not jobs.message().headers.get(capture.HEADER)
    capture._publish(sender="t.write", headers=None, body={"id": "1"})
    capture._publish()
    capture._prerun()
    capture._postrun()
    assert context.current() == context.Context()


def test_our_own_nudge_carries_nothing():
    with context.changed(actor=ANNA):
        assert capture.HEADER not in _published("audit_log.relay")


def test_a_request_sends_its_id_and_its_user(client: Client, anna: User):
    """F10, F12"""
    from django.http import HttpRequest, HttpResponse
    from django.test import RequestFactory

    from audit_log.middleware import AuditMiddleware

    found: list[dict[str, Any]] = []

    def view(request: HttpRequest) -> HttpResponse:
        request.user = anna
        found.append(_published())
        return HttpResponse()

    AuditMiddleware(view)(RequestFactory().get("/", HTTP_X_REQUEST_ID="r-1"))
    seen = _received(found[0])
    assert seen.actor is not None
    assert seen.request is not None
    assert (seen.actor.label, seen.request.id) == ("anna", "r-1")
    assert msgspec.to_builtins(seen.request) == {"id": "r-1"}
