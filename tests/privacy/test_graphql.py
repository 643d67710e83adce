from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_log.events import Redaction
from audit_log.privacy.redaction import MASK, redact, redact_form, redact_query

SECRET = "hunter2"
SHOWN = f'"{MASK}"'


def left_of(document: str) -> Any:
    left = redact({"query": document}, "body")[0]
    assert isinstance(left, dict)
    return left["query"]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (
            'mutation { login(password: "hunter2") { id } }',
            "mutation { login(password: _) { id } }",
        ),
        ('{ login(password: """a "hunter2" b""") }', "{ login(password: _) }"),
        (r'{ login(password: "a\"hunter2") }', "{ login(password: _) }"),
        ("{ unlock(pin: 7123) }", "{ unlock(pin: _) }"),
        ('{ a(user: {apiKey: "hunter2", name: "ok"}) }', '{ a(user: {apiKey: _, name: "ok"}) }'),
        ('{ a(tokens: ["hunter2", "hunter2"], x: "ok") }', '{ a(tokens: [_, _], x: "ok") }'),
        ('{ a(secret: {k: [{v: "hunter2"}]}, x: 1) }', "{ a(secret: {k: [{v: _}]}, x: 1) }"),
        ('query($token: String! = "hunter2") { a }', "query($token: String! = _) { a }"),
        ('query($tokens: [ID!]! = ["hunter2"]) { a }', "query($tokens: [ID!]! = [_]) { a }"),
        ('{ a # password: "hunter2"\n b }', "{ a # _\n b }"),
        ('# first\n{ a(password: "hunter2") }', "# first\n{ a(password: _) }"),
        ('fragment F on User { a(userPassword: "hunter2") }', None),
        ('{ a(x: "1", ssn: "hunter2") }', '{ a(x: "1", ssn: _) }'),
    ],
)
def test_literals_of_tell_tale_names_are_masked_in_a_document(document: str, expected: str | None):
    left = left_of(document)
    assert SECRET not in left
    assert "7123" not in left
    assert expected is None or left == expected.replace("_", SHOWN)


@pytest.mark.parametrize(
    "document",
    [
        "mutation($p: String!) { login(password: $p) { token } }",
        "{ user { password: hash(kind: SHORT) token } }",
        '{ search(text: "password: x", author: "me") { id } }',
        "query the author: it's fine",
        "{ a(token: RED) }",
        '{ a(password: null, x: "kept") }',
        '{ a, # token is needed\n b(tokenizer: "x") }',
        "query Q @include(if: $x) { a(first: 10) { ...F } }",
    ],
)
def test_documents_without_secrets_are_left_to_the_letter(document: str):
    assert redact({"query": document}, "body") == ({"query": document}, [])


@pytest.mark.parametrize("document", ['{ a(password: "hunter2', "{ a(password: 'hunter2') }"])
def test_a_document_that_cannot_be_read_is_masked_if_a_name_tells(document: str):
    assert redact({"query": document}, "b") == ({"query": MASK}, [Redaction("b.query", "unparsed")])


def test_a_document_too_long_to_read_is_masked_if_a_name_tells():
    assert left_of("{ a(password: $p" + ", x: 1" * 10_000 + ") }") == MASK


def test_card_numbers_in_a_document_show_their_last_four():
    assert left_of('{ pay(cardNumber: "4111 1111 1111 1111") }') == (
        '{ pay(cardNumber: "**** **** **** 1111") }'
    )


def test_the_projects_own_keys_decide_in_a_document():
    body = {"query": '{ a(nickname: "x", token: "y") }'}
    left, marks = redact(body, "body", mask_keys=("nickname",), safe_keys=("token",))
    assert left == {"query": f'{{ a(nickname: {SHOWN}, token: "y") }}'}
    assert marks == [Redaction("body.query.nickname", "setting:MASK_KEYS")]


def test_a_document_is_read_wherever_it_is_sent():
    document = 'mutation { login(password: "hunter2") { id } }'
    batch = [{"query": document, "variables": {"input": {"password": SECRET}}}]
    assert SECRET not in json.dumps(redact(batch, "body")[0])
    assert SECRET not in json.dumps(redact({"operations": json.dumps(batch)}, "body")[0])
    assert SECRET not in json.dumps(redact_form({"query": [document]})[0])
    assert SECRET not in redact_query("query=mutation%7Blogin(password:%22hunter2%22)%7D")[0]


signs = st.sampled_from([*'{}()[]:$=!,"#@', '"""', "\\", "\n", "a", "x: 1", " token ", "..."])


@given(st.lists(signs, max_size=12).map("".join), st.sampled_from(["password", "apiKey", "pin"]))
def test_whatever_stands_before_it_a_literal_is_masked(before: str, name: str):
    """Where what stands before opens a string or a comment, the name and the literal are text."""
    left = left_of(f'{{ a({before}\n{name}: "{SECRET}") }}')
    inside = before.count('"') % 2 or '"""' in before or "\\" in before
    assert SECRET not in left or inside
