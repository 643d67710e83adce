"""Ways through which secrets reach the log in any project: requests, and `record()`.

Each sends every kind of secret that the log promises to know, and some that it only encrypts.
"""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import quote, urlencode

from django.core.files.uploadedfile import SimpleUploadedFile
from django.db.models import Model
from django.test import Client

from audit_log.recording.explicit import acting, record
from audit_log.testing.leaks.secrets import BY_FORM, NAMES, Promise
from audit_log.testing.leaks.watching import Watch

_JSON: Final = "application/json"
_FORM: Final = "application/x-www-form-urlencoded"
_IN_A_LINE: Final = tuple(kind for kind in BY_FORM if kind != "private_key")
_ONE_WORD: Final = tuple(
    kind
    for kind in _IN_A_LINE
    if kind not in {"bearer", "basic", "aws_secret", "url", "card_in_groups"}
)
_LONG: Final = "long " * 20_000


def send_requests(watch: Watch, client: Client, path: str) -> None:
    """Requests to `path` and below it, with secrets wherever a request can hold one.

    They need not succeed: the log keeps what was refused, too. Let the client not raise what views
    raise (`raise_request_exception=False`).
    """
    _bodies(watch, client, path)
    _odd_bodies(watch, client, path)
    _uploads(watch, client, path)
    _headers(watch, client, path)
    _addresses(watch, client, path)


def _named(watch: Watch, through: str) -> dict[str, str]:
    return {name: watch.secret(kind, through) for kind, name in NAMES.items()}


def _texts(watch: Watch, through: str, kinds: tuple[str, ...] = BY_FORM) -> dict[str, str]:
    """Notes that are short, one secret each: a private key takes all of its text with it."""
    return {f"n{n}": f"see {watch.secret(kind, through)} there" for n, kind in enumerate(kinds)}


def _bodies(watch: Watch, client: Client, path: str) -> None:
    nested = {"items": [{"user": _named(watch, "a nested JSON body")}]}
    for body in (
        _named(watch, "a JSON body"),
        nested,
        _texts(watch, "the text of a JSON body"),
        [{"embedded": json.dumps(_named(watch, "JSON in a JSON body"))}],
        {"deep": json.dumps(json.dumps(_named(watch, "JSON in JSON in a JSON body")))},
        {"query": "mutation Log($p: String)", "variables": _named(watch, "GraphQL variables")},
    ):
        client.post(path, json.dumps(body), content_type=_JSON)
    inline = watch.secret("token", "a literal of a GraphQL query", promise=Promise.SEALED)
    query = {"query": f'mutation {{ set(thing: "{inline}") {{ ok }} }}'}
    client.post(path, json.dumps(query), content_type=_JSON)
    for form in (_named(watch, "a form"), _texts(watch, "the text of a form")):
        client.post(path, urlencode(form), content_type=_FORM)
    form = {f"user[{name}]": value for name, value in _named(watch, "a form in brackets").items()}
    client.put(path, urlencode(form), content_type=_FORM)
    client.patch(path, json.dumps(_named(watch, "JSON said to be a form")), content_type=_FORM)


def _odd_bodies(watch: Watch, client: Client, path: str) -> None:
    """Broken, cut, too long, too deep, of another type."""
    whole = json.dumps(_named(watch, "a torn JSON body"))
    client.post(path, whole[:-2], content_type=_JSON)
    whole = json.dumps(_named(watch, "JSON in a wrong encoding"))
    client.post(path, whole.encode() + b"\xff\xfe\xed\xa0\x80", content_type=_JSON)
    client.post(path, whole, content_type=f"{_JSON}; charset=utf-16")
    signs = {f"\x00\ud800{k}": v for k, v in _named(watch, "names with broken signs").items()}
    client.post(path, json.dumps(signs), content_type=_JSON)
    long = _named(watch, "a body that is too long")
    client.post(path, json.dumps({"fill": _LONG, **long}), content_type=_JSON)
    deep: Any = _named(watch, "a body that is too deep")
    for _ in range(40):
        deep = [{"in": deep}]
    client.post(path, json.dumps(deep), content_type=_JSON)
    many = {f"k{n}": n for n in range(600)} | _named(watch, "a body of many members")
    client.post(path, json.dumps(many), content_type=_JSON)
    plain = "\n".join(f"{k}={v}" for k, v in _named(watch, "a body of plain text").items())
    client.post(path, plain, content_type="text/plain")


def _uploads(watch: Watch, client: Client, path: str) -> None:
    content = "\n".join(_texts(watch, "the content of a file").values())
    files = {
        f"f{n}": SimpleUploadedFile(f"{watch.secret(kind, 'the name of a file')}.txt", b"x")
        for n, kind in enumerate(_ONE_WORD)
    }
    files["content"] = SimpleUploadedFile("notes.txt", content.encode())
    client.post(path, {**_named(watch, "a multipart form"), **files})


def _headers(watch: Watch, client: Client, path: str) -> None:
    for kind, name in NAMES.items():
        if kind != "odd_password":
            header = f"X-{name.replace('_', '-').removeprefix('X-')}"
            client.post(path, headers={header: watch.secret(kind, "a header")})
    for name in ("Authorization", "Proxy-Authorization", "User-Agent", "Referer", "X-Request-ID"):
        kinds = _ONE_WORD if name == "X-Request-ID" else _IN_A_LINE
        for kind in kinds:
            client.post(path, headers={name: watch.secret(kind, f"the header {name}")})
    forwarded = watch.secret("token", "the header X-Forwarded-For")
    trace = f"00-{watch.secret('token', 'the header traceparent')}-00f067aa0ba902b7-01"
    cookies = "; ".join(
        f"{name}={watch.secret(kind, 'a cookie')}"
        for name, kind in (("sessionid", "session_id"), ("csrftoken", "csrf"), ("x", "token"))
    )
    told = {"X-Forwarded-For": forwarded, "traceparent": trace, "Cookie": cookies}
    Client(raise_request_exception=False).post(path, headers=told)


def _addresses(watch: Watch, client: Client, path: str) -> None:
    """Query strings, and segments of paths."""
    for query in (
        urlencode(_named(watch, "a query")),
        urlencode(_texts(watch, "the text of a query", _IN_A_LINE)),
        urlencode({"filter": json.dumps(_named(watch, "JSON in a query"))}),
    ):
        client.post(f"{path}?{query}")
    for kind in _IN_A_LINE:
        segment = quote(watch.secret(kind, "a segment of a path"), safe="")
        client.post(f"{path.rstrip('/')}/{segment}/")


def send_records(watch: Watch, target: Model | None = None) -> None:
    """`record()` with secrets in its data and its reason, and `acting()` with some in its own."""
    data = {
        **_named(watch, "data"),
        "deep": {"list": [_named(watch, "nested data")]},
        "embedded": json.dumps(_named(watch, "JSON in data")),
        **_texts(watch, "the text of data"),
        "number": int(watch.secret("card", "a number in data")),
        "personal": {kind: watch.secret(kind, "data") for kind in ("iban", "email", "phone")},
    }
    record("leaks.sent", target=target, data=data)
    for kind in BY_FORM:
        record("leaks.sent", target=target, reason=f"for {watch.secret(kind, 'a reason')}, see")
    for kind in _ONE_WORD:
        with acting(f"robot {watch.secret(kind, 'the name of who acts')}"):
            record("leaks.sent")
        with acting("robot", reason=watch.secret(kind, "the reason of who acts")):
            record("leaks.sent")
