"""Finding records: every key, and what is said about those that are none."""

from __future__ import annotations

import datetime
import uuid

import pytest
from msgspec.structs import replace

import audit_log
from audit_log import testing
from audit_log.events import Actor, Event, Request, Target, emitter
from audit_log.models import Record
from audit_log.reading.search import COLUMNS, KEYS, SearchError, first_id, history, search
from tests.ledger.building import a_full_event, an_event, write
from tests.shop.models import Category, CheapProduct, Country, Product, Restaurant, Shelf

pytestmark = pytest.mark.django_db


def found(text: str) -> list[int | None]:
    """The `affected` of what is found: here it numbers the events."""
    return [row.affected for row in search(text)]


def numbered(*events: Event) -> None:
    """Store events in this order, numbered from 1 in `affected`."""
    write([replace(event, affected=n) for n, event in enumerate(events, start=1)])


def at(moment: datetime.datetime) -> Event:
    return an_event(id=emitter().id_for(moment), occurred_at=moment)


def test_nothing_asked_finds_everything_newest_first():
    numbered(an_event(), an_event(), an_event())
    assert found("") == [3, 2, 1]
    assert found("  ") == [3, 2, 1]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("action:delete", {"action": "delete"}),
        ("outcome:denied", {"outcome": "denied"}),
        ("request:r-1", {"request": Request(id="r-1")}),
        ("request_id:r-1", {"request": Request(id="r-1")}),
        ("tenant:acme", {"tenant": "acme"}),
        ("service:billing", {"service": "billing"}),
        ("source:task", {"source": "task"}),
        ("status:404", {"request": Request(status=404)}),
        ("method:PATCH", {"request": Request(method="PATCH")}),
        ("route:a/<int:pk>/", {"request": Request(route="a/<int:pk>/")}),
        ("path:/a/1/", {"request": Request(path="/a/1/")}),
        ("actor_id:17", {"actor": Actor(id="17")}),
        ("actor_type:service", {"actor": Actor(type="service")}),
        ("target_type:shop.tag", {"target": Target("shop.tag")}),
        ("target_id:99", {"target": Target("shop.tag", "99")}),
        ("trace_id:t-1", {"trace_id": "t-1"}),
        ("parent_id:p-1", {"parent_id": "p-1"}),
        ("actor:alice", {"actor": Actor(type="user", id="1", label="alice")}),
        ("actor:ALICE", {"actor": Actor(type="user", id="1", label="alice")}),
        ("actor:17", {"actor": Actor(id="17")}),
        ('actor:"Alice Smith"', {"actor": Actor(id="1", label="Alice Smith")}),
        ("actor:'Alice Smith'", {"actor": Actor(id="1", label="Alice Smith")}),
        ("agent:curl/8.5", {"request": Request(user_agent="curl/8.5")}),
        ("target:shop.tag", {"target": Target("shop.tag", "5")}),
        ("target:Shop.Tag", {"target": Target("shop.tag", "5")}),
        ("target:shop.tag#5", {"target": Target("shop.tag", "5")}),
        ("target:shop.ta*", {"target": Target("shop.tag", "5")}),
        ("target:'shop.tag#[\"a\", 5]'", {"target": Target("shop.tag", '["a", 5]')}),
        ("action:payment.*", {"action": "payment.refunded"}),
        ("path:/a/*", {"request": Request(path="/a/1/")}),
    ],
)
def test_key_finds_its_record_and_no_other(text, values):
    numbered(an_event(), an_event(**values), an_event(action="login", actor=Actor(id="x")))
    assert found(text) == [2]


def test_every_column_key_is_a_column():
    columns = {field.name for field in Record._meta.concrete_fields}
    assert set(COLUMNS.values()) <= columns
    assert set(KEYS) >= set(COLUMNS)


def test_stream_is_a_key():
    write([an_event()], "security")
    write([an_event(), an_event()], "default")
    assert [row.sequence for row in search("stream:security")] == [0]


def test_all_filters_must_hold():
    numbered(
        an_event(action="delete", tenant="a"),
        an_event(action="delete", tenant="b"),
        an_event(action="create", tenant="a"),
    )
    assert found("action:delete tenant:a") == [1]
    assert found("tenant:a   action:delete") == [1]
    assert found("action:delete action:create") == []


def test_actor_is_found_together_with_other_filters():
    alice = Actor(type="user", id="1", label="alice")
    numbered(an_event(actor=alice), an_event(actor=alice, action="delete"))
    assert found("action:delete actor:alice") == [2]
    assert found("actor:alice action:delete") == [2]


def test_id_is_found():
    event = an_event()
    write([event, an_event()])
    assert [row.pk for row in search(f"id:{event.id}")] == [event.id]
    assert [row.pk for row in search(f"id:{event.id.hex}")] == [event.id]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ip:203.0.113.9", [1]),
        ("ip:203.0.113.0/24", [2, 1]),
        ("ip:203.0.113.77/24", [2, 1]),
        ("ip:203.0.114.1", [3]),
        ("ip:203.0.113.1", []),
        ("ip:2001:db8:1::1", [4]),
        ("ip:2001:DB8:1:0::1", [4]),
        ("ip:2001:db8:1::/48", [5, 4]),
        ("ip:2001:db8:2::/48", []),
    ],
)
def test_address_is_found_exactly_or_by_its_network(text, expected):
    """By blind indexes: the address itself is stored sealed."""
    addresses = ("203.0.113.9", "203.0.113.10", "203.0.114.1", "2001:db8:1::1", "2001:db8:1:9::2")
    numbered(*(an_event(request=Request(ip=address)) for address in addresses))
    assert found(text) == expected


def test_periods_and_times_are_ranges_of_ids():
    now = datetime.datetime.now(datetime.UTC)
    hours = [now - datetime.timedelta(hours=n) for n in (100, 30, 2)]
    numbered(*map(at, hours))
    assert found("last:24h") == [3]
    assert found("last:3d") == [3, 2]
    assert found("last:90m") == []
    assert found("last:9000s") == [3]
    assert found("last:999999d") == [3, 2, 1]
    assert found(f"since:{hours[1].isoformat()}") == [3, 2]
    assert found(f"until:{hours[1].isoformat()}") == [1]
    assert found(f"since:{hours[0].date()}") == [3, 2, 1]
    assert found("since:1900-01-01") == [3, 2, 1]
    assert found("until:9999-12-31T23:59:59") == [3, 2, 1]
    assert found("until:1969-07-20") == []


def test_time_without_a_zone_is_utc_and_others_are_converted():
    moment = datetime.datetime(2026, 3, 1, 12, 0, tzinfo=datetime.UTC)
    numbered(at(moment))
    assert found("since:2026-03-01T12:00:00") == [1]
    assert found("since:2026-03-01T12:00:01") == []
    assert found("since:2026-03-01T13:00:00+02:00") == [1]
    assert found("until:2026-03-01T13:00:00+01:00") == []


def test_first_id_of_a_moment_comes_before_all_others_of_it():
    moment = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    ids = [emitter().id_for(moment) for _ in range(50)]
    assert all(first_id(moment) <= id_ for id_ in ids)
    assert all(first_id(moment + datetime.timedelta(milliseconds=1)) > id_ for id_ in ids)
    assert first_id(moment).version == 7


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("delete", "key:value"),
        ("action:", "key:value"),
        (":delete", "key:value"),
        ('actor:""', "no value"),
        ('actor:"alice', "key:value"),
        ("actor:Alice Smith", "quotes"),
        ("colour:red", "no key 'colour'"),
        ("Action:delete", "key:value"),
        ("status:many", "number"),
        ("status:4*", "number"),
        ("status:²", "number"),
        ("id:17", "UUID"),
        ("ip:localhost", "address"),
        ("ip:203.0.113.0/16", "/24"),
        ("ip:203.0.113.0/", "/24"),
        ("ip:2001:db8::/24", "/48"),
        ("target:#5", "app.model#id"),
        ("last:yesterday", "24h"),
        ("last:5w", "24h"),
        ("since:noon", "ISO 8601"),
        ("until:2026-13-01", "ISO 8601"),
        ("since:2026-01-01T25:00:00", "ISO 8601"),
        ("action:a\0b", "NUL"),
    ],
)
def test_filter_that_cannot_be_understood_says_what_was_expected(text, said):
    with pytest.raises(SearchError, match=r"\S") as caught:
        search(text)
    assert said in str(caught.value)


def test_unknown_key_lists_the_keys_there_are():
    with pytest.raises(SearchError) as caught:
        search("colour:red")
    assert all(key in str(caught.value) for key in KEYS)


def test_number_beyond_its_column_finds_nothing():
    write([an_event()])
    assert found(f"status:{10**20}") == []


def test_search_takes_no_pattern_for_a_wildcard():
    numbered(an_event(tenant="a_c"), an_event(tenant="abc"), an_event(tenant="a%c"))
    assert found("tenant:a_c") == [1]
    assert found("tenant:a_*") == [1]
    assert found("tenant:a%*") == [3]


def test_public_names_are_these():
    assert audit_log.search is search
    assert audit_log.history is history


def test_history_is_that_of_one_object_newest_first():
    """I6."""
    first, second = Category.objects.create(name="a"), Category.objects.create(name="b")
    first.name = "c"
    first.save()
    testing.relay()
    assert [row.action for row in history(first)] == ["update", "create"]
    assert [row.action for row in history(second)] == ["create"]


def test_history_of_a_deleted_object_needs_its_key_only():
    """I6."""
    category = Category.objects.create(name="a")
    key = category.pk
    category.delete()
    testing.relay()
    assert [row.action for row in history(Category(pk=key))] == ["delete", "create"]


def test_object_that_was_never_stored_has_no_history():
    Category.objects.create(name="a")
    write([an_event(target=Target("shop.category"))])
    testing.relay()
    assert list(history(Category(name="a"))) == []


def test_history_is_asked_in_one_query(django_assert_num_queries):
    """D1."""
    category = Category.objects.create(name="a")
    testing.relay()
    with django_assert_num_queries(1):
        assert len(history(category)) == 1


def test_history_of_objects_with_other_keys():
    """D1, D2."""
    shelf = Shelf.objects.create(room='a "b"', number=7)
    country = Country.objects.create(code="a_b/c", name="x")
    testing.relay()
    assert [row.action for row in history(shelf)] == ["create"]
    assert history(shelf).get().target_id == '["a \\"b\\"", 7]'
    assert [row.action for row in history(country)] == ["create"]
    assert history(Country(code="a-b/c")).count() == 0
    assert history(Shelf(room='a "b"', number=8)).count() == 0


def test_history_of_a_proxy_is_that_of_its_model():
    """D3."""
    product = Product.objects.create(name="p")
    testing.relay()
    assert list(history(CheapProduct(pk=product.pk))) == list(history(product))
    assert history(product).count() == 1


def test_history_of_a_child_model_has_its_own_type():
    restaurant = Restaurant.objects.create(name="r", stars=1)
    testing.relay()
    assert {row.target_type for row in history(restaurant)} == {"shop.restaurant"}


def test_records_are_found_by_what_they_were_stored_with():
    write([a_full_event(5)])
    for text in ("actor:alice", "ip:203.0.113.9", "agent:Mozilla/5.0", "target:shop.product#5"):
        assert search(text).count() == 1, text
    assert search(f"id:{uuid.uuid4()}").count() == 0
