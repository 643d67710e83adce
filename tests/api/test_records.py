"""The list of records, one of them, and the history of a target."""

from __future__ import annotations

import datetime
import uuid
from typing import Any
from urllib.parse import quote

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from msgspec.structs import replace

from audit_log.events import Actor, Request, Target, emitter
from audit_log.models import DataKey, Record
from audit_log.privacy import data_keys
from tests.api.asking import RECORDS, all_pages, get, numbers, refused
from tests.ledger.building import a_full_event, a_long_stream, an_event, write
from tests.shop.models import Category, Product

pytestmark = pytest.mark.django_db


def affected(page: Any) -> list[int]:
    """The tests number their events there."""
    return [row["affected"] for row in page["results"]]


def numbered(*events: Any) -> None:
    write([replace(event, affected=n) for n, event in enumerate(events, start=1)])


# What is shown


def test_record_shows_envelope_open_changes_and_both_labels(reader):
    event = a_full_event(3)
    write([event])
    row = Record.objects.get()
    shown = get(reader, f"records/{row.pk}/")
    assert shown == {
        "id": str(event.id),
        "version": 1,
        "stream": "default",
        "sequence": 0,
        "occurred_at": event.occurred_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "recorded_at": row.recorded_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "action": "update",
        "outcome": "success",
        "actor": {"type": "user", "id": "7", "label": "alice", "via": "key-3"},
        "target": {"type": "shop.product", "id": "3", "label": "Product 3"},
        "tenant": "acme",
        "request": {
            "id": "request-3",
            "method": "POST",
            "route": "products/<int:pk>/",
            "path": "/products/3/",
            "status": 200,
            "duration_ms": 12,
        },
        "trace_id": event.trace_id,
        "parent_id": event.parent_id,
        "session": "0123456789abcdef0123456789abcdef",
        "source": "orm",
        "service": "shop",
        "emitter": "0123456789abcdef",
        "emitter_seq": 3,
        "affected": 1,
        "changed_fields": ["name", "price", "stock"],
        "changes": {"price": ["1.10", "2.20"], "stock": [3, 4]},
        "data": {"batch": 4},
        "redactions": [{"path": "changes.card", "rule": "name"}],
        "has_sealed": True,
    }


def test_list_shows_the_same_as_the_record_itself(reader):
    write([a_full_event(1), an_event()])
    bare, full = get(reader, "records/")["results"]
    assert full == get(reader, f"records/{full['id']}/")
    assert bare == get(reader, f"records/{bare['id']}/")
    assert bare["actor"]["label"] is bare["target"]["type"] is bare["request"]["id"] is None
    assert (bare["changes"], bare["data"], bare["has_sealed"]) == ({}, {}, False)


def test_what_the_app_captured_is_found(reader, store):
    lamps = Category.objects.create(name="Lamps")
    Product.objects.create(name="Desk lamp", category=lamps, price="1.10")
    store()
    product, category = get(reader, "records/", action="create", target_type="shop.*")["results"]
    assert product["target"]["label"] == "Desk lamp"
    assert product["changes"]["price"] == [None, "1.10"]
    assert category["target"] == {
        "type": "shop.category",
        "id": str(lamps.pk),
        "label": str(lamps),
    }


def test_neither_salt_nor_tokens_nor_sealed_bytes_are_shown(reader):
    write([a_full_event()])
    row = Record.objects.get()
    body = reader.get(RECORDS).content
    for name in ("salt", "actor_token", "ip_token", "net_token", "agent_token"):
        value = getattr(row, name)
        text = bytes(value).hex() if isinstance(value, (bytes, memoryview)) else value
        assert text.encode() not in body
        assert name.encode() not in body
    for secret in (b"203.0.113.9", b"alice@example.com", b"Mozilla", b"page=2", b"repricing"):
        assert secret not in body


def test_unknown_record_is_a_problem(reader):
    problem = get(reader, f"records/{uuid.uuid4()}/", 404)
    assert (problem["status"], problem["code"]) == (404, "not_found")


# Pages


def test_pages_are_newest_first_and_hold_each_record_once(reader):
    numbered(*[an_event() for _ in range(23)])
    first = get(reader, "records/", page_size=10)
    assert affected(first) == list(range(23, 13, -1))
    rows = all_pages(reader, "records/", page_size=10)
    assert [row["affected"] for row in rows] == list(range(23, 0, -1))


def test_last_page_has_no_next(reader):
    numbered(*[an_event() for _ in range(4)])
    assert get(reader, "records/", page_size=4)["next"] is None
    page = get(reader, get(reader, "records/", page_size=3)["next"])
    assert (affected(page), page["next"]) == ([1], None)


def test_next_keeps_the_filters(reader):
    numbered(*[an_event(action=("login", "logout")[n % 2]) for n in range(10)])
    rows = all_pages(reader, "records/", page_size=2, action="login")
    assert [row["affected"] for row in rows] == [9, 7, 5, 3, 1]


def test_records_that_arrive_meanwhile_move_no_page(reader):
    numbered(*[an_event() for _ in range(6)])
    first = get(reader, "records/", page_size=3)
    write([an_event(affected=7)])
    assert affected(get(reader, first["next"])) == [3, 2, 1]


@pytest.mark.parametrize("cursor", ["x", "e30", "bm90LWEtdXVpZA", "💥", "AAAA" * 100])
def test_cursor_of_no_list_is_refused(reader, cursor):
    assert refused(reader, "records/", cursor=cursor) == {"cursor": ["Not a cursor of this list."]}


@pytest.mark.parametrize("size", ["0", "201", "-1", "ten", "1.5", "9" * 40, "²"])
def test_page_size_is_bounded(reader, size):
    assert "page_size" in refused(reader, "records/", page_size=size)


@pytest.mark.parametrize("erased", [False, True])
def test_page_takes_as_many_queries_whatever_its_length(reader, erased):
    """I4: keys of all labels by one query, also of those that are erased; no COUNT."""
    write([a_full_event(n, actor=Actor("user", str(n), f"user {n}")) for n in range(40)])
    if erased:
        DataKey.objects.update(wrapped=None)
    get(reader, "records/")  # whatever is read once a process

    def statements(size: int) -> list[str]:
        data_keys.forget()
        with CaptureQueriesContext(connection) as queries:
            assert len(get(reader, "records/", page_size=size)["results"]) == size
        return [query["sql"] for query in queries]

    few, many = statements(2), statements(40)
    assert len(few) == len(many) <= 6
    assert not any("COUNT(" in sql for sql in many)


def test_deep_page_costs_what_the_first_does(reader):
    a_long_stream(300)
    page = get(reader, "records/", page_size=100)
    with CaptureQueriesContext(connection) as queries:
        get(reader, get(reader, page["next"])["next"])
    assert not any("OFFSET" in query["sql"] for query in queries)


# Filters


@pytest.mark.parametrize(
    ("parameters", "values"),
    [
        ({"action": "delete"}, {"action": "delete"}),
        ({"action": "log*"}, {"action": "login"}),
        ({"outcome": "denied"}, {"outcome": "denied"}),
        ({"actor": "BOB"}, {"actor": Actor("user", "8", "bob")}),
        ({"actor": "8"}, {"actor": Actor("user", "8", "bob")}),
        ({"actor_id": "8"}, {"actor": Actor("user", "8")}),
        ({"target_type": "shop.tag"}, {"target": Target("shop.tag", "9")}),
        ({"target_type": "shop.tag", "target_id": "9"}, {"target": Target("shop.tag", "9")}),
        ({"request_id": "r-1"}, {"request": Request(id="r-1")}),
        ({"ip": "198.51.100.7"}, {"request": Request(ip="198.51.100.7")}),
        ({"ip": "198.51.100.0/24"}, {"request": Request(ip="198.51.100.7")}),
        ({"tenant": "acme"}, {"tenant": "acme"}),
        ({"stream": "default", "tenant": "acme"}, {"tenant": "acme"}),
        ({"q": "source:task"}, {"source": "task"}),
        ({"q": 'actor:"Bob Smith" action:create'}, {"actor": Actor("user", "8", "Bob Smith")}),
    ],
)
def test_filter_finds_exactly_what_has_the_value(reader, parameters, values):
    other = an_event(
        action="update",
        actor=Actor("user", "80", "bobby"),
        target=Target("shop.tags", "90"),
        request=Request(id="r-10", ip="198.51.101.7"),
        tenant="acme2",
    )
    numbered(other, an_event(**{"action": "create", **values}), other_of(other))
    assert affected(get(reader, "records/", **parameters)) == [2]


def other_of(event: Any) -> Any:
    id_, moment = emitter().stamp()
    return replace(event, id=id_, occurred_at=moment)


def test_stream_that_has_no_record_finds_none(reader):
    write([an_event()])
    assert get(reader, "records/", stream="security")["results"] == []


def test_since_and_until_bound_the_time(reader):
    days = [datetime.datetime(2026, 3, day, 12, tzinfo=datetime.UTC) for day in (1, 2, 3)]
    numbered(*[an_event(id=emitter().id_for(day), occurred_at=day) for day in days])
    assert affected(get(reader, "records/", since="2026-03-02")) == [3, 2]
    assert affected(get(reader, "records/", until="2026-03-02T12:00:00Z")) == [1]
    within = {"since": "2026-03-02T13:00:00+02:00", "until": "2026-03-03"}
    assert affected(get(reader, "records/", **within)) == [2]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("since", "yesterday"),
        ("ip", "10.0.0.0/8"),
        ("ip", "home"),
        ("outcome", "maybe"),
        ("q", "nonsense"),
        ("q", "colour:red"),
        ("q", "status:" + "9" * 50 + "x"),
        ("action", "a\x00b"),
    ],
)
def test_value_that_makes_no_sense_is_refused_by_name(reader, name, value):
    assert list(refused(reader, "records/", **{name: value})) == [name]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("records/?stream=a%00&after=1", "stream"),
        ("targets/a%00/1/", "type"),
        ("targets/a/1%00/", "id"),
        ("statistics/routes/?route=%00", "route"),
        ("checkpoints/?stream=%00", "stream"),
        ("records/?%00=1", "\0"),
    ],
)
def test_null_characters_are_refused_wherever_they_stand(reader, path, name):
    """PostgreSQL refuses to be asked about them."""
    answer = reader.get(f"/audit/v1/{path}")
    assert answer.status_code == 400
    assert list(answer.json()["errors"]) == [name]


@pytest.mark.parametrize("q", ["status:" + "9" * 50, "until:0001-01-01T00:00:00+14:00"])
def test_value_that_no_record_can_have_finds_none(reader, q):
    write([an_event(request=Request(status=200))])
    assert get(reader, "records/", q=q)["results"] == []


def test_unknown_parameters_are_refused_by_name(reader):
    errors = refused(reader, "records/", acton="delete", salt__startswith="a", page="2")
    assert sorted(errors) == ["acton", "page", "salt__startswith"]
    assert "action" in errors["acton"][0]


def test_empty_and_repeated_parameters_are_refused(reader):
    assert refused(reader, "records/", action="") == {"action": ["Has no value."]}
    repeated = reader.get(f"{RECORDS}?action=a&action=b")
    assert repeated.json()["errors"] == {"action": ["Is given more than once."]}


# History of a target


def test_history_of_a_target_outlives_it(reader, store):
    """I3, I6."""
    lamps = Category.objects.create(name="Lamps")
    pk = lamps.pk
    lamps.name = "Lights"
    lamps.save()
    lamps.delete()
    Category.objects.create(name="Chairs")
    store()
    rows = all_pages(reader, f"targets/shop.category/{pk}/", page_size=2)
    assert [row["action"] for row in rows] == ["delete", "update", "create"]


@pytest.mark.parametrize("id_", ["a/b", "ü 1", '["x", 2]', "a?b#c", "50%"])
def test_target_may_have_any_id(reader, id_):
    numbered(an_event(target=Target("shop.shelf", id_)), an_event(target=Target("shop.shelf", "a")))
    assert affected(get(reader, f"targets/shop.shelf/{quote(id_, safe='/')}/")) == [1]


def test_unknown_target_has_no_history(reader):
    assert get(reader, "targets/shop.category/0/") == {"next": None, "results": []}


def test_history_takes_no_filters(reader):
    assert "action" in refused(reader, "targets/shop.category/0/", action="x")


def test_numbers_are_those_of_the_stream(reader):
    a_long_stream(5)
    assert numbers(get(reader, "records/")) == [4, 3, 2, 1, 0]
