"""The view gets its body untouched; what is kept of it holds no secret."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory, override_settings
from django.test.client import FakePayload

from audit_log.events import Event, encode_event
from audit_log.middleware import AuditMiddleware
from audit_log.testing import relay

Only = Callable[..., list[Event]]
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"


def _body(only: Only) -> Any:
    event = only("request")[-1]
    assert event.request is not None
    return event.request.body


# --- upload_stream ---


def _multipart() -> dict[str, Any]:
    return {"data": {"a": "b", "file": SimpleUploadedFile("big.bin", b"\x00\xff" * 2_500_000)}}


CASES: list[tuple[str, str, Callable[[], dict[str, Any]]]] = [
    ("multipart of 5 MB", "/upload/", _multipart),
    ("multipart to a view that reads the stream", "/read-stream/", _multipart),
    (
        "JSON",
        "/echo/",
        lambda: {"data": json.dumps({"a": [1, "b"]}), "content_type": JSON},
    ),
    (
        "JSON to a view that reads the stream",
        "/read-stream/",
        lambda: {"data": json.dumps({"a": "b" * 5000}), "content_type": JSON},
    ),
    ("form", "/echo/", lambda: {"data": "a=1&a=2&b=%ff", "content_type": FORM}),
    (
        "form to a view that reads the stream",
        "/read-stream/",
        lambda: {"data": "a=1&a=2", "content_type": FORM},
    ),
    ("form of 5 MB", "/echo/", lambda: {"data": "a=" + "x" * 5_000_000, "content_type": FORM}),
    (
        "octets of 5 MB",
        "/read-stream/",
        lambda: {"data": b"\xff" * 5_000_000, "content_type": "application/octet-stream"},
    ),
    (
        "DRF JSON",
        "/api/",
        lambda: {
            "data": json.dumps({"a": {"b": [1, None]}}),
            "content_type": JSON,
            "HTTP_X_API_TOKEN": "token-of-anna",
        },
    ),
    (
        "DRF form",
        "/api/",
        lambda: {"data": "a=1", "content_type": FORM, "HTTP_X_API_TOKEN": "token-of-anna"},
    ),
    (
        "DRF JSON that is none",
        "/api/",
        lambda: {"data": "{", "content_type": JSON, "HTTP_X_API_TOKEN": "token-of-anna"},
    ),
    (
        "form of 1,500 fields",
        "/echo/",
        lambda: {"data": "&".join(["a=1"] * 1500), "content_type": FORM},
    ),
    (
        "form to a log-in",
        "/log-in/",
        lambda: {"data": "username=a&password=b", "content_type": FORM},
    ),
]


@pytest.mark.parametrize(("path", "make"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_status_and_body_are_the_same_without_us(
    anna: Any, path: str, make: Callable[[], dict[str, Any]]
):
    """upload_stream, G5"""

    def serve() -> tuple[int, bytes]:
        response = Client(raise_request_exception=False).post(path, **make())
        return response.status_code, response.content

    with_us = serve()
    with override_settings(MIDDLEWARE=settings.MIDDLEWARE[1:]):
        assert serve() == with_us


def _chunked(body: bytes, **meta: Any) -> dict[str, Any]:
    return {
        "wsgi.input": io.BytesIO(body),
        "CONTENT_TYPE": JSON,
        "HTTP_TRANSFER_ENCODING": "chunked",
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/read-stream/",
        **meta,
    }


@pytest.mark.parametrize("length", [None, "", "10"])
def test_a_chunked_body_is_left_to_the_view(events: list[Event], length: str | None):
    """upload_stream"""
    meta = {} if length is None else {"CONTENT_LENGTH": length}
    request = RequestFactory().generic("POST", "/read-stream/")
    request.META.update(_chunked(b'{"a": 1}', **meta))
    request.META["HTTP_TRANSFER_ENCODING"] = "chunked"
    stream = request._stream = io.BytesIO(b'{"a": 1}')
    AuditMiddleware(lambda r: HttpResponse())(request)
    assert stream.tell() == 0
    assert not hasattr(request, "_body")


@pytest.mark.parametrize(
    "length", ["", "abc", "-5", "1e3", " 12", "1" * 30, "\xb2", "\u0661", "0", "99999999"]
)
def test_a_malformed_length_changes_nothing(only: Only, db: None, length: str):
    """A body of no, or no sensible, declared length is not read; the request is recorded."""
    request = RequestFactory().post("/echo/", '{"a": 1}', content_type=JSON)
    request.META["CONTENT_LENGTH"] = length
    response = AuditMiddleware(lambda r: HttpResponse("ok"))(request)
    assert response.content == b"ok"
    assert _body(only) is None
    assert not hasattr(request, "_body")


def test_a_limit_below_ours_is_the_projects(client: Client, only: Only):
    """The view meets RequestDataTooBig itself, and answers 400."""
    with override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=10):
        response = client.post("/echo/", json.dumps({"a": "x" * 100}), content_type=JSON)
    assert response.status_code == 400
    assert _body(only) is None


def test_a_view_may_still_stream_what_is_beyond_that_limit(client: Client):
    with override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=10):
        response = client.post("/read-stream/", json.dumps({"a": "x" * 100}), content_type=JSON)
    assert response.status_code == 200


def test_a_body_longer_than_it_said_is_still_the_views_from_its_beginning(db: None):
    """ASGI has the whole body in a file: Django looks at its size, and leaves it at its end."""
    request = RequestFactory().post("/read-stream/", "{}", content_type=JSON)
    request._stream = io.BytesIO(b"x" * 100)
    read: list[bytes] = []

    def view(request: HttpRequest) -> HttpResponse:
        read.append(request.read())
        return HttpResponse()

    with override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=10):
        AuditMiddleware(view)(request)
    assert read == [b"x" * 100]


class _Gone(FakePayload):
    """A client that went away in the middle of its body."""

    def read(self, *_: object) -> bytes:
        raise ConnectionResetError("gone")


@pytest.mark.parametrize("with_us", [True, False])
def test_a_client_that_went_away_is_met_by_the_view_as_ever(db: None, with_us: bool):
    """Not as an empty form, which would mean something else."""
    from django.http.request import UnreadablePostError

    met: list[str] = []

    def view(request: HttpRequest) -> HttpResponse:
        for read in (lambda: request.POST, lambda: request.body):
            try:
                met.append(repr(read()))
            except Exception as error:  # noqa: BLE001
                met.append(type(error).__name__)
        return HttpResponse()

    request = RequestFactory().post("/echo/", "a=1", content_type=FORM)
    request.environ["wsgi.input"] = _Gone()
    request._stream = _Gone()  # type: ignore[assignment]
    if with_us:
        AuditMiddleware(view)(request)
    else:
        view(request)
    assert met[0] == UnreadablePostError.__name__


# --- invalid_utf8 ---


def test_bytes_that_are_no_utf8_are_stored_with_a_replacement(client: Client, db: None):
    """invalid_utf8: path, headers, query, body."""
    from audit_log.models import Record
    from audit_log.reading.contents import contents

    response = client.generic(
        "POST",
        "/create/%ff",
        b'{"note": "a\xffb", "x\xff": 1}',
        content_type=JSON,
        QUERY_STRING="q=a\xffb&ok=\xc3\xa4",
        HTTP_USER_AGENT="Agent \xff \xc3\xa4",
    )
    assert response.status_code == 404
    relay()
    record = Record.objects.get(action="request")
    opened = contents(record)
    assert record.path is not None
    assert "create" in record.path
    assert opened["request"]["query"] == "q=a\ufffdb&ok=\xe4"
    assert opened["actor"]["user_agent"] == "Agent \ufffd \xe4"
    assert opened["request"]["body"] == {"note": "a\ufffdb", "x\ufffd": 1}


@pytest.mark.parametrize(
    "charset", ["latin-1", "utf-16", "utf-7", "base64", "rot13", "idna", "nonsense", "punycode"]
)
def test_no_charset_loses_the_event(client: Client, only: Only, charset: str):
    """invalid_utf8"""
    client.raise_request_exception = False
    client.generic("POST", "/plain/", b"a=\xffb&c=%ff", f"{FORM}; charset={charset}")
    [event] = only("request")
    encode_event(event)
    assert _body(only) is not None


def test_a_form_in_another_charset_hides_no_password(client: Client, only: Only):
    raw = "password=hunter2&a=\xe4".encode("utf-16")
    client.generic("POST", "/plain/", raw, f"{FORM}; charset=utf-16")
    assert "hunter2" not in json.dumps(_body(only))


@pytest.mark.parametrize(
    "raw", [b"{", b"", b"[" * 9000, b"nul", b'{"a": NaN}', b'{"a": "\\ud800"}', b"\xff\xfe"]
)
def test_json_that_is_none_is_not_kept(client: Client, only: Only, raw: bytes):
    client.post("/plain/", raw, content_type=JSON)
    body = _body(only)
    if raw:
        assert body == f"<{len(raw)} bytes that are not JSON>"
        assert any(mark.rule == "unparsed" for mark in only("request")[0].redactions)
    else:
        assert body is None


# --- redaction ---


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ({"password": "hunter2", "a": 1}, {"password": "[MASKED]", "a": 1}),
        ({"PASSWORD": "hunter2"}, {"PASSWORD": "[MASKED]"}),
        ({"a": [{"apiKey": "hunter2"}, "b"]}, {"a": [{"apiKey": "[MASKED]"}, "b"]}),
        ({"a": {"b": {"c": {"Pin": 1}}}}, {"a": {"b": {"c": {"Pin": "[MASKED]"}}}}),
        ({"token": None}, {"token": None}),
        ({"token": ["hunter2", {"x": "hunter2"}]}, {"token": "[MASKED]"}),
        ({"card_number": "4111 1111 1111 1111"}, {"card_number": "**** **** **** 1111"}),
        ({"cvv": 123}, {"cvv": "[MASKED]"}),
        ({"email": "a@example.com"}, {"email": "[MASKED]"}),
        ({"meta": '{"secret": "hunter2"}'}, {"meta": '{"secret": "[MASKED]"}'}),
        ([{"passwd": "hunter2"}], [{"passwd": "[MASKED]"}]),
    ],
)
def test_a_json_body_is_masked_at_any_depth(client: Client, only: Only, sent: Any, kept: Any):
    """H1"""
    client.post("/plain/", json.dumps(sent), content_type=JSON)
    assert _body(only) == kept


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("password=hunter2&a=1", {"password": "[MASKED]", "a": "1"}),
        ("a=1&a=2", {"a": ["1", "2"]}),
        ("user%5Bpassword%5D=hunter2", {"user[password]": "[MASKED]"}),
        ("csrfmiddlewaretoken=hunter2&b=", {"csrfmiddlewaretoken": "[MASKED]", "b": ""}),
        ('{"password": "hunter2"}', {"password": "[MASKED]"}),  # curl -d without a header
        ('{"password": "hunter2"', "<22 bytes that are not JSON>"),
    ],
)
def test_a_form_body_is_masked(client: Client, only: Only, sent: str, kept: Any):
    """H1"""
    client.post("/plain/", sent, content_type=FORM)
    assert _body(only) == kept


@pytest.mark.parametrize(
    "path",
    [
        "/log-in/",
        "/admin/login/",
        "/reset/abc/",
        "/enter/",  # named account_login
        "/api/token/",
        "/password/change/",
        "/o/oauth/x/",
    ],
)
def test_the_body_of_a_log_in_password_or_token_path_is_never_kept(
    client: Client, only: Only, path: str
):
    client.post(path, json.dumps({"harmless": "s3cret"}), content_type=JSON)
    assert _body(only) is None
    assert b"s3cret" not in encode_event(only("request")[-1])


@pytest.mark.parametrize(("size", "is_kept"), [(16 * 1024, True), (16 * 1024 + 1, False)])
def test_bodies_of_more_than_16_kb_are_not_kept(
    client: Client, only: Only, size: int, is_kept: bool
):
    text = json.dumps({"a": "x" * (size - 9)})
    assert len(text) == size
    client.post("/plain/", text, content_type=JSON)
    assert (_body(only) is not None) is is_kept


def test_one_setting_turns_bodies_off(client: Client, only: Only):
    with override_settings(AUDIT_LOG={"REQUEST_BODY": "off"}):
        client.post("/plain/", '{"a": 1}', content_type=JSON)
    assert _body(only) is None


def test_uploads_and_unknown_types_are_not_kept(client: Client, only: Only):
    client.post("/plain/", {"a": "b"})
    assert _body(only) is None
    client.post("/plain/", "<a/>", content_type="text/xml")
    assert _body(only) is None


def _upload(name: str, size: int) -> SimpleUploadedFile:
    return SimpleUploadedFile(name, b"\x00" * size)


@pytest.mark.parametrize("path", ["/upload/", "/api-upload/"])
def test_files_are_their_name_and_size(client: Client, only: Only, anna: Any, path: str):
    """G5: beside the fields, and also where rest_framework reads the form; no content is kept."""
    sent = {
        "note": ["a", "b"],
        "password": "hunter2",
        "photo": [_upload("me.jpg", 3), _upload("../../you.jpg", 5)],
        "private_key": _upload("id_rsa", 7),
    }
    response = client.post(path, sent, headers={"x-api-token": "token-of-anna"})
    assert response.status_code == 200
    assert _body(only) == {
        "note": ["a", "b"],
        "password": "[MASKED]",
        "photo": ["<me.jpg, 3 bytes>", "<you.jpg, 5 bytes>"],
        "private_key": "[MASKED]",
    }
    assert b"hunter2" not in encode_event(only("request")[-1])


def test_an_upload_that_nobody_reads_is_not_read_for_us(client: Client, only: Only):
    """G5"""
    client.post("/read-stream/", {"photo": _upload("me.jpg", 3)})
    client.post("/plain/", {"photo": _upload("me.jpg", 3)})
    assert [e.request.body for e in only("request") if e.request] == [None, None]


def test_an_upload_with_long_fields_keeps_its_files(client: Client, only: Only):
    """G5: fields are bounded as other bodies are."""
    client.post("/upload/", {"note": "x" * 17_000, "photo": _upload("me.jpg", 3)})
    assert _body(only) == {"photo": "<me.jpg, 3 bytes>"}
    assert ("request.body", "limit") in [(m.path, m.rule) for m in only("request")[-1].redactions]


@pytest.mark.parametrize("path", ["/reset/abc/", "/enter/"])
def test_an_upload_to_a_log_in_is_not_kept(client: Client, only: Only, path: str):
    """G5"""
    client.post(path, {"a": "b", "photo": _upload("me.jpg", 3)})
    assert _body(only) is None


def test_one_setting_turns_uploads_off_too(client: Client, only: Only):
    """G5"""
    with override_settings(AUDIT_LOG={"REQUEST_BODY": "off"}):
        client.post("/upload/", {"photo": _upload("me.jpg", 3)})
    assert _body(only) is None


def test_more_fields_than_django_takes_do_not_hide_the_request(client: Client, only: Only):
    client.post("/plain/", "&".join(f"f{n}=1" for n in range(1500)), content_type=FORM)
    assert _body(only) is not None


def test_the_marks_of_a_body_repeat_no_key_of_a_stranger(client: Client, only: Only):
    client.post(
        "/plain/",
        json.dumps({"anna@example.com": "\0", "b@example.com": {"pin": 1}}),
        content_type=JSON,
    )
    [event] = only("request")
    assert event.redactions
    assert "example.com" not in str(event.redactions)
