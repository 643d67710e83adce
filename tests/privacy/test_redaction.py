from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from django.http import QueryDict
from hypothesis import given
from hypothesis import strategies as st

from audit_log.events import Redaction
from audit_log.privacy.redaction import (
    CUT_DEPTH,
    CUT_NODES,
    MASK,
    MAX_DEPTH,
    MAX_NODES,
    MAX_REDACTIONS,
    mask,
    redact,
    redact_form,
    redact_path,
    redact_query,
    sensitive_path,
)

SECRET = "hunter2-\u2603"
NAMES = "password apiKey access_token user_password PIN cvv sessionid Authorization private-key"


def odd_case(name: str, upper: list[bool]) -> str:
    return "".join(s.upper() if up else s.lower() for s, up in zip(name, upper, strict=False))


secret_names = st.builds(
    odd_case, st.sampled_from(NAMES.split()), st.lists(st.booleans(), min_size=20, max_size=20)
)
plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    hidden = st.dictionaries(secret_names, st.just(SECRET) | st.just([{"a": SECRET}]), min_size=1)
    keys = st.text(max_size=10).filter(lambda key: SECRET not in key)
    return (
        hidden
        | st.lists(inner, max_size=5)
        | st.dictionaries(keys, inner, max_size=5)
        | st.tuples(inner, hidden)
    )


values_with_secrets = st.recursive(plain, containers, max_leaves=30)


def shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


@given(values_with_secrets)
def test_the_value_of_a_secret_key_is_nowhere(value: Any):
    """H1."""
    left, redactions = redact(value, "data")
    assert SECRET not in shown(left)
    assert SECRET not in repr(redactions)


@given(values_with_secrets)
def test_the_value_of_a_secret_key_is_nowhere_in_json_inside_a_string(value: Any):
    left, _ = redact({"payload": json.dumps(value)}, "data")
    assert SECRET not in json.dumps(left, ensure_ascii=False)
    assert json.dumps(SECRET)[1:-1] not in shown(left)


@given(values_with_secrets, st.integers(0, 40))
def test_depth_hides_nothing(value: Any, depth: int):
    for _ in range(depth):
        value = {"a": [value]}
    assert SECRET not in shown(redact(value, "data")[0])


@given(values_with_secrets)
def test_the_value_given_is_not_altered(value: Any):
    before = repr(value)
    redact(value, "data")
    assert repr(value) == before


@given(
    st.recursive(
        plain, lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("abc"), inner)
    )
)
def test_a_value_without_tell_tale_names_is_left(value: Any):
    if len(shown(value)) < MAX_NODES:
        left, redactions = redact(value, "data")
        assert repr(left) == repr(value)
        assert redactions == []


class _Careful(dict[str, Any]):
    """No dict by its exact type, so it is walked."""


def _carefully(value: Any) -> Any:
    """What the walk makes of a value, whatever the quick look would have said of it."""
    left, redactions = redact({"careful": 0, "value": value}, "data")
    walked, same = redact(_Careful({"careful": 0, "value": value}), "data")
    assert (repr(walked), same) == (repr(left), redactions)
    return left


@given(values_with_secrets)
def test_the_quick_look_finds_what_the_walk_finds(value: Any):
    _carefully(value)


@pytest.mark.parametrize("nodes", [MAX_NODES - 3, MAX_NODES - 2, MAX_NODES - 1, MAX_NODES + 1])
def test_the_quick_look_counts_as_the_walk_does(nodes: int):
    cut = CUT_NODES in json.dumps(_carefully(list(range(nodes))))
    assert cut is (nodes + 2 > MAX_NODES)


@pytest.mark.parametrize("depth", range(MAX_DEPTH - 3, MAX_DEPTH + 2))
def test_the_quick_look_is_as_deep_as_the_walk(depth: int):
    value: Any = 1
    for _ in range(depth):
        value = [value]
    assert (CUT_DEPTH in json.dumps(_carefully(value))) is (depth + 1 > MAX_DEPTH)


def test_what_hides_nothing_is_not_copied():
    value = {"lines": [{"sku": "A-1", "count": 2}]}
    assert redact(value, "data")[0] is value


def test_old_and_new_are_masked_alike_and_null_stays_null():
    """H1."""
    assert mask("old") == mask("new") == mask("") == MASK
    assert mask(None) is None


@pytest.mark.parametrize("value", ["x", 7, 1.5, True, ["a"], {"a": 1}, b"bytes", 4111111111111111])
def test_short_values_and_others_than_text_are_hidden_whole(value: Any):
    """H1."""
    assert mask(value) == mask(value, keep_last4=True) == MASK


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("4111111111111111", "**** **** **** 1111"),
        ("3782-822463-10005", "**** **** **** 0005"),
        ("123456789012", "**** **** **** 9012"),
        ("12345678901", MASK),
        ("hunter2hunter2", MASK),
        ("4" * 20, MASK),
        ("٤" * 16, MASK),
    ],
)
def test_only_card_numbers_show_their_last_four(value: str, expected: str):
    assert mask(value, keep_last4=True) == expected


def test_redactions_say_where_and_why():
    value = {"user": {"Password": "x", "cardNumber": "4111 1111 1111 1111"}, "items": [{"pin": 1}]}
    left, redactions = redact(value, "data")
    assert left == {
        "user": {"Password": MASK, "cardNumber": "**** **** **** 1111"},
        "items": [{"pin": MASK}],
    }
    assert redactions == [
        Redaction("data.user.Password", "name:secret"),
        Redaction("data.user.cardNumber", "name:card"),
        Redaction("data.items.0.pin", "name:secret"),
    ]


def test_an_absent_secret_is_no_redaction():
    assert redact({"token": None}, "data") == ({"token": None}, [])


def test_the_projects_own_keys_decide():
    left, redactions = redact(
        {"nickname": "x", "token": "y"}, "data", mask_keys=("nickname",), safe_keys=("token",)
    )
    assert left == {"nickname": MASK, "token": "y"}
    assert redactions == [Redaction("data.nickname", "setting:MASK_KEYS")]


def test_graphql_variables_are_nested_keys_and_the_query_is_left():
    query = "mutation($p: String!) { login(password: $p) { id } }"
    left, _ = redact({"query": query, "variables": {"p": 1, "input": {"password": "x"}}}, "body")
    assert left == {"query": query, "variables": {"p": 1, "input": {"password": MASK}}}


@pytest.mark.parametrize(
    "text",
    [
        '{"password": "hunter2", "cut off',
        "{'password': 'hunter2'}",
        '{"a": "{\\"password\\": \\"hunter2\\"}"}',
        '{"x": {"password": "hunter2"}, "x": 1}',
        '\ufeff {"password": "hunter2"}',
        '\n[{"password": "hunter2"}]',
        '{"password": "hunter2", "n": ' + "9" * 5000 + "}",
        "[" * 5000 + '{"password": "hunter2"}',
        '{"a": "' + "x" * 20_000 + '", "password": "hunter2"}',
    ],
)
def test_json_in_a_string_that_cannot_be_read_well_is_masked_all_the_same(text: str):
    left, _ = redact({"payload": text}, "data")
    assert "hunter2" not in shown(left)


@pytest.mark.parametrize("text", [' {"a" : 1.0,  "b": [ ] }', '{"a": 1, "cut', "{{ name }}", "[x]"])
def test_json_in_a_string_without_secrets_is_left_to_the_letter(text: str):
    assert redact({"payload": text}, "data") == ({"payload": text}, [])


def test_what_lies_too_deep_is_cut_and_marked():
    value: Any = "leaf"
    for _ in range(MAX_DEPTH + 1):
        value = [value]
    left, redactions = redact(value, "data")
    for _ in range(MAX_DEPTH):
        left = left[0]
    assert left == CUT_DEPTH
    assert [redaction.rule for redaction in redactions] == ["limit:depth"]


@pytest.mark.parametrize("value", [list(range(5000)), {str(n): n for n in range(5000)}])
def test_too_many_nodes_are_cut_and_marked(value: Any):
    left, redactions = redact([value, value], "data")
    assert CUT_NODES in left[0]
    assert len(left[0]) < MAX_NODES + 1
    assert left[1] == CUT_NODES
    assert [redaction.rule for redaction in redactions] == ["limit:nodes"]


def test_redactions_are_bounded_and_say_so():
    left, redactions = redact([{"pin": n} for n in range(200)], "data")
    assert left == [{"pin": MASK}] * 200
    assert len(redactions) == MAX_REDACTIONS
    assert redactions[-1].rule == "limit:redactions"


def test_a_key_that_may_be_a_secret_is_not_repeated_in_the_path():
    key = "password 4111111111111111"
    assert redact({key: "x"}, "data")[1] == [Redaction("data.*", "name:secret")]


class Hostile(Mapping[str, Any]):
    def __getitem__(self, key: str) -> Any:
        raise RuntimeError(SECRET)

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError(SECRET)

    def __len__(self) -> int:
        raise RuntimeError(SECRET)


def test_a_value_that_cannot_be_walked_is_masked_whole_and_its_text_is_not_logged(
    caplog: pytest.LogCaptureFixture,
):
    """H3."""
    with caplog.at_level(logging.DEBUG):
        assert redact({"a": Hostile()}, "data") == (MASK, [Redaction("data", "error")])
        assert redact_form(Hostile()) == (MASK, [Redaction("request.body", "error")])
        assert redact_path("/a/", Hostile()) == (MASK, [Redaction("request.path", "error")])
    assert SECRET not in caplog.text
    assert "RuntimeError" in caplog.text


def test_a_form_keeps_all_values_of_a_name():
    form = QueryDict("a=1&a=2&b=3&user[password]=x&password=y&password=z&n=%7B%22pin%22:1%7D")
    assert redact_form(form)[0] == {
        "a": ["1", "2"],
        "b": "3",
        "user[password]": MASK,
        "password": MASK,
        "n": f'{{"pin": "{MASK}"}}',
    }


def test_a_query_string_keeps_everything_but_the_secrets():
    """H1."""
    query = "q=a%20b&&flag&empty=&PassWord=x%26y&user%5Btoken%5D=z&card_number=4111111111111111"
    left, redactions = redact_query(query)
    assert left == (
        f"q=a%20b&&flag&empty=&PassWord={MASK}&user%5Btoken%5D={MASK}"
        "&card_number=**** **** **** 1111"
    )
    assert [redaction.rule for redaction in redactions] == ["name:secret"] * 2 + ["name:card"]
    assert redactions[0].path == "request.query.PassWord"


def test_json_in_a_query_string_is_read():
    left, _ = redact_query("query=x&variables=%7B%22password%22%3A%22hunter2%22%7D")
    assert "hunter2" not in left


def test_a_query_string_of_many_pieces_is_cut():
    left, redactions = redact_query("&".join(["a=1"] * 5000))
    assert left.count("&") == MAX_NODES
    assert redactions == [Redaction("request.query", "limit:nodes")]


@given(st.text(), secret_names, st.text())
def test_no_query_string_shows_a_secret(before: str, name: str, after: str):
    left, _ = redact_query(f"{before}&{name}={SECRET}&{after}")
    assert SECRET not in left


@pytest.mark.parametrize(
    ("path", "captured", "expected"),
    [
        ("/reset/MQ/abc-123/", {"uidb64": "MQ", "token": "abc-123"}, "/reset/[MASKED]/[MASKED]/"),
        ("/confirm/abc/", {"key": "abc"}, "/confirm/[MASKED]/"),
        ("/u/alice@example.com/", {"email": "alice@example.com"}, "/u/[MASKED]/"),
        ("/u/alice%40example.com/", {"email": "alice@example.com"}, "/u/[MASKED]/"),
        ("/f/a/b/", {"token": "a/b"}, "/f/[MASKED]/"),
        ("/f/x-abcdefgh/abcdefgh/", {"token": "abcdefgh"}, "/f/x-[MASKED]/[MASKED]/"),
        ("/admin/a/", {"token": "a"}, "/admin/[MASKED]/"),
        ("/f/007/", {"pin": 7}, "/f/00[MASKED]/"),
        ("/f/seven/", {"pin": 7}, MASK),
        ("/payments/7/", {"pk": 7, "slug": "x", "token": None}, "/payments/7/"),
    ],
)
def test_path_arguments_named_like_secrets_are_masked(
    path: str, captured: dict[str, Any], expected: str
):
    assert redact_path(path, captured)[0] == expected


def test_a_path_can_show_fingerprints():
    left, redactions = redact_path(
        "/u/alice/", {"email": "alice"}, fingerprint=lambda kind, value: f"{kind}-{len(value)}"
    )
    assert left == "/u/[MASKED fp=contact-5]/"
    assert redactions == [Redaction("request.path.email", "name:contact")]


def test_a_path_argument_declared_safe_is_left():
    assert redact_path("/f/abc/", {"key": "abc"}, safe_keys=("key",)) == ("/f/abc/", [])


@pytest.mark.parametrize(
    "path",
    [
        "/accounts/login/",
        "/LOGIN",
        "/sign-in/",
        "/api/v1/auth/token/refresh/",
        "/accounts/password_reset/",
        "/password%5Freset/",
        "/admin/auth/user/3/password/",
        "/api/tokens/",
        "/o/oauth2/x",
        "/reset/MQ/set-password/",
        "/verify/2fa/",
    ],
)
def test_bodies_of_log_in_password_and_token_paths_are_never_read(path: str):
    assert sensitive_path(path)


@pytest.mark.parametrize(
    "path", ["/", "/payments/7/", "/authors/", "/tokenizer/", "/presets/", "/blog/logins-up/x2fay"]
)
def test_other_paths_are_not_sensitive(path: str):
    assert not sensitive_path(path)


@pytest.mark.parametrize("depth", [2, 3])
def test_json_in_a_string_in_a_string_is_masked(depth: int):
    text: Any = {"password": "hunter2"}
    for _ in range(depth):
        text = json.dumps(text)
    value, redactions = redact({"deep": text, "said": '"Hello", he said'}, "data")
    assert "hunter2" not in json.dumps(value)
    assert value["said"] == '"Hello", he said'
    assert [mark.path for mark in redactions] == ["data.deep"]
