"""The list and the page of a record."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

import audit_log
from audit_log import testing
from audit_log.admin import paging
from audit_log.admin.records import RecordAdmin
from audit_log.ledger import checkpoints
from audit_log.models import DataKey, Record
from audit_log.privacy import data_keys
from audit_log.reading.search import first_id
from tests.admin.pages import URL, ids_on, page_of, text_of
from tests.shop.models import Category, Person, Product

pytestmark = pytest.mark.django_db


def the(action: str, **columns: Any) -> Record:
    return Record.objects.get(action=action, **columns)


# Who may


def test_list_and_detail_open_with_view_record(viewer, store):
    """I1."""
    Category.objects.create(name="Lamps")
    store()
    row = the("create", target_type="shop.category")
    assert viewer.get(URL).status_code == 200
    assert viewer.get(page_of(row)).status_code == 200


def test_staff_without_the_permission_see_nothing(staff, as_user, make_record):
    row = make_record()
    client = as_user(staff("audit_log.view_sealed", "shop.view_category"))
    for url in (URL, page_of(row), f"{URL}{row.pk}/history/"):
        assert client.get(url).status_code == 403, url
    assert client.post(f"{URL}{row.pk}/open/").status_code == 403
    assert URL not in text_of(client.get("/admin/"))


def test_anonymous_visitors_are_sent_to_the_login(client):
    assert client.get(URL).status_code == 302


@pytest.mark.parametrize("method", ["get", "post"])
def test_superuser_cannot_add_or_delete(root, make_record, method):
    """I1; FAULTS admin_readonly."""
    row = make_record()
    for url in (f"{URL}add/", f"{URL}{row.pk}/delete/"):
        response = getattr(root, method)(url, {"post": "yes"})
        assert response.status_code == 403, url
    assert Record.objects.filter(pk=row.pk).exists()


def test_superuser_cannot_change(root, make_record):
    """I1."""
    row = make_record(action="create")
    response = root.post(page_of(row), {"action": "delete", "outcome": "failure"})
    assert response.status_code == 403
    assert Record.objects.get(pk=row.pk).action == "create"


def test_superuser_has_no_actions(root, make_record):
    """FAULTS admin_readonly."""
    row = make_record()
    data = {"action": "delete_selected", "_selected_action": [str(row.pk)], "post": "yes"}
    root.post(URL, data)
    assert Record.objects.filter(pk=row.pk).exists()
    assert "delete_selected" not in text_of(root.get(URL))


def test_audited_objects_and_users_can_be_deleted_in_their_own_admin(root, store):
    """I1: nothing points from the log to them."""
    category = Category.objects.create(name="Lamps")
    Product.objects.create(name="Lamp", category=category)
    user = User.objects.create_user("leaver")
    with audit_log.acting(user):
        Category.objects.create(name="by the leaver")
    for url in (
        f"/admin/shop/category/{category.pk}/delete/",
        f"/admin/auth/user/{user.pk}/delete/",
    ):
        assert root.post(url, {"post": "yes"}).status_code == 302
    store()
    assert not Category.objects.filter(name="Lamps").exists()
    assert not User.objects.filter(username="leaver").exists()
    assert Record.objects.filter(action="delete", target_type="shop.category").count() == 1
    assert Record.objects.filter(action="create", actor_id=str(user.pk)).count() == 1


# What it costs


@pytest.mark.django_db(transaction=True)
def test_list_takes_the_same_queries_for_five_rows_and_for_fifty(store):
    """I4: every row has keys of its own here."""
    root = Client()
    root.force_login(User.objects.create_superuser("root"))

    def queries_for(count: int) -> list[str]:
        for n in range(count):
            user = User.objects.create_user(f"user{n}-of-{count}")
            with audit_log.acting(user):
                Person.objects.create(nickname=f"person {n} of {count}", notes="sealed")
        store()
        data_keys.forget()
        with CaptureQueriesContext(
            connection,
        ) as captured:
            response = root.get(f"{URL}?target_type=shop.person")
        assert f"person {count - 1} of {count}" in text_of(response)
        assert f"user{count - 1}-of-{count}" in text_of(response)
        return [query["sql"] for query in captured]

    few, many = queries_for(5), queries_for(50)
    assert len(many) == len(few) <= 10


def test_list_neither_counts_nor_skips_nor_collects_choices(root, store):
    for n in range(3):
        Category.objects.create(name=f"category {n}")
    store()
    root.get(URL)
    with CaptureQueriesContext(connection) as captured:
        root.get(f"{URL}?action=create&p=2")
        root.get(URL)
    read = [query["sql"] for query in captured if "audit_log_record" in query["sql"]]
    assert read
    for sql in read:
        assert not re.search(r"\b(COUNT|OFFSET|DISTINCT)\b", sql.upper()), sql
        assert "LIMIT" in sql or re.search(r"\Wid\W IN", sql), sql


def test_pages_end_at_a_bound_and_older_records_follow(root, make_record, monkeypatch):
    monkeypatch.setattr(paging, "LIMIT", 5)
    monkeypatch.setattr(RecordAdmin, "list_per_page", 2)
    newest = [str(make_record(timedelta(minutes=n)).pk) for n in range(8)]
    url = f"{URL}?action=update"
    first = root.get(url)
    assert "5+ records" in text_of(first)
    assert [ids_on(root.get(f"{url}&p={n}")) for n in (1, 2, 3)] == [
        newest[:2],
        newest[2:4],
        newest[4:5],
    ]
    older = root.get(first.context["cl"].older and URL + first.context["cl"].older)
    assert ids_on(older) == newest[5:7]
    assert "3 records" in text_of(older)


def test_page_beyond_the_last_is_the_last(root, make_record):
    row = make_record()
    assert ids_on(root.get(f"{URL}?action=update&p=99")) == [str(row.pk)]


# When


def test_default_window_is_bounded_and_says_so(root, make_record):
    recent, old = make_record(timedelta(days=89)), make_record(timedelta(days=91))
    response = root.get(URL)
    assert str(recent.pk) in ids_on(response)
    assert str(old.pk) not in ids_on(response)
    assert "Last 90 days" in re.sub("<[^>]*>", "", text_of(response).split("audit-window")[1])[:40]
    assert str(old.pk) in ids_on(root.get(f"{URL}?time=any"))


@pytest.mark.parametrize(
    ("period", "inside", "outside"),
    [
        ("15m", timedelta(minutes=14), timedelta(minutes=16)),
        ("1h", timedelta(minutes=59), timedelta(minutes=61)),
        ("24h", timedelta(hours=23), timedelta(hours=25)),
        ("7d", timedelta(days=6), timedelta(days=8)),
        ("30d", timedelta(days=29), timedelta(days=31)),
    ],
)
def test_period_holds_what_happened_in_it(root, make_record, period, inside, outside):
    kept = make_record(inside)
    make_record(outside)
    assert ids_on(root.get(f"{URL}?time={period}&action=update")) == [str(kept.pk)]


def test_period_is_a_range_of_ids(root):
    with CaptureQueriesContext(connection) as captured:
        root.get(f"{URL}?begin=2026-01-01T10:00&end=2026-01-02")
    (read,) = [q["sql"] for q in captured if re.search(r"FROM .audit_log_record\b", q["sql"])]
    where = read.partition("WHERE")[2]
    assert "occurred_at" not in where
    for moment in (datetime(2026, 1, 1, 10, tzinfo=UTC), datetime(2026, 1, 3, tzinfo=UTC)):
        # SQLite has UUIDs as 32 hex digits, PostgreSQL with dashes.
        assert first_id(moment).hex in where.replace("-", "")


def test_custom_period_is_in_the_time_zone_of_the_site(root, make_record):
    before, inside = make_record(timedelta(hours=3)), make_record(timedelta(hours=1))
    with timezone.override("Asia/Kolkata"):
        begin = timezone.localtime(datetime.now(UTC) - timedelta(hours=2))
        response = root.get(URL, {"begin": begin.strftime("%Y-%m-%dT%H:%M"), "action": "update"})
    assert ids_on(response) == [str(inside.pk)]
    assert str(before.pk) not in ids_on(response)


@pytest.mark.parametrize("begin", ["yesterday", "1066-10-14", "2026-13-01", "\0", "9" * 50])
def test_date_that_is_none_is_a_message(root, make_record, begin):
    make_record()
    response = root.get(URL, {"begin": begin, "action": "update"})
    assert response.status_code == 200
    assert "Enter dates as" in text_of(response)
    assert ids_on(response) == []


# Finding


def test_filters_narrow_the_list(root, make_record):
    row = make_record(
        action="payment.refunded",
        outcome="denied",
        actor_type="service",
        stream="special",
        target_type="shop.product",
        target_id="New York",
    )
    make_record()
    for query in (
        {"action": "payment.refunded"},
        {"outcome": "denied"},
        {"actor_type": "service"},
        {"stream": "special"},
        {"target_type": "shop.product"},
        {"target_type": "shop.product", "target_id": "New York"},
    ):
        assert ids_on(root.get(URL, query)) == [str(row.pk)], query
    assert ids_on(root.get(URL, {"target_type": "shop.product", "target_id": "York"})) == []


def test_filter_value_that_is_not_offered_is_shown_as_chosen(root):
    text = text_of(root.get(URL, {"action": "payment.refunded"}))
    assert re.search(r'class="selected">\s*<a [^>]*>payment.refunded</a>', text)


@pytest.mark.parametrize("name", ["action", "outcome", "stream", "target_type", "before"])
def test_filter_value_with_a_nul_finds_nothing(root, name):
    assert root.get(URL, {name: "\0"}).status_code == 200


@pytest.mark.parametrize("lookup", ["sealed_actor__contains", "salt__gt", "actor_token", "path"])
def test_free_lookups_are_refused(root, lookup):
    assert root.get(URL, {lookup: "x"}).status_code == 400


def test_search_finds_by_key_and_value(root, make_record):
    row = make_record(action="payment.refunded", tenant="acme")
    make_record()
    assert ids_on(root.get(URL, {"q": "action:payment.* tenant:acme"})) == [str(row.pk)]


def test_search_that_cannot_be_understood_is_a_message(root, make_record):
    make_record()
    for query in ("hello", "colour:red", "last:soon", "status:many", "ip:x"):
        response = root.get(URL, {"q": query})
        assert response.status_code == 200, query
        assert ids_on(response) == [], query
        assert len(list(response.context["messages"])) == 1, query


def test_search_for_a_time_or_a_request_looks_outside_of_the_default_window(root, make_record):
    row = make_record(timedelta(days=200), request_id="abc")
    assert ids_on(root.get(URL, {"q": "action:update"})) == []
    assert ids_on(root.get(URL, {"q": "request:abc"})) == [str(row.pk)]
    assert ids_on(root.get(URL, {"q": f"last:201d id:{row.pk}"})) == [str(row.pk)]


# What it shows


def test_list_shows_both_labels_and_links_to_the_actor_and_the_target(viewer, store):
    user = User.objects.create_user("ada")
    with audit_log.acting(user):
        category = Category.objects.create(name="Lamps")
    store()
    response = viewer.get(URL, {"target_type": "shop.category"})
    text = text_of(response)
    assert f'<a href="{URL}?q=actor_id%3A{user.pk}"><bdi>ada</bdi></a>' in text
    target = f"{URL}?target_type=shop.category&amp;target_id={category.pk}"
    assert f'<a href="{target}"><bdi>Lamps</bdi></a>' in text
    assert len(ids_on(viewer.get(target.replace("&amp;", "&")))) == 1


def test_action_is_a_phrase_with_the_names_of_the_fields(root, store):
    """I5."""
    product = Product.objects.create(name="Lamp")
    product.price, product.released_at = 5, timezone.now()
    product.save()
    store()
    assert "changed price, released at" in text_of(root.get(URL))


def test_times_are_local_and_exact_in_utc_on_hover(root, make_record):
    """I5."""
    row = make_record(occurred_at=datetime(2026, 1, 31, 20, 0, 0, 123456, tzinfo=UTC))
    with timezone.override("Asia/Kolkata"):
        text = text_of(root.get(URL, {"action": "update"}))
    assert ">2026-02-01 01:30:00</a>" in text
    assert 'title="2026-01-31 20:00:00.123456 UTC"' in text
    assert "Asia/Kolkata" in text
    assert row.occurred_at.tzinfo is UTC


def test_detail_shows_choices_and_times_as_people_read_them(root, store):
    """I5."""
    product = Product.objects.create(name="Lamp")
    product.status = "sale"
    product.released_at = datetime(2026, 1, 31, 20, tzinfo=UTC)
    product.save()
    store()
    with timezone.override("Asia/Kolkata"):
        text = text_of(root.get(page_of(the("update"))))
    assert "On sale" in text
    assert "2026-02-01 01:30:00" in text
    assert "Released at" in text


def test_detail_shows_the_other_records_of_the_request(root, make_record):
    row = make_record(request_id="r1", method="POST", path="/pay/", status=200)
    same, other = make_record(request_id="r1"), make_record(request_id="r2")
    response = root.get(page_of(row))
    assert ids_on(response) == [str(same.pk)]
    assert str(other.pk) not in text_of(response)
    assert "/pay/" in text_of(response)


def test_masked_value_is_shown_with_its_reason(root, store):
    Person.objects.create(nickname="ada", card_number="4111 1111 1111 1111", api_token="t0ken")
    store()
    text = text_of(root.get(page_of(the("create", target_type="shop.person"))))
    assert "**** **** **** 1111" in text
    assert "masked by rule name:" in text
    assert "4111 1111" not in text
    assert "t0ken" not in text


def test_record_that_does_not_exist_is_not_found(root):
    assert root.get(f"{URL}{'0' * 8}-0000-7000-8000-{'0' * 12}/change/").status_code == 404
    assert root.get(f"{URL}nonsense/change/").status_code == 404


# Sealed contents


@pytest.fixture
def secretive(store) -> Record:
    """A record with sealed contents."""
    with audit_log.acting(User.objects.create_user("ada", email="ada@example.com"), reason="call"):
        Person.objects.create(nickname="eve", notes="a sealed note")
    store()
    return the("create", target_type="shop.person")


def test_sealed_values_stay_closed_until_they_are_opened(opener, secretive):
    text = text_of(opener.get(page_of(secretive)))
    assert "a sealed note" not in text
    assert "ada@example.com" not in text
    assert re.search(r"Notes.*?<em class=\"audit-sealed\">sealed</em>", text, re.DOTALL)
    opened = text_of(opener.post(f"{URL}{secretive.pk}/open/"))
    assert "a sealed note" in opened
    assert "ada@example.com" in opened
    assert ">call<" in opened


def test_opening_is_recorded_with_its_reason(opener, secretive, store):
    opener.post(f"{URL}{secretive.pk}/open/", {"reason": "ticket 42"})
    store()
    row = the("audit_log.revealed")
    assert (row.stream, row.target_id) == ("audit_log", str(secretive.pk))
    assert row.actor_id == str(User.objects.get(username="opener").pk)
    assert audit_log.contents(row)["reason"] == "ticket 42"
    said = {"stream": "default", "sequence": secretive.sequence}
    assert audit_log.contents(row)["data"] == said


def test_opening_is_recorded_every_time(opener, secretive, store):
    for _ in range(2):
        opener.post(f"{URL}{secretive.pk}/open/")
    store()
    assert Record.objects.filter(action="audit_log.revealed").count() == 2


def test_opening_needs_its_own_permission_even_of_viewers(viewer, secretive, store):
    assert "Open sealed contents" not in text_of(viewer.get(page_of(secretive)))
    assert viewer.post(f"{URL}{secretive.pk}/open/").status_code == 403
    store()
    assert not Record.objects.filter(action="audit_log.revealed").exists()


def test_opening_takes_a_post(opener, secretive, store):
    assert opener.get(f"{URL}{secretive.pk}/open/").status_code == 405
    store()
    assert not Record.objects.filter(action="audit_log.revealed").exists()


def test_opening_takes_the_token_against_forgery(staff, secretive):
    client = Client(enforce_csrf_checks=True)
    client.force_login(staff("audit_log.view_record", "audit_log.view_sealed"))
    assert client.post(f"{URL}{secretive.pk}/open/").status_code == 403
    page = text_of(client.get(page_of(secretive)))
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.split("audit-open")[1])
    assert token is not None
    response = client.post(f"{URL}{secretive.pk}/open/", {"csrfmiddlewaretoken": token[1]})
    assert "a sealed note" in text_of(response)


def test_nothing_is_opened_while_recording_is_off(opener, secretive, settings):
    settings.AUDIT_LOG = {**settings.AUDIT_LOG, "ENABLED": False}
    assert opener.post(f"{URL}{secretive.pk}/open/").status_code == 403
    assert opener.get(page_of(secretive)).status_code == 200


def test_contents_whose_key_was_destroyed_say_so(opener, secretive):
    DataKey.objects.update(wrapped=None, destroyed_at=datetime(2026, 11, 30, tzinfo=UTC))
    data_keys.forget()
    text = text_of(opener.post(f"{URL}{secretive.pk}/open/"))
    assert "was destroyed" in text
    assert "erased on 2026-11-30" in text
    assert opener.get(URL).status_code == 200


# Redaction


@pytest.fixture
def redactor(staff, as_user):
    return as_user(staff("audit_log.view_record", "audit_log.redact_record"))


@pytest.fixture
def asked(store) -> Record:
    """A record with open contents."""
    audit_log.record("bank.asked", data={"amount": 4711})
    store()
    return the("bank.asked")


def test_contents_are_removed_on_record(redactor, asked, store):
    page = text_of(redactor.get(page_of(asked)))
    assert "4711" in page
    assert "Remove contents" in page
    response = redactor.post(f"{URL}{asked.pk}/redact/", {"reason": "a PIN"}, follow=True)
    text = text_of(response)
    assert "The contents were removed" in text
    assert "4711" not in text
    assert "Remove contents" not in text
    store()
    row = the("audit_log.redacted")
    assert row.target_id == str(asked.pk)
    assert audit_log.contents(row)["reason"] == "a PIN"


def test_redaction_needs_its_own_permission_and_a_reason(root, opener, redactor, asked, store):
    assert "Remove contents" not in text_of(opener.get(page_of(asked)))
    assert opener.post(f"{URL}{asked.pk}/redact/", {"reason": "x"}).status_code == 403
    assert redactor.get(f"{URL}{asked.pk}/redact/").status_code == 405
    response = redactor.post(f"{URL}{asked.pk}/redact/", {"reason": " "}, follow=True)
    assert "needs a reason" in text_of(response)
    assert Record.objects.get(pk=asked.pk).data
    store()
    bookkeeping = Record.objects.filter(stream="audit_log").first()
    assert bookkeeping is not None
    response = root.post(f"{URL}{bookkeeping.pk}/redact/", {"reason": "x"}, follow=True)
    assert "about itself" in text_of(response)


# Looking is recorded


def test_viewing_the_list_and_a_record_is_recorded_once_a_minute(viewer, make_record, store):
    row = make_record()
    for _ in range(3):
        viewer.get(URL, {"q": "action:update"})
        viewer.get(page_of(row))
    store()
    views = Record.objects.filter(action="audit_log.viewed").order_by("id")
    found = [audit_log.contents(view)["data"] for view in views]
    assert found == [
        {"what": "records", "query": "q=action%3Aupdate", "results": 1},
        {"what": "record"},
    ]
    assert views[1].target_id == str(row.pk)
    assert {view.stream for view in views} == {"audit_log"}


def test_another_search_and_another_person_are_recorded_anew(viewer, opener, store):
    viewer.get(URL, {"q": "action:update"})
    viewer.get(URL, {"q": "action:delete"})
    opener.get(URL, {"q": "action:update"})
    store()
    assert Record.objects.filter(action="audit_log.viewed").count() == 3


def test_looking_at_records_of_looking_ends(viewer, store):
    viewer.get(URL)
    store()
    row = the("audit_log.viewed")
    with testing.capture_events() as events:
        viewer.get(page_of(row))
    assert [event.action for event in events if event.action != "request"] == []


# Whether it is true


def test_detail_says_whether_the_leaf_is_intact(root, store):
    Category.objects.create(name="Lamps")
    store()
    row = the("create", target_type="shop.category")
    assert ">intact<" in text_of(root.get(page_of(row)))
    assert "not yet by a checkpoint" in text_of(root.get(page_of(row)))
    checkpoints.sign_all()
    assert "by the checkpoint over" in text_of(root.get(page_of(row)))
    with connection.cursor() as cursor:
        cursor.execute("UPDATE audit_log_record SET action = 'update' WHERE action = 'create'")
    assert ">altered<" in text_of(root.get(page_of(row)))


@pytest.mark.parametrize(
    "columns",
    [
        {"changes": [1], "changed_fields": {"a": 1}, "redactions": "x", "data": "y"},
        {"changes": {"name": "no pair"}, "redactions": [1, {"path": 1}], "target_type": "a.b.c"},
        {"sealed_actor": b"garbage", "sealed_data": b"", "version": 9, "outcome": "odd"},
        {"action": "m2m.add", "data": {"field": None}, "actor_type": "??", "target_type": "none"},
    ],
)
def test_record_with_impossible_columns_is_shown_all_the_same(root, make_record, columns):
    row = make_record(**columns)
    assert root.get(URL).status_code == 200
    assert root.get(page_of(row)).status_code == 200
    assert root.post(f"{URL}{row.pk}/open/").status_code == 200


# Hostile values

SCRIPT = "<script>alert(1)</script>"
LINK = "javascript:alert(1)"
BIDI = "evil\u202egnp.exe"


def test_hostile_values_are_escaped_everywhere(root, store):
    """I2; FAULTS xss_diff."""
    with audit_log.acting(User.objects.create_user("ada"), reason=SCRIPT):
        category = Category.objects.create(name=SCRIPT)
        product = Product.objects.create(name=f"</td>{SCRIPT}{BIDI}", attributes={SCRIPT: LINK})
        product.description = f"{SCRIPT}{BIDI}"
        product.save()
        audit_log.record("shop.odd", target=product, data={SCRIPT: [SCRIPT], "link": LINK})
        key = product.pk
        product.delete()
    store()
    urls = [
        URL,
        f"/admin/shop/product/{key}/history/",
        f"/admin/shop/category/{category.pk}/history/",
    ]
    pages = [text_of(root.get(url)) for url in urls]
    for row in Record.objects.all():
        pages.append(text_of(root.get(page_of(row))))
        pages.append(text_of(root.post(f"{URL}{row.pk}/open/")))
    for text in pages:
        assert SCRIPT not in text
        assert "</td><script" not in text
        assert not re.search(r'(href|src|action)="\s*javascript:', text)
        assert "\u202e" not in text
    assert "evil\\u202egnp.exe" in "".join(pages)


def test_hostile_columns_are_escaped(root, make_record):
    """I2; also names of fields, actions and paths."""
    row = make_record(
        action=SCRIPT,
        outcome="<b>odd",
        actor_type="<b>odd",
        actor_id=SCRIPT,
        target_type=f"shop.{SCRIPT}",
        target_id=LINK,
        request_id="r1",
        method="<b>GET",
        path=f"{SCRIPT}{BIDI}",
        route=SCRIPT,
        stream="<b>odd",
        changed_fields=[SCRIPT],
        changes={SCRIPT: [SCRIPT, LINK], "<b>odd": [BIDI, None]},
        data={SCRIPT: {SCRIPT: SCRIPT}},
        redactions=[{"path": f"changes.{SCRIPT}", "rule": SCRIPT}, {"path": SCRIPT, "rule": "x"}],
    )
    make_record(request_id="r1", path=SCRIPT)
    filters = {"action": SCRIPT, "target_type": f"shop.{SCRIPT}", "target_id": LINK, "q": SCRIPT}
    for response in (
        root.get(URL),
        root.get(URL, filters),
        root.get(URL, {"begin": '"><script>', "stream": "<b>odd"}),
        root.get(page_of(row)),
        root.post(f"{URL}{row.pk}/open/", {"reason": SCRIPT}),
        root.get(f"{URL}{row.pk}/history/"),
    ):
        text = text_of(response)
        assert response.status_code == 200
        assert SCRIPT not in text
        assert "<b>odd" not in text
        assert '"><script>' not in text
        assert "\u202e" not in text
        assert not re.search(r'(href|src|action)="\s*javascript:', text)
