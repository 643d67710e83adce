"""What is looked for in many events at once is found as in each alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_log.events import Actor, Event, Redaction, Request, Target
from audit_log.exceptions import EncodingError
from audit_log.ledger.entries import EntryTemplate, Spelling, canonical
from audit_log.ledger.insertion import _BYTES, _EARLY, _JSON, _NUMBERS, _SPELLED, _TEXTS
from audit_log.ledger.scrubbing import Contents, contents_of_all
from tests.ledger.building import an_event

CARD = "4111 1111 1111 1111"
texts = st.sampled_from(
    ["", "plain", "token=abcdefghij0123456789", "jane@example.com", f"card {CARD}", "a,1.5", "\0"]
)
values = st.one_of(
    st.none(), texts, st.integers(), st.floats(allow_nan=False, allow_infinity=False)
)
events = st.builds(
    an_event,
    reason=st.one_of(st.none(), texts),
    actor=st.one_of(st.none(), st.builds(Actor, id=texts, label=texts, email=texts)),
    target=st.builds(Target, type=st.just("app.model"), label=texts),
    request=st.one_of(st.none(), st.builds(Request, path=texts, query=texts, body=values)),
    changes=st.dictionaries(st.sampled_from("abc"), st.lists(values, min_size=2, max_size=2)),
    data=st.dictionaries(st.sampled_from("abc"), values),
    labels=st.dictionaries(st.sampled_from("ab"), st.lists(texts, min_size=2, max_size=2)),
    sealed=st.lists(st.sampled_from(["changes.a", "changes.b", "data.a", "data.z"])).map(tuple),
)


def _said(found: Contents | Exception) -> Any:
    return (type(found), str(found)) if isinstance(found, Exception) else found


@given(st.lists(events, max_size=5))
def test_events_together_are_scrubbed_as_each_of_them_alone(several: list[Event]):
    together = contents_of_all(several)
    alone = [found for event in several for found in contents_of_all([event])]
    assert list(map(_said, together)) == list(map(_said, alone))


@given(events)
def test_what_is_encoded_is_canonical_and_split_by_what_is_sealed(event: Event):
    (found,) = contents_of_all([event])
    if isinstance(found, Contents):
        assert found.encoded_changes == (canonical(found.changes) if found.changes else b"")
        assert found.encoded_data == (canonical(found.data) if found.data else b"")
        assert not {f"changes.{name}" for name in found.changes} & {*event.sealed}
        assert not {f"data.{name}" for name in found.data} & {*event.sealed}
    else:
        assert isinstance(found, EncodingError)


@pytest.mark.parametrize("place", [0, 63, 64, 199])
def test_one_secret_among_many_events_is_masked_and_the_others_stay(place: int):
    several = [an_event(reason=f"reason {n}") for n in range(200)]
    several[place] = an_event(reason=f"paid by {CARD}")
    found = contents_of_all(several)
    assert all(isinstance(contents, Contents) for contents in found)
    said = [contents.sealed_actor for contents in found if isinstance(contents, Contents)]
    assert b"4111 1111" not in b"".join(said)
    assert b"**** **** **** 1111" in said[place]
    assert sum(b'"reason":"reason ' in part for part in said) == 199


@pytest.mark.parametrize("column", ["tenant", "redactions"])
def test_a_nul_that_was_not_made_fit_is_refused_all_the_same(column: str):
    event = an_event(tenant="ac\0me" if column == "tenant" else "acme")
    marks = [{"path": "a\0b", "rule": "r"}] if column == "redactions" else None
    columns = {
        "id": event.id,
        "version": 1,
        "stream": "default",
        "occurred_at": event.occurred_at,
        "action": event.action,
        "tenant": event.tenant,
        "redactions": marks,
        "salt": bytes(16),
    }
    said = b'[{"path":"a\\u0000b","rule":"r"}]' if marks else b""
    spelling = Spelling(str(event.id), "2026-11-24T12:00:00.000000Z", b"", said, b"", b"")
    with pytest.raises(EncodingError, match="NUL"):
        EntryTemplate(columns, spelling=spelling)


def test_a_mark_is_no_reason_to_refuse_what_only_looks_like_a_nul():
    (found,) = contents_of_all([an_event(redactions=(Redaction("a", r"\u0000"),))])
    assert isinstance(found, Contents)


def test_every_column_has_its_place_in_the_statement_of_postgresql():
    assert sorted((*_TEXTS, *_SPELLED, *_NUMBERS, *_JSON, *_BYTES)) == sorted(_EARLY)


GITHUB = "ghp_" + "a1B2" * 9


def test_what_comes_from_outside_into_open_columns_is_scrubbed():
    actor = Actor(type="service", id=CARD, via=GITHUB, email=f"{GITHUB}@example.org")
    (found,) = contents_of_all([an_event(actor=actor, tenant=f"of {CARD}")])
    assert isinstance(found, Contents)
    assert found.actor_id == "**** **** **** 1111"
    assert found.tenant == "of **** **** **** 1111"
    assert found.actor_via is not None
    assert found.actor_via.startswith("ghp_[MASKED fp=")
    assert b"ghp_[MASKED fp=" in found.sealed_actor
    assert GITHUB.encode() not in found.sealed_actor
    rules = {(mark.path, mark.rule) for mark in found.marks}
    assert rules == {
        ("actor.id", "detector:card"),
        ("actor.via", "detector:vendor_token"),
        ("actor.email", "detector:vendor_token"),
        ("tenant", "detector:card"),
    }


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("q=4111+1111+1111+1111&p=2", "q=%2A%2A%2A%2A+%2A%2A%2A%2A+%2A%2A%2A%2A+1111&p=2"),
        ("q=4111%201111%201111%201111", "q=%2A%2A%2A%2A+%2A%2A%2A%2A+%2A%2A%2A%2A+1111"),
        ("u=postgres%3A%2F%2Fa%3Asecret%40h%2Fx", "u=postgres%3A%2F%2Fa%3A%5BMASKED%5D%40h%2Fx"),
        (
            "a=b%20c&4111%201111%201111%201111=1",
            "a=b%20c&%2A%2A%2A%2A+%2A%2A%2A%2A+%2A%2A%2A%2A+1111=1",
        ),
        ("q=4111111111111111", "q=**** **** **** 1111"),
        ("a=b%20c+d&e", "a=b%20c+d&e"),
        ("+%zz&&=", "+%zz&&="),
    ],
)
def test_query_string_is_scrubbed_as_the_view_reads_it(query: str, left: str):
    (found,) = contents_of_all([an_event(request=Request(query=query))])
    assert isinstance(found, Contents)
    assert json.loads(found.sealed_actor)["query"] == left
