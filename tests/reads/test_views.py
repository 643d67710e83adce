"""The mixin and the decorator: which answers show an object, and which one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import clear_url_caches

import audit_log
from audit_log.events import Event
from audit_log.models import Outbox
from tests.reads import urls
from tests.shop.models import Category, Person, Product, Review, Unlisted

Views = Callable[[], list[Event]]


@pytest.fixture
def ann(lamp: Product) -> Person:
    return Person.objects.create(nickname="ann")


def seen(views: list[Event]) -> list[tuple[str | None, str | None]]:
    return [(e.target.type, e.target.id) for e in views if e.target is not None]


# --- class-based views of Django ---


@pytest.mark.parametrize(
    "path", ["detail", "own-object", "edit", "async-detail", "async-object", "retrieve"]
)
def test_class_that_shows_an_object_records_it(
    client: Client, lamp: Product, views: Views, path: str
):
    """G2"""
    assert client.get(f"/{path}/{lamp.pk}/").status_code == 200
    assert seen(views()) == [("shop.product", str(lamp.pk))]
    [event] = views()
    assert (event.source, event.changes) == ("request", None)


@pytest.mark.parametrize("method", ["head", "options"])
@pytest.mark.parametrize("path", ["detail", "edit", "retrieve", "async-detail"])
def test_answer_without_the_object_is_no_view(
    client: Client, lamp: Product, views: Views, path: str, method: str
):
    getattr(client, method)(f"/{path}/{lamp.pk}/")
    assert views() == []


@pytest.mark.parametrize("path", ["detail", "edit", "retrieve"])
def test_object_that_is_not_there_is_no_view(
    client: Client, lamp: Product, views: Views, path: str
):
    assert client.get(f"/{path}/{lamp.pk + 1}/").status_code == 404
    assert views() == []


def test_page_that_cannot_be_rendered_is_no_view(client: Client, lamp: Product, views: Views):
    client.raise_request_exception = False
    assert client.get(f"/broken-template/{lamp.pk}/").status_code == 500
    assert views() == []


def test_form_that_comes_back_with_errors_shows_the_object(
    client: Client, lamp: Product, views: Views, events: list[Event]
):
    assert client.post(f"/edit/{lamp.pk}/", {"name": ""}).status_code == 200
    assert len(views()) == 1
    assert client.post(f"/edit/{lamp.pk}/", {"name": "torch"}).status_code == 302
    assert len(views()) == 1
    assert "update" in {event.action for event in events}


def test_list_is_one_event_of_the_page_that_was_shown(client: Client, lamp: Product, views: Views):
    rows = [lamp, *(Product.objects.create(name=str(n)) for n in range(2))]
    with CaptureQueriesContext(connection) as queries:
        client.get("/list/")
    [event] = views()
    assert event.affected == 2
    assert event.data == {"bulk": {"count": 2, "keys": [f"{rows[0].pk}-{rows[1].pk}"]}}
    assert len(queries) == 2  # the number of pages, the rows
    client.get("/list/", {"page": 2})
    assert views()[-1].data == {"bulk": {"count": 1, "keys": [str(rows[2].pk)]}}
    assert client.get("/list/", {"page": 3}).status_code == 404
    assert len(views()) == 2


def test_rows_that_are_no_objects_have_a_number(client: Client, lamp: Product, views: Views):
    client.get("/names/")
    [event] = views()
    assert (event.affected, event.data) == (1, {"bulk": {"count": 1}})


def test_rows_that_nobody_loaded_are_not_loaded_for_us(client: Client, lamp: Product, views: Views):
    """Their template may have shown them another way."""
    with CaptureQueriesContext(connection) as queries:
        client.get("/count/")
    assert len(queries) == 1
    [event] = views()
    assert (event.affected, event.data) == (None, {"bulk": {}})


def test_empty_list_is_no_view(client: Client, lamp: Product, views: Views):
    Product.objects.all().delete()
    client.get("/list/")
    client.get("/names/")
    assert views() == []


def test_view_without_the_middleware_is_recorded_too(lamp: Product, views: Views, settings: Any):
    settings.MIDDLEWARE = settings.MIDDLEWARE[1:]
    Client().get(f"/detail/{lamp.pk}/")
    [event] = views()
    assert event.request is None


# --- views of rest_framework ---


def test_retrieve_is_one_event(client: Client, lamp: Product, views: Views):
    """G2"""
    with CaptureQueriesContext(connection) as queries:
        assert client.get(f"/api/products/{lamp.pk}/").json()["name"] == "lamp"
    assert seen(views()) == [("shop.product", str(lamp.pk))]
    assert len(queries) == 1


def test_list_of_a_view_set_is_one_event(client: Client, lamp: Product, views: Views):
    """G2"""
    other = Product.objects.create(name="other")
    with CaptureQueriesContext(connection) as queries:
        assert len(client.get("/api/products/").json()) == 2
    [event] = views()
    assert event.target is not None
    assert (event.target.id, event.affected) == (None, 2)
    assert event.data == {"bulk": {"count": 2, "keys": [f"{lamp.pk}-{other.pk}"]}}
    assert len(queries) == 1


def test_browsable_page_is_one_event_as_well(client: Client, lamp: Product, views: Views):
    assert b"lamp" in client.get(f"/api/products/{lamp.pk}/", HTTP_ACCEPT="text/html").content
    assert b"lamp" in client.get("/api/products/", HTTP_ACCEPT="text/html").content
    assert [event.affected for event in views()] == [None, 1]


@pytest.mark.parametrize("query", ["?denied", ""])
def test_refused_or_missing_object_is_no_view(
    client: Client, lamp: Product, views: Views, query: str
):
    """G4: 403 and 404."""
    pk = lamp.pk if query else lamp.pk + 1
    assert client.get(f"/api/products/{pk}/{query}").status_code in {403, 404}
    assert views() == []


def test_update_that_shows_the_object_is_a_view_too(
    client: Client, lamp: Product, views: Views, events: list[Event]
):
    """A PATCH that changes nothing would be a way to read unseen."""
    url = f"/api/products/{lamp.pk}/"
    assert client.patch(url, {}, content_type="application/json").json()["name"] == "lamp"
    assert len(views()) == 1
    assert client.delete(url).status_code == 204
    assert len(views()) == 1


def test_creation_and_answers_without_contents_are_no_view(
    client: Client, lamp: Product, views: Views
):
    assert client.post("/api/products/", {"name": "new"}).status_code == 201
    assert client.post(f"/api/products/{lamp.pk}/touch/").status_code == 202
    assert views() == []


def test_action_that_lists_what_belongs_to_an_object_shows_both(
    client: Client, lamp: Product, views: Views
):
    review = Review.objects.create(product=lamp, text="bright")
    client.get(f"/api/products/{lamp.pk}/reviews/")
    first, second = views()
    assert seen([first, second]) == [("shop.product", str(lamp.pk)), ("shop.review", None)]
    assert second.data == {"bulk": {"count": 1, "keys": [str(review.pk)]}}


def test_rows_that_a_manager_stands_for_have_no_number(client: Client, lamp: Product, views: Views):
    assert len(client.get("/api/products/managed/").json()) == 1
    [event] = views()
    assert (event.affected, event.data) == (None, {"bulk": {}})


def test_view_set_keeps_the_methods_that_it_does_not_have(client: Client, lamp: Product):
    """rest_framework asks its views what they can by `hasattr`."""

    class Nothing(audit_log.ViewedMixin):
        def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            return super().dispatch(request, *args, **kwargs)

    assert not hasattr(Nothing(), "get_serializer")
    assert not hasattr(Nothing(), "get_object")
    category = Category.objects.get()
    assert client.get(f"/api/categories/{category.pk}/").json() == {"name": "lights"}


def test_mixin_and_decorator_import_no_rest_framework():
    code = (
        "import sys, django; from django.conf import settings;"
        "settings.configure(INSTALLED_APPS=['audit_log'], SECRET_KEY='x'); django.setup();"
        "import audit_log; audit_log.ViewedMixin, audit_log.views_of;"
        "found = ('rest_framework', 'django.contrib.admin');"
        "print([name for name in sys.modules if name.startswith(found)])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300
    )
    assert result.stdout.strip() == "[]", result.stderr


# --- the decorator ---


def test_decorated_view_records_the_object_of_its_url(client: Client, ann: Person, views: Views):
    """G2"""
    with CaptureQueriesContext(connection) as queries:
        client.get(f"/person/{ann.pk}/")
    [event] = views()
    assert seen([event]) == [("shop.person", str(ann.pk))]
    assert event.target is not None
    assert (event.target.label, event.subject) == ("ann", f"shop.person:{ann.pk}")
    assert len(queries) == 0


@pytest.mark.parametrize("status", [204, 302, 400, 403, 404, 410])
def test_decorated_view_that_shows_nothing_records_nothing(
    client: Client, ann: Person, views: Views, status: int
):
    assert client.get(f"/person/{ann.pk}/", {"status": status}).status_code == status
    assert views() == []


def test_decorator_takes_other_fields_arguments_and_kinds_of_views(
    client: Client, ann: Person, views: Views
):
    client.get("/person-by-name/ann/")
    client.get(f"/person-by-api/{ann.pk}/")
    assert seen(views()) == [("shop.person", str(ann.pk))] * 2


@pytest.mark.django_db(transaction=True)
def test_decorated_async_view_records_under_an_async_server(ann: Person, views: Views):
    before = Outbox.objects.count()
    async_to_sync(AsyncClient().get)("/person-by-name/ann/")
    assert seen(views()) == [("shop.person", str(ann.pk))]
    assert Outbox.objects.count() > before


def test_decorator_of_a_model_that_is_not_audited_does_nothing(
    client: Client, lamp: Product, views: Views
):
    row = Unlisted.objects.create(name="x")
    client.get(f"/unlisted/{row.pk}/")
    assert views() == []


def test_decorator_says_which_argument_it_misses(client: Client, ann: Person):
    with pytest.raises(TypeError, match=r"views_of\(Person\) finds no argument pk"):
        client.get(f"/misnamed/{ann.pk}/")


def test_object_that_is_not_there_after_all_is_no_view(client: Client, ann: Person, views: Views):
    assert client.get(f"/person/{ann.pk + 1}/").status_code == 200
    assert views() == []


def test_file_that_is_sent_is_a_view(client: Client, ann: Person, views: Views):
    """G5"""
    response: Any = client.get(f"/document/{ann.pk}/")
    assert len(views()) == 1
    assert b"".join(response.streaming_content) == b"scan"


def test_answer_not_modified_is_no_view(client: Client, ann: Person, views: Views):
    """The browser shows what it was given before."""
    client.get(f"/unchanged/{ann.pk}/")
    response = client.get(f"/unchanged/{ann.pk}/", HTTP_IF_NONE_MATCH='"same"')
    assert response.status_code == 304
    assert len(views()) == 1


def test_decorated_view_keeps_its_name_and_attributes():
    assert urls.person.__name__ == "person"
    assert urls.person_by_api.csrf_exempt
    request = RequestFactory().get("/")
    response = audit_log.views_of(Unlisted)(lambda request, pk: HttpResponse("ok"))(request, pk=1)
    assert response.content == b"ok"
    clear_url_caches()
