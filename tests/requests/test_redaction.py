"""A secret in a request is masked before anything leaves the process, however it is sent."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from django.test import Client, override_settings

import audit_log
from audit_log.events import Event, encode_event

SECRET = "hunter2-hunter2"
JSON = "application/json"
DOCUMENT = f'mutation {{ login(name: "anna", password: "{SECRET}") {{ id }} }}'

NESTED: Any = {"password": SECRET}
for _ in range(8):
    NESTED = {"a": [NESTED]}

BODIES: dict[str, Any] = {
    "graphql variables": {
        "query": "mutation($i: In!) { a(i: $i) { id } }",
        "variables": {"i": {"user": {"newPassword": SECRET}}},
    },
    "graphql document": {"query": DOCUMENT},
    "graphql batch": [{"query": DOCUMENT}, {"query": "{ a }", "variables": {"pin": SECRET}}],
    "nested": NESTED,
    "json in a string": {"payload": json.dumps({"apiKey": SECRET})},
    "graphql in json in a string": {"operations": json.dumps({"query": DOCUMENT})},
    "camel, snake, kebab": {
        "clientSecret": SECRET,
        "client_secret": SECRET,
        "Client-Secret": SECRET,
    },
    "odd case": {"pAsSwOrD": SECRET},
    "brackets": {"user[password]": SECRET, "user.token": SECRET},
    "lists": {"tokens": [SECRET, {"x": SECRET}]},
}


def shown(events: list[Event]) -> str:
    return b"\n".join(map(encode_event, events)).decode()


def body_of(event: Event) -> Any:
    assert event.request is not None
    return event.request.body


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_json_bodies_show_no_secret(client: Client, events: list[Event], body: Any):
    client.post("/echo/", json.dumps(body), content_type=JSON)
    assert "[MASKED]" in shown(events)
    assert SECRET not in shown(events)


FORMS = {
    "plain": f"name=anna&password={SECRET}",
    "several": f"token=a&token={SECRET}",
    "escaped": f"user%5Bpass%77ord%5D={SECRET}",
    "json": "payload=" + quote(json.dumps({"secret": SECRET})),
    "graphql": "query=" + quote(DOCUMENT),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_forms_and_query_strings_show_no_secret(client: Client, events: list[Event], form: str):
    client.post("/echo/", form, content_type="application/x-www-form-urlencoded")
    client.post(f"/echo/?{form}", "{}", content_type=JSON)
    assert [event.action for event in events] == ["request", "request"]
    assert shown(events).count("MASKED") >= 2
    assert SECRET not in shown(events)


@pytest.mark.parametrize(
    "name", ["Authorization", "Cookie", "X-Api-Key", "X-Forwarded-For", "Referer", "X-Custom"]
)
def test_headers_are_an_allow_list(client: Client, events: list[Event], name: str):
    client.post("/echo/", "{}", content_type=JSON, headers={name: SECRET})
    assert len(events) == 1
    assert SECRET not in shown(events)


TRAPS = "author authors tokenizer passport_required pinned japan hashtag key username"


def test_names_that_only_look_like_secrets_are_kept(client: Client, events: list[Event]):
    body = dict.fromkeys(TRAPS.split(), "kept")
    client.post("/echo/", json.dumps(body), content_type=JSON)
    assert body_of(events[0]) == body


def test_data_is_masked_at_any_depth_and_safe_keys_are_kept(events: list[Event]):
    data = {"a": NESTED, "userToken": SECRET, "note": f'{{"pin": "{SECRET}"}}', "safe_token": "x"}
    with override_settings(AUDIT_LOG={"SAFE_KEYS": ["safeToken"], "MASK_KEYS": ["safe_token"]}):
        audit_log.record("tested", data=data)
    assert SECRET not in shown(events)
    assert events[0].data is not None
    assert events[0].data["safe_token"] == "x"
    assert events[0].data["userToken"] == "[MASKED]"
